//! The way into a pod, on a cluster: the one that `PORTHOLE_TEST_KUBECONFIG` names, else the playground.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{ApiServer, Chunk, Cluster, End, Launch, Process, Program, StartError, WindowSize};
use crate::audit::{Audit, ConnectionId};
use crate::auth::Identity;
use crate::authorize::{
    Action, Asking, Authorizer, Decision, FileAccess, Gate, Grant, Obligations, Query, SFTP, Unavailable,
};
use crate::config::{self, Preset, Profile};
use crate::playground::{Emulator, Options, probe};
use crate::target::{LoginName, TargetName};

/// No single wait takes longer, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(30);

struct Anything;

impl Authorizer for Anything {
    fn decide<'a>(&'a self, _: &'a Query) -> BoxFuture<'a, Result<Decision, Unavailable>> {
        let decision = Decision { allow: true, reason: "a test".to_owned(), obligations: Obligations::default() };
        Box::pin(async move { Ok(decision) })
    }
}

struct World {
    cluster: Cluster,
    gate: Gate,
    identity: Arc<Identity>,
    connection: ConnectionId,
    sessions: AtomicU32,
    /// An image with a shell, coreutils and an sftp-server.
    tools: &'static str,
    /// One with a shell and little more.
    plain: &'static str,
    real: bool,
    _emulator: Option<(Emulator, tempfile::TempDir)>,
}

/// The cluster to test on, with the emulator if it is the playground; none where it cannot be made.
pub(super) async fn kubeconfig() -> Option<(PathBuf, Option<(Emulator, tempfile::TempDir)>)> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match std::env::var_os("PORTHOLE_TEST_KUBECONFIG") {
        Some(file) => Some((PathBuf::from(file), None)),
        None => {
            let program = std::env::current_exe().ok()?.parent()?.parent()?.join("porthole");
            if !program.exists() {
                eprintln!("SKIPPED: {} is not built, so there is no playground", program.display());
                return None;
            }
            let root = tempfile::tempdir().unwrap();
            let options = Options {
                root: root.path().join("state"),
                listen: "127.0.0.1:0".parse().unwrap(),
                isolation: probe(&program),
                program,
            };
            let emulator = Emulator::start(options).await.unwrap();
            Some((emulator.kubeconfig().to_owned(), Some((emulator, root))))
        }
    }
}

impl World {
    /// None where there is no cluster, and none can be made.
    async fn enter() -> Option<World> {
        World::enter_by(None).await
    }

    /// With a proxy before the API server, where that speaks plain HTTP.
    async fn enter_by(proxy: Option<&Proxy>) -> Option<World> {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(std::env::var("LOG").unwrap_or("warn".into()))
            .with_test_writer()
            .try_init();
        let (kubeconfig, emulator) = kubeconfig().await?;
        let kubeconfig = match proxy {
            Some(proxy) => proxy.stand_before(&kubeconfig).await?,
            None => kubeconfig,
        };
        let settings = config::Cluster { kubeconfig: Some(kubeconfig), ..config::Cluster::default() };
        let api = ApiServer::open(&settings).await.unwrap();
        let cluster = Cluster::connect(api, &settings, Duration::from_secs(30)).await.unwrap();
        let audit = Audit::open(&config::Audit { file: Some("/dev/null".into()), ..Default::default() }).await.unwrap();
        let real = emulator.is_none();
        let pods = ["demo.web", "demo.db", "demo.distroless", "demo.broken", "team.api", "restricted.app"];
        let patience = Instant::now() + PATIENCE;
        while !pods.iter().all(|pod| cluster.resolve(&place_name(pod), "x").is_ok_and(|at| at.obstacle().is_none())) {
            if Instant::now() > patience {
                let wrong =
                    pods.map(|pod| (pod, cluster.resolve(&place_name(pod), "x").map(|at| at.obstacle().cloned())));
                panic!("the pods are not there: {wrong:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(World {
            cluster,
            gate: Gate::new(Arc::new(Anything), PATIENCE, false, Arc::new(audit)),
            identity: Arc::new(Identity::for_tests("Tess O'Tester", &["dev"])),
            connection: ConnectionId::random(),
            sessions: AtomicU32::new(0),
            tools: if real { "porthole.test/tools:1" } else { "playground/tools:1" },
            plain: if real { "porthole.test/busybox:1" } else { "playground/tools:1" },
            real,
            _emulator: emulator,
        })
    }

    fn profile(&self) -> Profile {
        Profile { image: self.tools.to_owned(), ..Profile::default() }
    }

    async fn grant(&self, place: &str, action: Action) -> Grant {
        let name = place_name(place);
        let target = Arc::new(self.cluster.resolve(&name, self.identity.subject()).unwrap());
        let asking = Asking {
            connection: &self.connection,
            session: &self.connection.session(0),
            identity: &self.identity,
            target: &target,
            action,
            profile: "test",
            image: "test",
            source: [127, 0, 0, 1].into(),
        };
        self.gate.ask(asking).await.unwrap()
    }

    async fn start(
        &self,
        place: &str,
        profile: &Profile,
        program: Program,
        terminal: Option<watch::Receiver<WindowSize>>,
    ) -> Result<Process, StartError> {
        let action = match &program {
            Program::Shell => Action::Shell,
            Program::Sftp { .. } => Action::Files { command: SFTP.to_owned(), access: FileAccess::Write },
            Program::Command(command) => Action::Exec { command: command.clone() },
        };
        let grant = self.grant(place, action).await;
        let session = self.connection.session(self.sessions.fetch_add(1, Ordering::Relaxed));
        let mut env = vec![("LANG".to_owned(), "C.UTF-8".to_owned()), ("LC_X".to_owned(), "$(LANG)$$x".to_owned())];
        env.extend(terminal.as_ref().map(|_| ("TERM".to_owned(), "xterm".to_owned())));
        let launch = Launch { session: &session, profile_name: "test", profile, program, env, terminal };
        let started = async { self.cluster.start(&grant, launch).await?.run().await };
        tokio::time::timeout(PATIENCE, started).await.expect("it starts, or does not")
    }

    async fn command(&self, place: &str, command: &str) -> Process {
        self.start(place, &self.profile(), Program::Command(command.to_owned()), None).await.unwrap()
    }

    /// Runs a command without input to its end.
    async fn run(&self, place: &str, command: &str) -> (Vec<u8>, Vec<u8>, End) {
        finish(self.command(place, command).await).await
    }
}

/// A way to the API server that can be cut.
struct Proxy {
    server: watch::Sender<Option<String>>,
    /// Changes when everything that is open is to be cut; false refuses what is new.
    open: watch::Sender<bool>,
    address: std::net::SocketAddr,
    folder: tempfile::TempDir,
}

impl Proxy {
    async fn new() -> Proxy {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (server, server_seen) = watch::channel(None::<String>);
        let (open, open_seen) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut open = open_seen.clone();
                let Some(server) = server_seen.borrow().clone() else { continue };
                if *open.borrow_and_update() {
                    tokio::spawn(async move {
                        let Ok(mut far) = tokio::net::TcpStream::connect(server).await else { return };
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                            _ = open.changed() => {}
                        }
                    });
                }
            }
        });
        Proxy { server, open, address, folder: tempfile::tempdir().unwrap() }
    }

    /// A kubeconfig that leads through the proxy.
    async fn stand_before(&self, kubeconfig: &std::path::Path) -> Option<PathBuf> {
        let text = std::fs::read_to_string(kubeconfig).unwrap();
        let server = text.split("server: http://").nth(1)?.split_whitespace().next()?.to_owned();
        let file = self.folder.path().join("kubeconfig");
        std::fs::write(&file, text.replace(&server, &self.address.to_string())).unwrap();
        self.server.send_replace(Some(server));
        Some(file)
    }
}

fn place_name(place: &str) -> TargetName {
    match LoginName::parse(place) {
        Ok(LoginName::Place(name)) => name,
        other => panic!("{place}: {other:?}"),
    }
}

async fn finish(mut process: Process) -> (Vec<u8>, Vec<u8>, End) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let all = async {
        while let Some(chunk) = process.output.next().await {
            match chunk {
                Chunk::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                Chunk::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            }
        }
        process.control.exit().await
    };
    let end = tokio::time::timeout(PATIENCE, all).await.expect("the process ends");
    (stdout, stderr, end)
}

/// Reads stdout until it has `text`; returns all of it.
async fn until(process: &mut Process, text: &str) -> String {
    let mut seen = Vec::new();
    let all = async {
        while !String::from_utf8_lossy(&seen).contains(text) {
            match process.output.next().await {
                Some(Chunk::Stdout(bytes)) => seen.extend_from_slice(&bytes),
                Some(Chunk::Stderr(_)) => {}
                None => panic!("the output ended: {}", String::from_utf8_lossy(&seen)),
            }
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), all).await.is_err() {
        panic!("no {text:?} in {:?}", String::from_utf8_lossy(&seen));
    }
    String::from_utf8_lossy(&seen).into_owned()
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

macro_rules! world {
    () => {
        match World::enter().await {
            Some(world) => world,
            None => return,
        }
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stdout_stderr_and_the_status_are_exact() {
    let world = world!();
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let mut starts = Vec::new();
    for round in 0..rounds {
        let began = Instant::now();
        let process = world.command("demo.web", "echo o; echo e >&2; exit 7").await;
        starts.push(began.elapsed().as_millis());
        let (stdout, stderr, end) = finish(process).await;
        assert_eq!((&*text(&stdout), &*text(&stderr), end), ("o\n", "e\n", End::Exited { status: 7 }), "round {round}");
    }
    starts.sort_unstable();
    eprintln!("start: min {} median {} max {} ms", starts[0], starts[starts.len() / 2], starts[starts.len() - 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stdin_ends_without_cutting_the_output() {
    let world = world!();
    let mut process = world.command("demo.web", "cat; sleep 1; echo after; exit 3").await;
    process.input.write(Bytes::from_static(b"hello\n")).await.unwrap();
    process.input.close().await.unwrap();
    let (stdout, _, end) = finish(process).await;
    assert_eq!((&*text(&stdout), end), ("hello\nafter\n", End::Exited { status: 3 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_commands_arrive_as_they_are() {
    let world = world!();
    let odd = "printf '%s\\n' \"$LC_X\" 'it'\\''s $(HOME) $$ \\n \u{e9}\t|'; printf '%s' \"$PORTHOLE_USER\"; echo '\u{1e}porthole:x:0\u{1e}'\n\nexit 5\n";
    let (stdout, stderr, end) = world.run("demo.web", odd).await;
    let expected = "$(LANG)$$x\nit's $(HOME) $$ \\n \u{e9}\t|\nTess O'Tester\u{1e}porthole:x:0\u{1e}\n";
    assert_eq!((&*text(&stdout), &*text(&stderr), end), (expected, "", End::Exited { status: 5 }));

    // The client's variables were there, and stay nowhere.
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(world.cluster.api.client(), "demo");
    let pods = pods.list(&kube::api::ListParams::default()).await.unwrap();
    let kept = pods.iter().flat_map(|pod| pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten()));
    let ours: Vec<_> = kept.filter(|container| container.name.contains(&world.connection.to_string())).collect();
    let mut names = ours.iter().flat_map(|container| container.env.iter().flatten()).map(|variable| &variable.name);
    assert!(!ours.is_empty() && !names.any(|name| name == "LC_X"), "{ours:?}");
    let long = format!("echo {} | wc -c", "x".repeat(60_000));
    assert_eq!(text(&world.run("demo.web", &long).await.0).trim(), "60001");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_goes_both_ways_whole() {
    use sha2::{Digest as _, Sha256};
    let world = world!();
    let megabytes: usize = std::env::var("MEGABYTES").ok().and_then(|all| all.parse().ok()).unwrap_or(32);
    let Process { mut input, mut output, control, .. } = world.command("demo.web", "cat").await;
    let began = Instant::now();
    let sent = tokio::spawn(async move {
        let mut hash = Sha256::new();
        let mut block = vec![0x1e_u8; 1 << 20];
        for round in 0..megabytes {
            for (at, byte) in block.iter_mut().enumerate().step_by(7) {
                *byte = (at as u8).wrapping_mul(31).wrapping_add(round as u8);
            }
            hash.update(&block);
            input.write(Bytes::copy_from_slice(&block)).await.unwrap();
        }
        input.close().await.unwrap();
        hash.finalize()
    });
    let (mut hash, mut len) = (Sha256::new(), 0);
    while let Some(Chunk::Stdout(bytes)) = output.next().await {
        hash.update(&bytes);
        len += bytes.len();
    }
    assert_eq!(len, megabytes << 20);
    assert_eq!(hash.finalize(), sent.await.unwrap());
    assert_eq!(control.exit().await, End::Exited { status: 0 });
    eprintln!("{megabytes} MiB there and back in {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_has_its_size_before_the_first_byte_and_follows_it() {
    let world = world!();
    let (_, sizes) = watch::channel(WindowSize { columns: 91, rows: 33 });
    let command = "stty size; echo $TERM; [ -t 2 ] && echo tty; while read l; do echo \"<$l>\"; stty size; done";
    let mut process =
        world.start("demo.web", &world.profile(), Program::Command(command.to_owned()), Some(sizes)).await.unwrap();
    let first = until(&mut process, "tty\r\n").await;
    assert_eq!(first, "33 91\r\nxterm\r\ntty\r\n");
    process.control.resize(WindowSize { columns: 120, rows: 40 });
    tokio::time::sleep(Duration::from_millis(300)).await;
    process.input.write(Bytes::from_static(b"x\n")).await.unwrap();
    let second = until(&mut process, "40 120").await;
    assert!(second.starts_with("x\r\n<x>\r\n"), "{second:?}");
    process.input.close().await.unwrap();
    assert_eq!(finish(process).await.2, End::Exited { status: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_reaches_a_program_whose_output_is_blocked() {
    let world = world!();
    let (_, sizes) = watch::channel(WindowSize { columns: 80, rows: 24 });
    let mut process = world
        .start("demo.web", &world.profile(), Program::Command("yes; echo \"ended $?\"".to_owned()), Some(sizes))
        .await
        .unwrap();
    // Nobody reads until everything in between is full.
    tokio::time::sleep(Duration::from_secs(2)).await;
    process.input.write(Bytes::from_static(b"\x03")).await.unwrap();
    let (mut tail, began) = (Vec::new(), Instant::now());
    while let Some(Chunk::Stdout(bytes)) = process.output.next().await {
        tail.extend_from_slice(&bytes);
        tail.drain(..tail.len().saturating_sub(100));
        assert!(began.elapsed() < PATIENCE, "it goes on");
    }
    eprintln!("{:?} {:?}", text(&tail), process.control.exit().await);
    assert!(matches!(process.control.exit().await, End::Exited { status: 0 | 130 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_is_a_login_shell_with_job_control() {
    let world = world!();
    let (_, sizes) = watch::channel(WindowSize { columns: 80, rows: 24 });
    let mut process = world.start("demo.web", &world.profile(), Program::Shell, Some(sizes)).await.unwrap();
    process.input.write(Bytes::from_static(b"echo a$((1+1))b; sleep 100\n")).await.unwrap();
    until(&mut process, "a2b\r\n").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    process.input.write(Bytes::from_static(b"\x03")).await.unwrap();
    process.input.write(Bytes::from_static(b"echo c$((2+2))d; exit 9\n")).await.unwrap();
    until(&mut process, "c4d\r\n").await;
    assert_eq!(finish(process).await.2, End::Exited { status: 9 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_gone_means_the_process_gone() {
    let world = world!();
    for (terminal, joined) in [(false, true), (true, true), (false, false), (true, false)] {
        let (_, sizes) = watch::channel(WindowSize { columns: 80, rows: 24 });
        let profile = Profile { target_processes: joined, ..world.profile() };
        let stubborn = "trap '' HUP INT TERM; (sleep 1000) & nohup sleep 1001 >/dev/null 2>&1 & echo on; sleep 1002";
        let mut process = world
            .start("demo.web", &profile, Program::Command(stubborn.to_owned()), terminal.then_some(sizes))
            .await
            .unwrap();
        until(&mut process, "on").await;
        let began = Instant::now();
        drop((process.input, process.output));
        tokio::time::timeout(PATIENCE, process.control.clone().end()).await.unwrap();
        let took = began.elapsed();
        let state = process.control.state();
        eprintln!("terminal {terminal} joined {joined}: {took:?} {state:?}");
        assert!(matches!(state, super::pod::State::Terminated { .. }));
        assert!(took < Duration::from_secs(8), "{took:?}");
        let (stdout, ..) = world.run("demo.web", "ps -ef 2>/dev/null || ps; true").await;
        assert!(!text(&stdout).contains("sleep 100"), "{}", text(&stdout));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_reaches_the_program_alone() {
    let world = world!();
    for joined in [true, false] {
        let profile = Profile { target_processes: joined, ..world.profile() };
        let command = "trap 'echo caught' USR1; echo on; while :; do sleep 0.1; done";
        let mut process = world.start("demo.web", &profile, Program::Command(command.to_owned()), None).await.unwrap();
        until(&mut process, "on\n").await;
        process.control.signal("USR1").await.unwrap();
        until(&mut process, "caught\n").await;
        assert!(process.control.signal("NOPE").await.is_err());
        process.control.signal("TERM").await.unwrap();
        assert_eq!(finish(process).await.2, End::Exited { status: 143 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_wrapper_is_no_success() {
    let world = world!();
    let process = world.command("demo.web", "kill -9 $PPID; sleep 100").await;
    let began = Instant::now();
    let (.., end) = finish(process).await;
    eprintln!("{end:?} after {:?}", began.elapsed());
    assert_eq!(end, End::Exited { status: 137 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_says_why_within_seconds() {
    let world = world!();
    let sh = |image: &str, change: fn(&mut Profile)| {
        let mut profile = Profile { image: image.to_owned(), ..Profile::default() };
        change(&mut profile);
        profile
    };
    let distroless = if world.real { "porthole.test/distroless:1" } else { "playground/distroless:1" };
    for (place, profile, code) in [
        ("demo.distroless", sh("registry.invalid/nope:1", |_| {}), "image_pull"),
        ("demo.distroless", sh("BAD IMAGE", |_| {}), "image_pull"),
        ("demo.distroless", sh(distroless, |_| {}), "no_shell"),
        ("demo.uid10001", sh(world.tools, |profile| profile.user = Some(0)), "container_config"),
        ("demo.web+nope", sh(world.tools, |_| {}), "no_such_container"),
        ("restricted.app", sh(world.tools, |profile| profile.preset = Preset::Sysadmin), "pod_security"),
    ] {
        if !world.real && place == "demo.uid10001" {
            continue;
        }
        let began = Instant::now();
        let started = world.start(place, &profile, Program::Command("true".to_owned()), None).await;
        let Err(error) = started else { panic!("{place} {} started", profile.image) };
        eprintln!("{:?} {}: {}\n    {error}", began.elapsed(), error.code(), error.person());
        assert_eq!(error.code(), code, "{error}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_image_cannot_be_pulled_can_be_entered() {
    let world = world!();
    let apart = Profile { target_processes: false, ..world.profile() };
    let entered = world.start("demo.broken", &apart, Program::Command("echo in; id -u".to_owned()), None).await;
    let (stdout, _, end) = finish(entered.unwrap()).await;
    assert_eq!((&*text(&stdout), end), ("in\n0\n", End::Exited { status: 0 }));
    let joined = world.start("demo.broken", &world.profile(), Program::Command("true".to_owned()), None).await;
    assert_eq!(joined.err().map(|error| error.code()), Some("target_not_running"));
    let restricted = world.run("restricted.app", "id -u; exit 4").await;
    assert!(["65532\n", "10001\n"].contains(&&*text(&restricted.0)), "{}", text(&restricted.0));
    assert_eq!(restricted.2, End::Exited { status: 4 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_need_their_program() {
    let world = world!();
    let mut process =
        world.start("demo.web", &world.profile(), Program::Sftp { read_only: false }, None).await.unwrap();
    // SSH_FXP_INIT, version 3, answered by SSH_FXP_VERSION.
    process.input.write(Bytes::from_static(&[0, 0, 0, 5, 1, 0, 0, 0, 3])).await.unwrap();
    let Some(Chunk::Stdout(answer)) = process.output.next().await else { panic!("no answer") };
    assert_eq!(answer[4..9], [2, 0, 0, 0, 3]);
    process.input.close().await.unwrap();
    assert_eq!(finish(process).await.2, End::Exited { status: 0 });
    if world.real {
        let plain = Profile { image: world.plain.to_owned(), ..Profile::default() };
        for program in [Program::Sftp { read_only: false }, Program::Command("rsync --server . .".to_owned())] {
            let (stdout, stderr, end) = finish(world.start("demo.web", &plain, program, None).await.unwrap()).await;
            eprintln!("{}", text(&stderr));
            assert_eq!((&*text(&stdout), end), ("", End::Exited { status: 254 }));
            assert!(
                text(&stderr).starts_with("porthole: the image porthole.test/busybox:1 of the profile test has no ")
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pods_ports_are_reached_and_nothing_else() {
    let world = world!();
    let dial = async |host: &str, port| {
        let grant = world.grant("demo.web", Action::Forward { host: host.to_owned(), port }).await;
        let began = Instant::now();
        let dialled = world.cluster.dial(&grant).await;
        eprintln!("dial {host}:{port}: {:?}", began.elapsed());
        dialled
    };
    let (mut reader, mut writer) = dial("localhost", 8080).await.unwrap().split();
    writer.write(Bytes::from_static(b"GET / HTTP/1.0\r\n\r\n")).await.unwrap();
    writer.close().await.unwrap();
    let mut answer = Vec::new();
    while let Some(bytes) = reader.next().await {
        answer.extend_from_slice(&bytes);
    }
    assert!(text(&answer).starts_with("HTTP/1."), "{}", text(&answer));
    for (host, port, code) in
        [("127.0.0.1", 9, "refused"), ("10.0.0.1", 80, "not_the_pod"), ("db-0", 80, "not_the_pod")]
    {
        let Err(error) = dial(host, port).await else { panic!("{host} was reached") };
        eprintln!("{}: {error}", error.person());
        assert_eq!(error.code(), code);
    }
    let shell = world.grant("demo.web", Action::Shell).await;
    assert_eq!(world.cluster.dial(&shell).await.err().map(|error| error.code()), Some("wrong_action"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_mean_pods_workloads_and_services() {
    let world = world!();
    let resolve = |place: &str, subject: &str| world.cluster.resolve(&place_name(place), subject);
    // Both pods are ready at some time.
    let began = Instant::now();
    loop {
        let pods: std::collections::BTreeSet<_> =
            (0..32).map(|person| resolve("demo.web", &format!("p{person}")).unwrap().pod().to_owned()).collect();
        if pods.len() == 2 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "people do not spread over the pods: {pods:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let first = resolve("demo.web", "alice").unwrap();
    assert_eq!(first.workload(), Some("Deployment/web"));
    assert_eq!(resolve("demo.web", "alice").unwrap().pod(), first.pod());
    assert_eq!(resolve(&format!("demo.{}", first.pod()), "bob").unwrap().pod(), first.pod());
    assert_eq!(resolve("demo.db", "alice").unwrap().pod(), "db-0");
    assert_eq!(resolve("demo.db-0", "alice").unwrap().workload(), Some("StatefulSet/db"));
    for nothing in ["demo.nope", "nope.web", "team.web"] {
        let error = resolve(nothing, "alice").unwrap_err();
        assert_eq!((error.code(), &*error.person()), ("not_found", crate::authorize::NOT_OPEN));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_goes_away_is_told_and_leaves_nothing_behind() {
    let proxy = Proxy::new().await;
    let Some(world) = World::enter_by(Some(&proxy)).await else { return };
    let mut process = world.command("demo.web", "trap '' HUP; echo on; sleep 1003").await;
    until(&mut process, "on\n").await;

    proxy.open.send_replace(false);
    let began = Instant::now();
    let control = process.control.clone();
    let (.., end) = finish(process).await;
    assert!(matches!(end, End::Lost { .. }), "{end:?}");
    let command = || Program::Command("echo again".to_owned());
    let refused = world.start("demo.web", &world.profile(), command(), None).await;
    assert_eq!(refused.err().map(|error| error.code()), Some("api_unavailable"));
    let forward = world.grant("demo.web", Action::Forward { host: "localhost".to_owned(), port: 8080 }).await;
    assert_eq!(world.cluster.dial(&forward).await.err().map(|error| error.code()), Some("api_unavailable"));
    eprintln!("told within {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(6));

    let ending = tokio::spawn(control.clone().end());
    tokio::time::sleep(Duration::from_secs(1)).await;
    proxy.open.send_replace(true);
    let back = Instant::now();
    assert!(tokio::time::timeout(PATIENCE, ending).await.expect("it ends").unwrap());
    assert!(matches!(control.state(), super::pod::State::Terminated { .. }));
    eprintln!("ended {:?} after the api server was back", back.elapsed());
    let again = world.start("demo.web", &world.profile(), command(), None).await.unwrap();
    assert_eq!(text(&finish(again).await.0), "again\n");
}
