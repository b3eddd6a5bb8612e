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
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;

    /// Enough for an answer that is there, and soon over for one that never comes.
    const DEADLINE: Duration = Duration::from_millis(20);

    #[derive(Clone, Copy)]
    enum Backend {
        Allows,
        /// A yes that asks for one thing.
        Records,
        OnlyReads,
        OnlyByNetadmin,
        /// A yes until a moment that has passed.
        Over,
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
            let obligations = Obligations { max_duration: Some(Duration::from_secs(60)), ..Obligations::default() };
            let yes = |obligations| Ok(Decision { allow: true, reason: "because".to_owned(), obligations });
            let answer = |allow| Ok(Decision { allow, reason: "because".to_owned(), obligations });
            match *self {
                Backend::PanicsAtOnce => panic!("a bug before the first await"),
                backend => Box::pin(async move {
                    match backend {
                        Backend::Allows => answer(true),
                        Backend::Denies => answer(false),
                        Backend::Records => yes(Obligations { record: true, ..Obligations::default() }),
                        Backend::Over => {
                            yes(Obligations { until: Some(Timestamp::UNIX_EPOCH), ..Obligations::default() })
                        }
                        Backend::OnlyReads => yes(Obligations { read_only: true, ..Obligations::default() }),
                        Backend::OnlyByNetadmin => {
                            let profiles = Some(vec!["netadmin".to_owned()]);
                            yes(Obligations { profiles, ..Obligations::default() })
                        }
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
        let gate = Gate::new(Arc::new(backend), DEADLINE, false, Arc::clone(audit));
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
        assert_eq!((refusal.code(), refusal.person().as_str()), ("denied", NOT_OPEN));
        assert_eq!(refusal.to_string(), "denied: because");
        let [event] = &trail.events()[..] else { panic!("{:?}", trail.events()) };
        assert_eq!((&event["code"], &event["allow"]), (&"denied".into(), &false.into()));
        assert_eq!(event["destination"], "[::1]:80");
    }

    #[tokio::test]
    async fn a_yes_whose_obligations_cannot_be_kept_is_none() {
        let files = |access, command: &str| Action::Files { command: command.to_owned(), access };
        for (backend, action, code) in [
            (Backend::Records, Action::Shell, "recorder_unavailable"),
            (Backend::Over, Action::Shell, "denied"),
            (Backend::OnlyByNetadmin, Action::Shell, "profile_not_allowed"),
            (Backend::OnlyReads, files(FileAccess::Write, "scp -t /tmp"), "read_only"),
        ] {
            let trail = Trail::new().await;
            let refusal = ask(backend, &trail.audit, action).await.unwrap_err();
            let [event] = &trail.events()[..] else { panic!("{:?}", trail.events()) };
            assert_eq!((refusal.code(), &event["code"], &event["allow"]), (code, &code.into(), &false.into()));
        }
        for action in [files(FileAccess::Read, "scp -f /tmp"), files(FileAccess::Write, SFTP)] {
            let trail = Trail::new().await;
            assert!(ask(Backend::OnlyReads, &trail.audit, action).await.unwrap().obligations().read_only);
        }
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
