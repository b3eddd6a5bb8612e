//! How long a session or a forward may go on, whatever it is doing: to the end that its grant and its credential set, and
//! only while the grant holds.
//!
//! What was granted is asked about again: every so often, and at once when the answers may have changed. A no ends it;
//! where nobody can say, it goes on for a while and ends then. The terms of the last answer are those that count.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::exit::Failure;
use super::{Caller, Sessions};
use crate::audit::{Event, SessionId};
use crate::auth::Method;
use crate::authorize::{Action, Changes, Grant, Obligations, Still};

/// Between tries while nobody can say: soon after an authorizer is back, its word counts again.
const RETRY: Duration = Duration::from_secs(5);

/// The time of what was granted.
pub(super) struct Tenure {
    started: Instant,
    /// The end of the credential, where that ends its sessions.
    expiry: Option<Instant>,
    changes: Changes,
}

impl Sessions {
    /// Begins now. `changes` are those since before the question was asked.
    pub(super) fn tenure(&self, caller: &Caller, changes: Changes) -> Tenure {
        let started = Instant::now();
        Tenure { started, expiry: self.expiry(caller).and_then(|left| started.checked_add(left)), changes }
    }

    /// Returns when the credential ends, where that ends what rests on it alone.
    pub(super) async fn credential_over(&self, caller: &Caller) -> Failure {
        match self.expiry(caller) {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
        expired(caller)
    }

    /// Nothing begins on a credential that is over for it, though its connection stands.
    pub(super) fn refuse_expired(&self, caller: &Caller) -> Result<(), Failure> {
        let over = caller.identity.begins_until().is_some_and(|until| until <= Timestamp::now());
        if over { Err(expired(caller)) } else { Ok(()) }
    }

    /// What is left of the credential, where its end is that of its sessions.
    fn expiry(&self, caller: &Caller) -> Option<Duration> {
        let until = caller.identity.session_until()?;
        // A time that has passed is negative, which no Duration is.
        Some(Duration::try_from(Timestamp::now().duration_until(until)).unwrap_or_default())
    }
}

impl Tenure {
    /// Returns when it is over, and why; a withdrawn grant is in the audit trail then.
    pub(super) async fn over(
        mut self,
        sessions: &Sessions,
        caller: &Caller,
        session: &SessionId,
        grant: &Grant,
    ) -> Failure {
        let (interval, grace) = (sessions.recheck_interval, sessions.recheck_grace);
        let mut end = self.end(grant.obligations());
        let mut unknown_since: Option<Instant> = None;
        loop {
            let again = match unknown_since {
                None => Instant::now() + interval,
                Some(since) => (since + grace).min(Instant::now() + RETRY.min(interval)),
            };
            let first = [end, self.expiry].into_iter().flatten().min();
            tokio::select! {
                () = tokio::time::sleep_until(first.map_or(again, |first| first.min(again))) => {}
                () = self.changes.next() => {}
            }
            let now = Instant::now();
            if self.expiry.is_some_and(|at| now >= at) {
                return expired(caller);
            }
            if end.is_some_and(|at| now >= at) {
                return duration_over();
            }
            let target = sessions.cluster.as_it_is(grant.target());
            let failure = match sessions.gate.still(grant, &target).await {
                Still::Granted(terms) => match stricter(grant, &terms) {
                    Some(why) => no_longer_allowed(why.to_owned()),
                    None => {
                        (end, unknown_since) = (self.end(&terms), None);
                        continue;
                    }
                },
                Still::Denied { reason } => no_longer_allowed(reason),
                Still::Unknown { detail } => {
                    let since = *unknown_since.get_or_insert(now);
                    tracing::warn!(%session, detail, "nobody can say whether a session may go on");
                    if since.elapsed() < grace {
                        continue;
                    }
                    undecided(grace, detail)
                }
            };
            let withdrawn = Event::GrantWithdrawn {
                subject: grant.identity().subject().to_owned(),
                action: grant.action().name(),
                target: grant.target().to_string(),
                code: failure.code,
                reason: failure.operator.clone(),
            };
            sessions.record_end(&caller.connection, session, &withdrawn).await;
            return failure;
        }
    }

    /// The end that an answer's terms set.
    fn end(&self, terms: &Obligations) -> Option<Instant> {
        // An end beyond all moments is none.
        let longest = terms.max_duration.and_then(|length| self.started.checked_add(length));
        let left = |until| Duration::try_from(Timestamp::now().duration_until(until)).unwrap_or_default();
        [longest, terms.until.and_then(|until| Instant::now().checked_add(left(until)))].into_iter().flatten().min()
    }
}

/// What a new answer asks for that this session, as it was begun, does not keep.
fn stricter(grant: &Grant, terms: &Obligations) -> Option<&'static str> {
    let kept = grant.obligations();
    if terms.record && !kept.record {
        return Some("it must be recorded now, and is not");
    }
    if terms.read_only && !kept.read_only && matches!(grant.action(), Action::Files { .. }) {
        return Some("files may only be read now");
    }
    let profile = |allowed: &Vec<String>| allowed.iter().any(|profile| profile == grant.profile());
    (!terms.profiles.as_ref().is_none_or(profile)).then_some("its profile is not allowed any more")
}

fn no_longer_allowed(reason: String) -> Failure {
    Failure {
        code: "no_longer_allowed",
        person: "this is no longer open to you, and has been ended".to_owned(),
        operator: reason,
    }
}

fn undecided(grace: Duration, detail: String) -> Failure {
    Failure {
        code: "authorizer_unavailable",
        person: format!(
            "whether you may go on could not be decided for {grace:?}, so this has been ended: log in again in a moment"
        ),
        operator: detail,
    }
}

pub(super) fn duration_over() -> Failure {
    Failure::new("duration_over", "this session's granted time is over: log in again if you need more")
}

fn expired(caller: &Caller) -> Failure {
    let line = match caller.identity.method() {
        Method::Certificate => "your certificate has ended, and this session with it: get a new one and log in again",
        _ => "your login has ended, and this session with it: log in again",
    };
    Failure::new("credential_expired", line)
}
