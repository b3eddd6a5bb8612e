//! The only way to a `Grant`.
//!
//! Guards: nothing is granted before the yes is in the audit trail, and nothing but a recorded yes is granted: a no,
//! an error, a panic, silence beyond the deadline and a trail that cannot be written all refuse. A yes whose obligations
//! cannot be kept is none.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt as _, select_all};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{
    Action, Authorizer, Decision, FileAccess, Obligations, Query, QueryProfile, QuerySource, QueryTarget, QueryUser,
    Unavailable,
};
use crate::audit::{Audit, AuditError, ConnectionId, Event, SessionId};
use crate::auth::Identity;
use crate::cluster::Target;

/// What a person reads whether the place does not exist or is closed to them: telling the two apart would tell
/// anybody with a login what runs in the cluster. The audit trail tells them apart.
pub const NOT_OPEN: &str = "no such place, or it is not open to you";

/// The command of a file server for `sftp`, in questions.
pub const SFTP: &str = "sftp";

/// Asks the authorizer, records the answer, and makes the `Grant`.
pub struct Gate {
    authorizer: Arc<dyn Authorizer>,
    deadline: Duration,
    /// Whether what a person sees can be recorded.
    records: bool,
    audit: Arc<Audit>,
}

/// One question, with the ids under which it goes into the audit trail.
#[derive(Debug, Clone)]
pub struct Asking<'a> {
    pub connection: &'a ConnectionId,
    pub session: &'a SessionId,
    pub identity: &'a Arc<Identity>,
    pub target: &'a Arc<Target>,
    pub action: Action,
    /// The debug profile's name.
    pub profile: &'a str,
    /// The profile's image.
    pub image: &'a str,
    /// Where the client comes from.
    pub source: IpAddr,
}

/// Who looks for places that are open to them.
#[derive(Debug, Clone, Copy)]
pub struct Looking<'a> {
    pub connection: &'a ConnectionId,
    pub session: &'a SessionId,
    pub identity: &'a Arc<Identity>,
    pub profile: &'a str,
    pub image: &'a str,
    pub source: IpAddr,
}

/// Whether what was granted still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Still {
    /// It does, on these terms.
    Granted(Obligations),
    Denied {
        reason: String,
    },
    /// Nobody can say just now.
    Unknown {
        detail: String,
    },
}

/// Proof that this identity may do this action on this target, and with which obligations.
#[derive(Debug, Clone)]
pub struct Grant {
    identity: Arc<Identity>,
    target: Arc<Target>,
    action: Action,
    profile: String,
    image: String,
    source: IpAddr,
    obligations: Obligations,
    granted_at: Timestamp,
}

/// Why there is no `Grant`. Its text is the operator's; `person` has the client's.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("denied: {reason}")]
    Denied { reason: String },
    /// Allowed, but not by this profile: the person may know, since they may do it by another.
    #[error("allowed, but not with the profile {profile}")]
    Profile { profile: String, allowed: Vec<String> },
    /// Allowed, but only to read files.
    #[error("allowed, but only to read files")]
    ReadOnly,
    /// Allowed if recorded, and there is no recorder.
    #[error("allowed, but only with a recording, and there is no recorder: set recording.folder")]
    NoRecorder,
    #[error("the authorizer gave no answer: {detail}")]
    Unavailable { detail: String },
    /// The answer, whatever it was, could not be recorded.
    #[error("the decision could not be recorded: {0}")]
    Unrecorded(#[source] AuditError),
}

impl Gate {
    /// `deadline` is the time that the authorizer has for one answer; `records` tells whether there is a recorder.
    pub fn new(authorizer: Arc<dyn Authorizer>, deadline: Duration, records: bool, audit: Arc<Audit>) -> Gate {
        Gate { authorizer, deadline, records, audit }
    }

    /// Asks whether this may be. Every answer is in the audit trail before this returns.
    pub async fn ask(&self, asking: Asking<'_>) -> Result<Grant, Refusal> {
        let answer = self.answer(asking.query(Timestamp::now())).await;
        let outcome = match answer {
            Ok(Decision { allow: true, reason, obligations }) => match self.breach(&asking, &obligations) {
                None => Ok((reason, obligations)),
                Some(refusal) => Err(refusal),
            },
            Ok(Decision { allow: false, reason, .. }) => Err(Refusal::Denied { reason }),
            Err(Unavailable(detail)) => Err(Refusal::Unavailable { detail }),
        };
        let (allow, code, reason) = match &outcome {
            Ok((reason, _)) => (true, "allowed", reason.clone()),
            Err(Refusal::Denied { reason } | Refusal::Unavailable { detail: reason }) => {
                (false, outcome.as_ref().map_or_else(Refusal::code, |_| "allowed"), reason.clone())
            }
            Err(refusal) => (false, refusal.code(), refusal.to_string()),
        };
        match &outcome {
            Err(Refusal::Unavailable { .. }) => {
                tracing::warn!(session = %asking.session, reason, "the authorizer gave no answer, so it is a no");
            }
            _ => tracing::info!(session = %asking.session, action = asking.action.name(), allow, reason, "decided"),
        }
        let event = Event::Decision {
            subject: asking.identity.subject().to_owned(),
            action: asking.action.name(),
            target: asking.target.to_string(),
            command: asking.action.command().map(str::to_owned),
            destination: asking.action.destination(),
            profile: asking.profile.to_owned(),
            allow,
            code,
            reason,
            obligations: outcome.as_ref().ok().and_then(|(_, obligations)| obligations.told()),
        };
        let recorded = self.audit.record(asking.connection, Some(asking.session), &event).await;
        recorded.map_err(Refusal::Unrecorded)?;
        let (_, obligations) = outcome?;
        Ok(Grant {
            identity: Arc::clone(asking.identity),
            target: Arc::clone(asking.target),
            action: asking.action,
            profile: asking.profile.to_owned(),
            image: asking.image.to_owned(),
            source: asking.source,
            obligations,
            granted_at: Timestamp::now(),
        })
    }

    /// Asks once more about what was granted, in the place as it is now. Records nothing: that what was allowed still is
    /// is no event.
    pub async fn still(&self, grant: &Grant, target: &Target) -> Still {
        let looking = (grant.identity.as_ref(), grant.profile.as_str(), grant.image.as_str(), grant.source);
        match self.answer(query(looking, target, &grant.action, Timestamp::now())).await {
            Ok(Decision { allow: true, obligations, .. }) => Still::Granted(obligations),
            Ok(Decision { allow: false, reason, .. }) => Still::Denied { reason },
            Err(Unavailable(detail)) => Still::Unknown { detail },
        }
    }

    /// Which of these places the person may know of: `list`. A part of the list at a time is asked about (`at_once`), and
    /// recorded by its counts before this returns.
    pub async fn visible(&self, looking: Looking<'_>, targets: &[Arc<Target>]) -> Result<Vec<bool>, Refusal> {
        let (identity, now) = (looking.identity.as_ref(), Timestamp::now());
        let asker = (identity, looking.profile, looking.image, looking.source);
        let queries: Vec<_> = targets.iter().map(|target| query(asker, target, &Action::List, now)).collect();
        let asked = queries.len();
        let authorizer = Arc::clone(&self.authorizer);
        let answer = self.within(async move { authorizer.decide_all(&queries).await }).await;
        // Several answers, but not one for each: nobody can say whose they are.
        let answer = answer.and_then(|decisions| match decisions.len() == asked {
            true => Ok(decisions.into_iter().map(|decision| decision.allow).collect::<Vec<_>>()),
            false => Err(Unavailable(format!("{} answers to {asked} questions", decisions.len()))),
        });
        let listed = Event::PlacesListed {
            subject: identity.subject().to_owned(),
            asked,
            open: answer.iter().flatten().filter(|open| **open).count(),
            code: if answer.is_ok() { "listed" } else { "authorizer_unavailable" },
            reason: answer.as_ref().err().map(ToString::to_string).unwrap_or_default(),
        };
        let recorded = self.audit.record(looking.connection, Some(looking.session), &listed).await;
        recorded.map_err(Refusal::Unrecorded)?;
        answer.map_err(|Unavailable(detail)| {
            tracing::warn!(session = %looking.session, detail, "the authorizer gave no answer, so nothing is listed");
            Refusal::Unavailable { detail }
        })
    }

    /// Why a yes with these obligations is none for this question.
    fn breach(&self, asking: &Asking<'_>, obligations: &Obligations) -> Option<Refusal> {
        if let Some(allowed) = &obligations.profiles
            && !allowed.iter().any(|profile| profile == asking.profile)
        {
            return Some(Refusal::Profile { profile: asking.profile.to_owned(), allowed: allowed.clone() });
        }
        // A file server that can do both is held to reading; a command that writes is not.
        let writes = matches!(&asking.action, Action::Files { access: FileAccess::Write, command } if command != SFTP);
        if obligations.read_only && writes {
            return Some(Refusal::ReadOnly);
        }
        if obligations.lasts(Timestamp::now()).is_some_and(|left| left.is_zero()) {
            return Some(Refusal::Denied { reason: "allowed, but its time is over already".to_owned() });
        }
        (obligations.record && !self.records).then_some(Refusal::NoRecorder)
    }

    /// How many places `visible` takes well at once.
    pub fn at_once(&self) -> usize {
        self.authorizer.at_once().max(1)
    }

    /// Tells when answers may have changed, from now on.
    pub fn changes(&self) -> Changes {
        let mut counters = self.authorizer.changes();
        counters.iter_mut().for_each(watch::Receiver::mark_unchanged);
        Changes(counters)
    }

    /// The authorizer's answer, within the deadline.
    ///
    /// It is asked in a task of its own: a panic ends there, and a backend that blocks its thread cannot keep the
    /// deadline from passing. The task ends with this call, so late answers do not pile up.
    async fn answer(&self, query: Query) -> Result<Decision, Unavailable> {
        let authorizer = Arc::clone(&self.authorizer);
        self.within(async move { authorizer.decide(&query).await }).await
    }

    async fn within<T: Send + 'static>(
        &self,
        asking: impl Future<Output = Result<T, Unavailable>> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let asked = tokio::spawn(asking.in_current_span());
        match timeout(self.deadline, AbortOnDropHandle::new(asked)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(broken)) => Err(Unavailable(format!("it broke: {broken}"))),
            Err(_) => Err(Unavailable(format!("it did not answer within {:?}", self.deadline))),
        }
    }
}

/// The moments at which an authorizer's answers may have changed.
pub struct Changes(Vec<watch::Receiver<u64>>);

impl Changes {
    /// Returns with the next change; never where there is no telling. Cancel safe.
    pub async fn next(&mut self) {
        let changes: Vec<_> = self.0.iter_mut().map(|counter| changed(counter).boxed()).collect();
        match changes.is_empty() {
            true => std::future::pending().await,
            false => drop(select_all(changes).await),
        }
    }
}

impl Asking<'_> {
    fn query(&self, time: Timestamp) -> Query {
        let asker = (self.identity.as_ref(), self.profile, self.image, self.source);
        query(asker, self.target, &self.action, time)
    }
}

/// A counter whose sender has gone changes no more.
async fn changed(counter: &mut watch::Receiver<u64>) {
    if counter.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Who asks, by which profile and image, from where.
type Asker<'a> = (&'a Identity, &'a str, &'a str, IpAddr);

fn query((identity, profile, image, source): Asker<'_>, target: &Target, action: &Action, time: Timestamp) -> Query {
    Query {
        user: QueryUser {
            subject: identity.subject().to_owned(),
            email: identity.email().map(str::to_owned),
            groups: identity.groups().to_vec(),
            method: identity.method().as_str(),
            issuer: identity.issuer().map(str::to_owned),
            id_token: identity.id_token().cloned(),
        },
        action: action.kind(),
        target: QueryTarget {
            namespace: target.namespace().to_owned(),
            namespace_labels: target.namespace_labels().clone(),
            pod: target.pod().to_owned(),
            pod_labels: target.pod_labels().clone(),
            pod_ips: target.pod_ips().to_vec(),
            workload: target.workload().map(str::to_owned),
            container: target.container().to_owned(),
        },
        profile: QueryProfile { name: profile.to_owned(), image: image.to_owned() },
        command: action.command().map(str::to_owned),
        access: action.access(),
        destination: action.query_destination(),
        source: QuerySource { ip: source },
        time,
    }
}

impl Grant {
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    pub fn action(&self) -> &Action {
        &self.action
    }

    /// The debug profile's name.
    pub fn profile(&self) -> &str {
        &self.profile
    }

    pub fn obligations(&self) -> &Obligations {
        &self.obligations
    }

    pub fn granted_at(&self) -> Timestamp {
        self.granted_at
    }
}

impl Refusal {
    /// A stable word: the audit trail's, and that of the client's session.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Denied { .. } => "denied",
            Refusal::Profile { .. } => "profile_not_allowed",
            Refusal::ReadOnly => "read_only",
            Refusal::NoRecorder => "recorder_unavailable",
            Refusal::Unavailable { .. } => "authorizer_unavailable",
            Refusal::Unrecorded(_) => "audit_unavailable",
        }
    }

    /// The sentence for the person. It says nothing of the policy beyond what they may do.
    pub fn person(&self) -> String {
        match self {
            Refusal::Denied { .. } => NOT_OPEN.to_owned(),
            Refusal::Profile { profile, allowed } if allowed.is_empty() => {
                format!("you may use no debug profile there, and so not ~{profile}")
            }
            Refusal::Profile { profile, allowed } => {
                format!("you may not use the profile ~{profile} there: use one of {}", allowed.join(", "))
            }
            Refusal::ReadOnly => "you may read files there, and write none".to_owned(),
            Refusal::NoRecorder => {
                "this may only be done with a recording, which cannot be made here: tell whoever runs porthole"
                    .to_owned()
            }
            Refusal::Unavailable { .. } => {
                "whether you may do this cannot be decided just now, so it is a no: try again in a moment".to_owned()
            }
            Refusal::Unrecorded(_) => {
                "the audit trail cannot be written, so nothing may happen now: try again later".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests;
