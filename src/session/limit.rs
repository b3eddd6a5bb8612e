//! The moment at which a session or a forward must end, whatever it is doing.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::exit::Failure;
use super::{Caller, Sessions};
use crate::auth::Method;
use crate::authorize::Grant;

/// The first of the ends that a grant and a credential set; it may be none.
pub(super) struct Limit {
    first: Option<(Instant, Failure)>,
}

impl Sessions {
    /// The limit from now on.
    pub(super) fn limit(&self, caller: &Caller, grant: &Grant) -> Limit {
        let granted = grant.obligations().max_duration.map(|duration| {
            let line = "this session's granted time is over: log in again if you need more";
            (duration, Failure::new("duration_over", line))
        });
        let expiry = self.expiry(caller).map(|left| (left, expired(caller)));
        let first = [granted, expiry].into_iter().flatten().min_by_key(|(left, _)| *left);
        Limit { first: first.map(|(left, failure)| (Instant::now() + left, failure)) }
    }

    /// Nothing begins on a credential whose end is that of its sessions.
    pub(super) fn refuse_expired(&self, caller: &Caller) -> Result<(), Failure> {
        if self.expiry(caller).is_some_and(|left| left.is_zero()) { Err(expired(caller)) } else { Ok(()) }
    }

    /// What is left of the credential, where its end is that of its sessions.
    fn expiry(&self, caller: &Caller) -> Option<Duration> {
        let until = caller.identity.session_until()?;
        // A time that has passed is negative, which no Duration is.
        Some(Duration::try_from(Timestamp::now().duration_until(until)).unwrap_or_default())
    }
}

impl Limit {
    pub async fn reached(self) -> Failure {
        match self.first {
            Some((at, failure)) => {
                tokio::time::sleep_until(at).await;
                failure
            }
            None => std::future::pending().await,
        }
    }
}

fn expired(caller: &Caller) -> Failure {
    let line = match caller.identity.method() {
        Method::Certificate => "your certificate has ended, and this session with it: get a new one and log in again",
        _ => "your login has ended, and this session with it: log in again",
    };
    Failure::new("credential_expired", line)
}
