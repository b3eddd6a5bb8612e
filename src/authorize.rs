//! May they: one question for each channel, one answer, and the `Grant` that only a yes can make.
//!
//! Several backends sit behind `Authorizer`; the `Gate` around it adds the deadline, the audit event and *fail
//! closed*: an authorizer that fails, is late or cannot be recorded is a no. Denied, unavailable and broken are three
//! things, and stay three in the audit trail.

use std::time::Duration;

use futures_util::future::BoxFuture;

pub mod check;
mod gate;
pub mod policy;
mod query;

pub use gate::{Asking, Gate, Grant, NOT_OPEN, Refusal};
pub use query::{Action, ActionKind, Query, QueryDestination, QueryProfile, QuerySource, QueryTarget, QueryUser};

/// One source of decisions.
pub trait Authorizer: Send + Sync {
    fn decide<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Decision, Unavailable>>;
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub allow: bool,
    /// For the audit trail and `porthole check`: which rule decided, or why none did.
    pub reason: String,
    pub obligations: Obligations,
}

/// What a yes asks for in return.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obligations {
    /// The session ends after this time.
    pub max_duration: Option<Duration>,
}

/// A backend that could not answer; never a yes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);
