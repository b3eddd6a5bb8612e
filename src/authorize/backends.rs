//! From the configuration to the authorizers that are asked.

use super::Authorizer;
use super::access_review::{AccessReview, Reviewer};
use super::combined::Combined;
use super::guarded::{Backend, Guarded};
use super::http::Unusable;
use super::namespaces::Namespaces;
use super::oathkeeper::Oathkeeper;
use super::opa::Opa;
use super::policy::{PolicyError, PolicyFile};
use super::rego::Rego;
use super::webhook::Webhook;
use crate::config::authorize::{Limits, POLICY};
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
    let opened: Result<Box<dyn Authorizer>, Unusable> = match authorizer {
        config::Authorizer::Opa(opa) => guarded(Opa::new(opa), &opa.limits),
        config::Authorizer::Rego(rego) => Rego::new(rego).map(|rego| Box::new(rego) as _),
        config::Authorizer::Oathkeeper(oathkeeper) => guarded(Oathkeeper::new(oathkeeper), &oathkeeper.limits),
        config::Authorizer::Namespaces(namespaces) => guarded(Namespaces::new(namespaces), &namespaces.limits),
        config::Authorizer::Webhook(webhook) => guarded(Webhook::new(webhook), &webhook.limits),
        config::Authorizer::AccessReview(review) => {
            let reviewer = reviewer.ok_or_else(|| "the cluster can only be asked by `porthole serve`".to_owned())?;
            guarded(AccessReview::new(review, reviewer.clone()).map_err(Unusable), &review.limits)
        }
    };
    opened.map_err(|Unusable(problem)| problem)
}

fn guarded<B: Backend>(backend: Result<B, Unusable>, limits: &Limits) -> Result<Box<dyn Authorizer>, Unusable> {
    Ok(Box::new(Guarded::new(backend?, limits)))
}
