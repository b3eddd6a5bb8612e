//! May they: one question for each channel, one answer, and the `Grant` that only a yes can make.
//!
//! Several backends sit behind `Authorizer`; the `Gate` around it adds the deadline, the audit event and *fail
//! closed*: an authorizer that fails, is late or cannot be recorded is a no. Denied, unavailable and broken are three
//! things, and stay three in the audit trail.

use futures_util::future::BoxFuture;
use tokio::sync::watch;

mod access_review;
pub mod answer;
mod backends;
mod breaker;
pub mod check;
mod combined;
mod gate;
mod guarded;
mod http;
mod namespaces;
mod oathkeeper;
mod obligations;
mod opa;
pub mod policy;
mod query;
mod rego;
pub mod template;
mod webhook;

pub use access_review::Reviewer;
pub use backends::{SetupError, open};
pub use combined::Combined;
pub use gate::{Asking, Changes, Gate, Grant, Looking, NOT_OPEN, Refusal, SFTP, Still};
pub use obligations::Obligations;
pub use query::{
    Action, ActionKind, FileAccess, Query, QueryDestination, QueryProfile, QuerySource, QueryTarget, QueryUser,
};

/// A list's part, for an authorizer of which nothing is known.
const AT_ONCE: usize = 50;

/// One source of decisions.
pub trait Authorizer: Send + Sync {
    fn decide<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Decision, Unavailable>>;

    /// The answers to several questions of one person, in their order.
    fn decide_all<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Result<Vec<Decision>, Unavailable>> {
        Box::pin(async move {
            let mut decisions = Vec::with_capacity(queries.len());
            for query in queries {
                decisions.push(self.decide(query).await?);
            }
            Ok(decisions)
        })
    }

    /// How many questions it answers well at once, by `decide_all`.
    fn at_once(&self) -> usize {
        AT_ONCE
    }

    /// Counters that move when its answers may have changed. None where that can only be known by asking.
    fn changes(&self) -> Vec<watch::Receiver<u64>> {
        Vec::new()
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub allow: bool,
    /// For the audit trail and `porthole check`: which rule decided, or why none did.
    pub reason: String,
    pub obligations: Obligations,
}

/// A backend that could not answer; never a yes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

impl Decision {
    /// A no, and why.
    pub fn denied(reason: impl Into<String>) -> Decision {
        Decision { allow: false, reason: reason.into(), obligations: Obligations::default() }
    }
}
