//! From the configuration to the authorizers that are asked.

use super::Authorizer;
use super::access_review::{AccessReview, Reviewer};
use super::combined::Combined;
use super::guarded::Guarded;
use super::policy::{PolicyError, PolicyFile};
use crate::config::authorize::POLICY;
use crate::config::{self, Config};

/// Authorizers that cannot be asked as they are configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("authorizers.{name}: {problem}")]
    Authorizer { name: String, problem: String },
}

/// Prepares everybody whom `authorize.ask` names; asks nobody yet. Needs a tokio runtime, and a `reviewer` where one of them
/// is the cluster itself.
pub fn open(config: &Config, reviewer: Option<&Reviewer>) -> Result<Combined, SetupError> {
    let parts = config.authorize.ask.iter().map(|name| {
        let part: Box<dyn Authorizer> = match (name.as_str(), config.authorizers.get(name)) {
            (POLICY, _) => Box::new(PolicyFile::open(&config.authorize.policy_file)?),
            (_, Some(authorizer)) => {
                one(authorizer, reviewer).map_err(|problem| SetupError::Authorizer { name: name.clone(), problem })?
            }
            (_, None) => {
                let problem = "there is no such table".to_owned();
                return Err(SetupError::Authorizer { name: name.clone(), problem });
            }
        };
        Ok((name.clone(), part))
    });
    Ok(Combined::new(parts.collect::<Result<_, _>>()?, config.authorize.combine))
}

/// One of `[authorizers]`; the error says what is wrong with it and what would be right.
fn one(authorizer: &config::Authorizer, reviewer: Option<&Reviewer>) -> Result<Box<dyn Authorizer>, String> {
    match authorizer {
        config::Authorizer::AccessReview(review) => {
            let reviewer = reviewer.ok_or_else(|| "the cluster can only be asked by `porthole serve`".to_owned())?;
            Ok(Box::new(Guarded::new(AccessReview::new(review, reviewer.clone())?, &review.limits)))
        }
        _ => Err("only the type access-review is offered yet".to_owned()),
    }
}
