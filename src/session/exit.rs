//! How a session ends, as its client learns it.
//!
//! A program's own status goes through as it is. Everything that is Porthole's own doing (a refusal, a failure, a
//! connection lost) is one line on stderr and status 254: 255 stays ssh's own, and a lost process is never 0.

use std::fmt;

use super::plain::plain;
use crate::audit::SessionId;
use crate::auth::standing::Withdrawn;

/// The exit status of Porthole's own refusals and failures.
pub const FAILURE_STATUS: u32 = 254;

/// The end of a session.
#[derive(Debug)]
pub enum Exit {
    /// The program's own status.
    Status(u32),
    /// Porthole ended it, or never began.
    Failed(Failure),
    /// The client went first; nobody is left to tell.
    ClientLeft,
}

/// Why Porthole refused or gave up.
#[derive(Debug, Clone)]
pub struct Failure {
    /// A stable word, for the audit trail.
    pub code: &'static str,
    /// For the person: what happened and what to do, lower case, no full stop.
    pub person: String,
    /// For the operator; may be longer and may name what the person must not learn.
    pub operator: String,
}

impl Failure {
    pub fn new(code: &'static str, person: impl Into<String>) -> Failure {
        let person = person.into();
        Failure { code, operator: person.clone(), person }
    }

    /// The one line that the client sees.
    pub fn line(&self, session: &SessionId) -> String {
        format!("porthole: {} (session {session})", plain(&self.person))
    }
}

impl From<Withdrawn> for Failure {
    fn from(withdrawn: Withdrawn) -> Failure {
        let Withdrawn { code, person, operator } = withdrawn;
        Failure { code, person: person.to_owned(), operator }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.operator)
    }
}
