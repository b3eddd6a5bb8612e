//! The only way to a `Grant`.
//!
//! Guards: nothing is granted before the yes is in the audit trail, and nothing but a recorded yes is granted: a no,
//! an error, a panic, silence beyond the deadline and a trail that cannot be written all refuse.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{
    Action, Authorizer, Decision, Obligations, Query, QueryProfile, QuerySource, QueryTarget, QueryUser, Unavailable,
};
use crate::audit::{Audit, AuditError, ConnectionId, Event, SessionId};
use crate::auth::Identity;
use crate::cluster::Target;

/// What a person reads whether the place does not exist or is closed to them: telling the two apart would tell
/// anybody with a login what runs in the cluster. The audit trail tells them apart.
pub const NOT_OPEN: &str = "no such place, or it is not open to you";

/// Asks the authorizer, records the answer, and makes the `Grant`.
pub struct Gate {
    authorizer: Arc<dyn Authorizer>,
    deadline: Duration,
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

/// Proof that this identity may do this action on this target, and with which obligations.
#[derive(Debug, Clone)]
pub struct Grant {
    identity: Arc<Identity>,
    target: Arc<Target>,
    action: Action,
    profile: String,
    obligations: Obligations,
    granted_at: Timestamp,
}

/// Why there is no `Grant`. Its text is the operator's; `person` has the client's.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("denied: {reason}")]
    Denied { reason: String },
    #[error("the authorizer gave no answer: {detail}")]
    Unavailable { detail: String },
    /// The answer, whatever it was, could not be recorded.
    #[error("the decision could not be recorded: {0}")]
    Unrecorded(#[source] AuditError),
}

impl Gate {
    /// `deadline` is the time that the authorizer has for one answer.
    pub fn new(authorizer: Arc<dyn Authorizer>, deadline: Duration, audit: Arc<Audit>) -> Gate {
        Gate { authorizer, deadline, audit }
    }

    /// Asks whether this may be. Every answer is in the audit trail before this returns.
    pub async fn ask(&self, asking: Asking<'_>) -> Result<Grant, Refusal> {
        let answer = self.answer(asking.query(Timestamp::now())).await;
        let (allow, code, reason) = match &answer {
            Ok(Decision { allow: true, reason, .. }) => (true, "allowed", reason.clone()),
            Ok(Decision { allow: false, reason, .. }) => (false, "denied", reason.clone()),
            Err(unavailable) => (false, "authorizer_unavailable", unavailable.to_string()),
        };
        if answer.is_err() {
            tracing::warn!(session = %asking.session, reason, "the authorizer gave no answer, so it is a no");
        } else {
            tracing::info!(session = %asking.session, action = asking.action.name(), allow, reason, "decided");
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
        };
        let recorded = self.audit.record(asking.connection, Some(asking.session), &event).await;
        recorded.map_err(Refusal::Unrecorded)?;
        match answer {
            Ok(Decision { allow: true, obligations, .. }) => Ok(Grant {
                identity: Arc::clone(asking.identity),
                target: Arc::clone(asking.target),
                action: asking.action,
                profile: asking.profile.to_owned(),
                obligations,
                granted_at: Timestamp::now(),
            }),
            Ok(Decision { allow: false, reason, .. }) => Err(Refusal::Denied { reason }),
            Err(Unavailable(detail)) => Err(Refusal::Unavailable { detail }),
        }
    }

    /// The authorizer's answer, within the deadline.
    ///
    /// It is asked in a task of its own: a panic ends there, and a backend that blocks its thread cannot keep the
    /// deadline from passing. The task ends with this call, so late answers do not pile up.
    async fn answer(&self, query: Query) -> Result<Decision, Unavailable> {
        let authorizer = Arc::clone(&self.authorizer);
        let asked = async move { authorizer.decide(&query).await }.in_current_span();
        match timeout(self.deadline, AbortOnDropHandle::new(tokio::spawn(asked))).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(broken)) => Err(Unavailable(format!("it broke: {broken}"))),
            Err(_) => Err(Unavailable(format!("it did not answer within {:?}", self.deadline))),
        }
    }
}

impl Asking<'_> {
    fn query(&self, time: Timestamp) -> Query {
        let (identity, target) = (self.identity, self.target);
        Query {
            user: QueryUser {
                subject: identity.subject().to_owned(),
                email: identity.email().map(str::to_owned),
                groups: identity.groups().to_vec(),
                method: identity.method().as_str(),
            },
            action: self.action.kind(),
            target: QueryTarget {
                namespace: target.namespace().to_owned(),
                namespace_labels: target.namespace_labels().clone(),
                pod: target.pod().to_owned(),
                pod_labels: target.pod_labels().clone(),
                pod_ips: target.pod_ips().to_vec(),
                workload: target.workload().map(str::to_owned),
                container: target.container().to_owned(),
            },
            profile: QueryProfile { name: self.profile.to_owned(), image: self.image.to_owned() },
            command: self.action.command().map(str::to_owned),
            destination: self.action.query_destination(),
            source: QuerySource { ip: self.source },
            time,
        }
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
            Refusal::Unavailable { .. } => "authorizer_unavailable",
            Refusal::Unrecorded(_) => "audit_unavailable",
        }
    }

    /// The sentence for the person. It says nothing of the policy.
    pub fn person(&self) -> &'static str {
        match self {
            Refusal::Denied { .. } => NOT_OPEN,
            Refusal::Unavailable { .. } => {
                "whether you may do this cannot be decided just now, so it is a no: try again in a moment"
            }
            Refusal::Unrecorded(_) => "the audit trail cannot be written, so nothing may happen now: try again later",
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;

    /// Enough for an answer that is there, and soon over for one that never comes.
    const DEADLINE: Duration = Duration::from_millis(20);

    #[derive(Clone, Copy)]
    enum Backend {
        Allows,
        Denies,
        Fails,
        NeverAnswers,
        Panics,
        PanicsAtOnce,
        /// Holds its thread beyond the deadline, and then says yes.
        Blocks,
    }

    impl Authorizer for Backend {
        fn decide<'a>(&'a self, _: &'a Query) -> BoxFuture<'a, Result<Decision, Unavailable>> {
            let obligations = Obligations { max_duration: Some(Duration::from_secs(60)) };
            let answer = |allow| Ok(Decision { allow, reason: "because".to_owned(), obligations });
            match *self {
                Backend::PanicsAtOnce => panic!("a bug before the first await"),
                backend => Box::pin(async move {
                    match backend {
                        Backend::Allows => answer(true),
                        Backend::Denies => answer(false),
                        Backend::Fails => Err(Unavailable("it answered 500".to_owned())),
                        Backend::NeverAnswers => std::future::pending().await,
                        Backend::Blocks => {
                            std::thread::sleep(DEADLINE * 10);
                            answer(true)
                        }
                        Backend::Panics | Backend::PanicsAtOnce => panic!("a bug"),
                    }
                }),
            }
        }
    }

    async fn open(path: &std::path::Path) -> Audit {
        let settings = crate::config::Audit { file: Some(path.to_owned()), ..Default::default() };
        Audit::open(&settings).await.unwrap()
    }

    struct Trail {
        audit: Arc<Audit>,
        file: tempfile::NamedTempFile,
    }

    impl Trail {
        async fn new() -> Trail {
            let file = tempfile::NamedTempFile::new().unwrap();
            Trail { audit: Arc::new(open(file.path()).await), file }
        }

        fn events(&self) -> Vec<serde_json::Value> {
            let text = std::fs::read_to_string(self.file.path()).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
    }

    async fn ask(backend: Backend, audit: &Arc<Audit>, action: Action) -> Result<Grant, Refusal> {
        let gate = Gate::new(Arc::new(backend), DEADLINE, Arc::clone(audit));
        let connection = ConnectionId::random();
        gate.ask(Asking {
            connection: &connection,
            session: &connection.session(3),
            identity: &Arc::new(Identity::for_tests("alice", &["dev"])),
            target: &Arc::new(Target::for_tests("demo", "web-1", "app", None, [&[], &[]])),
            action,
            profile: "general",
            image: "busybox:1",
            source: IpAddr::from([192, 0, 2, 1]),
        })
        .await
    }

    #[tokio::test]
    async fn a_yes_is_recorded_and_carries_what_was_asked() {
        let trail = Trail::new().await;
        let command = "uptime".to_owned();
        let grant = ask(Backend::Allows, &trail.audit, Action::Exec { command }).await.unwrap();
        assert_eq!((grant.identity().subject(), grant.target().pod(), grant.profile()), ("alice", "web-1", "general"));
        assert_eq!(grant.action().command(), Some("uptime"));
        assert_eq!(grant.obligations().max_duration, Some(Duration::from_secs(60)));
        assert!(grant.granted_at() <= Timestamp::now());
        let [event] = &trail.events()[..] else { panic!("{:?}", trail.events()) };
        assert_eq!(
            (&event["event"], &event["code"], &event["allow"]),
            (&"decision".into(), &"allowed".into(), &true.into())
        );
        assert_eq!((&event["subject"], &event["target"]), (&"alice".into(), &"demo.web-1+app".into()));
        assert_eq!((&event["action"], &event["command"]), (&"exec".into(), &"uptime".into()));
        assert_eq!((&event["profile"], &event["reason"]), (&"general".into(), &"because".into()));
        assert!(event["session"].as_str().unwrap().ends_with("-3"));
    }

    #[tokio::test]
    async fn a_no_is_recorded_and_reads_like_a_place_that_is_not_there() {
        let trail = Trail::new().await;
        let forward = Action::Forward { host: "::1".to_owned(), port: 80 };
        let refusal = ask(Backend::Denies, &trail.audit, forward).await.unwrap_err();
        assert_eq!((refusal.code(), refusal.person()), ("denied", NOT_OPEN));
        assert_eq!(refusal.to_string(), "denied: because");
        let [event] = &trail.events()[..] else { panic!("{:?}", trail.events()) };
        assert_eq!((&event["code"], &event["allow"]), (&"denied".into(), &false.into()));
        assert_eq!(event["destination"], "[::1]:80");
    }

    #[tokio::test]
    async fn an_authorizer_that_fails_hangs_or_panics_is_a_no() {
        for (backend, detail) in [
            (Backend::Fails, "it answered 500"),
            (Backend::NeverAnswers, "it did not answer within 20ms"),
            (Backend::Panics, "it broke: "),
            (Backend::PanicsAtOnce, "it broke: "),
        ] {
            let trail = Trail::new().await;
            let refusal = ask(backend, &trail.audit, Action::Shell).await.unwrap_err();
            assert_eq!(refusal.code(), "authorizer_unavailable");
            assert!(refusal.to_string().contains(detail), "{refusal}");
            assert_ne!(refusal.person(), NOT_OPEN);
            let [event] = &trail.events()[..] else { panic!("{:?}", trail.events()) };
            assert_eq!((&event["code"], &event["allow"]), (&"authorizer_unavailable".into(), &false.into()));
            assert!(event["reason"].as_str().unwrap().starts_with(detail), "{event}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_authorizer_that_blocks_its_thread_is_late_all_the_same() {
        let trail = Trail::new().await;
        let refusal = ask(Backend::Blocks, &trail.audit, Action::Shell).await.unwrap_err();
        assert_eq!(refusal.code(), "authorizer_unavailable");
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_recorded_is_a_no() {
        let audit = Arc::new(open("/dev/full".as_ref()).await);
        for backend in [Backend::Allows, Backend::Denies, Backend::Fails] {
            let refusal = ask(backend, &audit, Action::Shell).await.unwrap_err();
            assert_eq!(refusal.code(), "audit_unavailable");
            assert!(refusal.to_string().contains("/dev/full"), "{refusal}");
        }
    }
}
