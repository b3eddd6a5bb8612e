//! Several authorizers as one: each of them must allow, or the first that gives an answer decides.
//!
//! Guards: silence is never a yes. Where all must allow, one that cannot answer is a no of the whole; where the first
//! answer decides, only an authorizer that could not answer is passed over, never one that said no.

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::watch;

use super::{Authorizer, Decision, Query, Unavailable};
use crate::config::authorize::Combine;

/// Authorizers by name, in the order in which they are asked.
pub struct Combined {
    parts: Vec<(String, Box<dyn Authorizer>)>,
    combine: Combine,
}

impl Combined {
    /// `parts` must not be empty: nobody to ask is nobody to say yes.
    pub fn new(parts: Vec<(String, Box<dyn Authorizer>)>, combine: Combine) -> Combined {
        Combined { parts, combine }
    }

    /// One answer for each query.
    async fn ask(&self, queries: &[Query]) -> Result<Vec<Decision>, Unavailable> {
        match self.combine {
            Combine::All => self.all(queries).await,
            Combine::First => self.first(queries).await,
        }
    }

    async fn all(&self, queries: &[Query]) -> Result<Vec<Decision>, Unavailable> {
        let asked = self.parts.iter().map(|(name, part)| async move { named(name, put(part.as_ref(), queries).await) });
        let answers: Vec<_> = join_all(asked).await;
        // A question that somebody denies is denied, whatever the others would have said.
        let denied = |index: usize| {
            let mut all = answers.iter().flatten().filter_map(|decisions| decisions.get(index));
            all.find(|decision| !decision.allow).cloned()
        };
        let missing = answers.iter().find_map(|answer| answer.as_ref().err());
        let merged = (0..queries.len()).map(|index| match (denied(index), missing) {
            (Some(no), _) => Ok(no),
            (None, Some(missing)) => Err(missing.clone()),
            (None, None) => {
                let yeses = answers.iter().flatten().filter_map(|decisions| decisions.get(index)).cloned();
                Ok(yeses.reduce(both).unwrap_or_else(|| Decision::denied("nobody was asked")))
            }
        });
        merged.collect()
    }

    async fn first(&self, queries: &[Query]) -> Result<Vec<Decision>, Unavailable> {
        let mut silent = Vec::new();
        for (name, part) in &self.parts {
            match named(name, put(part.as_ref(), queries).await) {
                Ok(decisions) => return Ok(decisions),
                Err(Unavailable(why)) => silent.push(why),
            }
        }
        Err(Unavailable(silent.join("; ")))
    }
}

impl Authorizer for Combined {
    fn decide<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Decision, Unavailable>> {
        Box::pin(async move {
            let answers = self.ask(std::slice::from_ref(query)).await?;
            answers.into_iter().next().ok_or_else(|| Unavailable("nobody was asked".to_owned()))
        })
    }

    fn decide_all<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Result<Vec<Decision>, Unavailable>> {
        Box::pin(self.ask(queries))
    }

    fn at_once(&self) -> usize {
        self.parts.iter().map(|(_, part)| part.at_once()).min().unwrap_or(1)
    }

    fn changes(&self) -> Vec<watch::Receiver<u64>> {
        self.parts.iter().flat_map(|(_, part)| part.changes()).collect()
    }
}

/// Puts the questions to one of them; an answer to each, or none at all.
async fn put(part: &dyn Authorizer, queries: &[Query]) -> Result<Vec<Decision>, Unavailable> {
    let answers = match queries {
        [query] => vec![part.decide(query).await?],
        queries => part.decide_all(queries).await?,
    };
    match answers.len() == queries.len() {
        true => Ok(answers),
        false => Err(Unavailable(format!("{} answers to {} questions", answers.len(), queries.len()))),
    }
}

/// Its name before what it said, so that the trail tells who decided.
fn named(name: &str, answer: Result<Vec<Decision>, Unavailable>) -> Result<Vec<Decision>, Unavailable> {
    let named = |decision: Decision| Decision { reason: format!("{name}: {}", decision.reason), ..decision };
    match answer {
        Ok(decisions) => Ok(decisions.into_iter().map(named).collect()),
        Err(Unavailable(why)) => Err(Unavailable(format!("{name}: {why}"))),
    }
}

fn both(one: Decision, other: Decision) -> Decision {
    Decision {
        allow: one.allow && other.allow,
        reason: format!("{}; {}", one.reason, other.reason),
        obligations: one.obligations.and(other.obligations),
    }
}
