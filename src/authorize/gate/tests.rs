//! What becomes of a question, whatever the authorizer does.

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
                    Backend::Over => yes(Obligations { until: Some(Timestamp::UNIX_EPOCH), ..Obligations::default() }),
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
