//! The emulated cluster, through its own front door: a Kubernetes client, as Porthole is one.
//!
//! What is claimed here of attach, exec, port-forward and the ephemeral containers is what a real cluster does.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ContainerState, Event, Namespace, Pod};
use kube::api::{
    Api, AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::{Client, Config};
use porthole::playground::{Emulator, Isolation, Options, probe};
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// No single wait of a test takes longer, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(30);
const MEGABYTE: usize = 1024 * 1024;
/// How often what must be so every time is tried.
const ROUNDS: usize = 50;
static BLOCK: [u8; 32 * 1024] = [b'x'; 32 * 1024];

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_porthole"))
}

struct Playground {
    emulator: Emulator,
    client: Client,
    // Goes last.
    _root: tempfile::TempDir,
}

impl Playground {
    async fn start() -> Playground {
        Playground::with(probe(program())).await
    }

    async fn with(isolation: Isolation) -> Playground {
        let root = tempfile::tempdir().unwrap();
        let emulator = Emulator::start(Options {
            root: root.path().join("state"),
            listen: "127.0.0.1:0".parse().unwrap(),
            isolation,
            program: program().into(),
        })
        .await
        .unwrap();
        let client = client(emulator.kubeconfig()).await;
        Playground { emulator, client, _root: root }
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Waits until a pod is as `is` wants it, by a watch.
    async fn wait(&self, namespace: &str, pod: &str, is: impl Fn(&Pod) -> bool) -> Pod {
        let pods = self.pods(namespace);
        let found = async {
            let only = WatchParams::default().fields(&format!("metadata.name={pod}"));
            let mut events = pods.watch(&only, "0").await.unwrap().boxed();
            while let Some(event) = events.next().await {
                match event.unwrap() {
                    WatchEvent::Added(pod) | WatchEvent::Modified(pod) if is(&pod) => return pod,
                    WatchEvent::Error(status) => panic!("the watch ended: {status:?}"),
                    _ => {}
                }
            }
            panic!("the watch ended")
        };
        tokio::time::timeout(PATIENCE, found).await.expect("the pod never became so")
    }

    /// A pod of the Deployment `web` that is ready.
    async fn web(&self) -> String {
        let list = self.pods("demo").list(&ListParams::default().labels("app=web")).await.unwrap();
        let name = list.items.first().unwrap().metadata.name.clone().unwrap();
        self.wait("demo", &name, ready).await;
        name
    }

    async fn add(&self, pod: &str, container: Value) -> kube::Result<Pod> {
        let patch = json!({ "spec": { "ephemeralContainers": [container] } });
        self.pods("demo").patch_ephemeral_containers(pod, &PatchParams::default(), &Patch::Strategic(patch)).await
    }

    /// Adds an ephemeral container and waits until it runs.
    async fn run(&self, pod: &str, container: Value) {
        let name = container["name"].as_str().unwrap().to_owned();
        self.add(pod, container).await.unwrap();
        self.wait("demo", pod, |pod| state(pod, &name).is_some_and(|state| state.running.is_some())).await;
    }

    /// Waits for the end of an ephemeral container, and says its exit code.
    async fn exit_code(&self, pod: &str, name: &str) -> i32 {
        let ended = |pod: &Pod| state(pod, name).and_then(|state| state.terminated);
        let pod = self.wait("demo", pod, |pod| ended(pod).is_some()).await;
        ended(&pod).unwrap().exit_code
    }

    async fn attach(&self, pod: &str, container: &str, params: AttachParams) -> Stream {
        let request = Request::new("/api/v1/namespaces/demo/pods");
        self.stream(request.attach(pod, &params.container(container)).unwrap()).await
    }

    async fn exec(&self, namespace: &str, pod: &str, command: &[&str], params: AttachParams) -> Stream {
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/pods"));
        self.stream(request.exec(pod, command.iter().copied(), &params).unwrap()).await
    }

    async fn stream(&self, request: http::Request<Vec<u8>>) -> Stream {
        let (sink, stream) = self.client.connect(request).await.unwrap().into_stream().split();
        Stream { writer: Writer(sink), reader: Reader(stream) }
    }

    async fn wish(&self, faults: Value) {
        let request = http::Request::post("/playground/faults").body(faults.to_string().into_bytes()).unwrap();
        self.client.request_text(request).await.unwrap();
    }
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn state(pod: &Pod, container: &str) -> Option<ContainerState> {
    let statuses = pod.status.as_ref()?.ephemeral_container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == container)?.state.clone()
}

/// Why an ephemeral container waits.
fn waiting(pod: &Pod, container: &str) -> Option<(String, String)> {
    let waiting = state(pod, container)?.waiting?;
    Some((waiting.reason?, waiting.message?))
}

fn everything() -> AttachParams {
    AttachParams::default().stdin(true).stdout(true).stderr(true)
}

fn terminal() -> AttachParams {
    AttachParams::default().stdin(true).stdout(true).stderr(false).tty(true)
}

struct Stream {
    writer: Writer,
    reader: Reader,
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;
struct Writer(SplitSink<Socket, Message>);
struct Reader(SplitStream<Socket>);

/// All that came out of a stream.
#[derive(Debug, Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Value,
}

impl Output {
    fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    fn exit_code(&self) -> Option<&str> {
        self.status.pointer("/details/causes/0/message")?.as_str()
    }
}

impl Writer {
    async fn send(&mut self, channel: u8, bytes: &[u8]) {
        let mut frame = BytesMut::with_capacity(bytes.len() + 1);
        frame.put_u8(channel);
        frame.put_slice(bytes);
        self.0.send(Message::Binary(frame.freeze())).await.unwrap();
    }

    async fn end_stdin(&mut self) {
        self.send(255, &[0]).await;
    }
}

impl Reader {
    async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("the stream stands still");
            match next? {
                Ok(Message::Binary(mut frame)) => {
                    let bytes = frame.split_off(1);
                    return Some((frame[0], bytes));
                }
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn drain(&mut self) -> Output {
        let mut output = Output::default();
        while let Some((channel, bytes)) = self.next().await {
            match channel {
                1 => output.stdout.extend(&bytes),
                2 => output.stderr.extend(&bytes),
                3 => output.status = serde_json::from_slice(&bytes).unwrap(),
                _ => panic!("channel {channel}"),
            }
        }
        output
    }

    /// Reads standard output until it holds `text`.
    async fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            let (channel, bytes) = self.next().await.unwrap_or_else(|| panic!("ended before {text:?}: {seen:?}"));
            assert_eq!(channel, 1, "{bytes:?}");
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        seen
    }
}

fn refused(result: kube::Result<Pod>) -> (u16, String, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone(), status.message.clone()),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn exec_tells_streams_apart_and_the_exit_status() {
    let playground = Playground::start().await;
    let web = playground.web().await;
    let script = "cat; echo e >&2; exit 7";
    let mut stream = playground.exec("demo", &web, &["sh", "-c", script], everything()).await;
    stream.writer.send(0, b"to cat").await;
    stream.writer.end_stdin().await;
    let output = stream.reader.drain().await;
    assert_eq!((output.text().as_str(), output.stderr.as_slice()), ("to cat", b"e\n".as_slice()));
    assert_eq!((output.status["reason"].as_str(), output.exit_code()), (Some("NonZeroExitCode"), Some("7")));
    let mut stream = playground.exec("demo", &web, &["true"], AttachParams::default()).await;
    assert_eq!(stream.reader.drain().await.status["status"], "Success");
    playground.emulator.stop().await;
}

#[tokio::test]
async fn exec_of_what_is_not_there_is_said_on_the_error_channel() {
    let playground = Playground::start().await;
    let web = playground.web().await;
    let mut stream = playground.exec("demo", &web, &["nonsense"], AttachParams::default()).await;
    let status = stream.reader.drain().await.status;
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("exec: \"nonsense\": executable file not found in $PATH"), "{message}");
    let request = Request::new("/api/v1/namespaces/demo/pods");
    let request = request.exec("broken", ["true"], &AttachParams::default()).unwrap();
    assert!(playground.client.connect(request).await.is_err(), "its container does not run");
    playground.emulator.stop().await;
}

#[tokio::test]
async fn a_container_waits_for_its_input_and_ends_with_it() {
    for isolation in [probe(program()), Isolation::None] {
        let playground = Playground::with(isolation).await;
        let web = playground.web().await;
        let script = "read -r go; echo o; echo e >&2; cat; exit 7";
        playground.run(&web, json!({
            "name": "debug", "image": "playground/tools:1", "command": ["sh", "-c", script], "stdin": true, "stdinOnce": true,
        })).await;
        let mut stream = playground.attach(&web, "debug", everything()).await;
        stream.writer.send(0, b"go\nrest").await;
        stream.writer.end_stdin().await;
        let output = stream.reader.drain().await;
        assert_eq!((output.text().as_str(), output.stderr.as_slice()), ("o\nrest", b"e\n".as_slice()));
        // Attach never tells how the process ended; the pod's status does.
        assert_eq!(output.status["status"], "Success");
        assert_eq!(playground.exit_code(&web, "debug").await, 7);
        let logs = LogParams { container: Some("debug".into()), ..LogParams::default() };
        assert_eq!(playground.pods("demo").logs(&web, &logs).await.unwrap().len(), "o\ne\nrest".len());
        playground.emulator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_containers_in_one_pod_all_end_exactly() {
    let playground = Playground::start().await;
    let web = playground.web().await;
    for round in 0..ROUNDS {
        let name = format!("debug-{round}");
        playground
            .run(
                &web,
                json!({
                    "name": name, "image": "playground/tools:1", "stdin": true, "stdinOnce": true,
                    "command": ["sh", "-c", "read -r go; echo o; echo e >&2; exit 7"], "targetContainerName": "web",
                }),
            )
            .await;
        let mut stream = playground.attach(&web, &name, everything()).await;
        stream.writer.send(0, b"go\n").await;
        let output = stream.reader.drain().await;
        assert_eq!((output.text().as_str(), output.stderr.as_slice()), ("o\n", b"e\n".as_slice()), "round {round}");
        assert_eq!(playground.exit_code(&web, &name).await, 7, "round {round}");
    }
    playground.emulator.stop().await;
}

#[tokio::test]
async fn attach_replays_nothing() {
    let playground = Playground::start().await;
    let web = playground.web().await;
    let script = "read -r line; echo before; read -r line; echo after $line";
    let command = ["sh", "-c", script];
    playground
        .run(&web, json!({ "name": "debug", "image": "playground/tools:1", "command": command, "stdin": true }))
        .await;
    let mut first = playground.attach(&web, "debug", everything()).await;
    first.writer.send(0, b"go\n").await;
    first.reader.until("before\n").await;
    let mut second = playground.attach(&web, "debug", everything()).await;
    second.writer.send(0, b"x\n").await;
    assert_eq!(second.reader.drain().await.text(), "after x\n");
    assert_eq!(first.reader.drain().await.text(), "after x\n");
    playground.emulator.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_ends_the_input_only_with_stdin_once() {
    let playground = Playground::start().await;
    let web = playground.web().await;
    for (name, once) in [("once", true), ("open", false)] {
        let command = ["sh", "-c", "while read -r line; do echo $line; done; exit 3"];
        playground
            .run(
                &web,
                json!({
                    "name": name, "image": "playground/tools:1", "command": command, "stdin": true, "stdinOnce": once,
                }),
            )
            .await;
        let mut stream = playground.attach(&web, name, everything()).await;
        stream.writer.send(0, b"first\n").await;
        stream.reader.until("first\n").await;
    }
    // Its client is gone, so this one has ended; the other waits for the next client.
    assert_eq!(playground.exit_code(&web, "once").await, 3);
    let mut stream = playground.attach(&web, "open", everything()).await;
    stream.writer.send(0, b"second\n").await;
    stream.reader.until("second\n").await;
    playground.emulator.stop().await;
}

#[tokio::test]
async fn a_terminal_has_a_size_and_survives_its_client() {
    for isolation in [probe(program()), Isolation::None] {
        let playground = Playground::with(isolation).await;
        let web = playground.web().await;
        playground
            .run(
                &web,
                json!({
                    "name": "tty", "image": "playground/tools:1", "command": ["sh"], "stdin": true, "tty": true,
                }),
            )
            .await;
        let mut stream = playground.attach(&web, "tty", terminal()).await;
        stream.writer.send(4, br#"{"Width":101,"Height":33}"#).await;
        stream.writer.send(0, b"stty size; echo pid $$.; PS1=\n").await;
        let seen = stream.reader.until(".\r\n").await;
        assert!(seen.contains("33 101"), "{seen:?}");
        drop(stream);
        let mut stream = playground.attach(&web, "tty", terminal()).await;
        stream.writer.send(0, b"trap 'echo winch' WINCH; echo still $((40+2))\n").await;
        stream.reader.until("still 42").await;
        stream.writer.send(4, br#"{"Width":80,"Height":24}"#).await;
        stream.writer.send(0, b"stty size\n").await;
        stream.reader.until("24 80").await;
        stream.writer.send(0, b"exit 9\n").await;
        assert_eq!(stream.reader.drain().await.status["status"], "Success");
        assert_eq!(playground.exit_code(&web, "tty").await, 9);
        playground.emulator.stop().await;
    }
}

/// Both directions at full speed, with a reader that is slower than the writer's first burst.
async fn bulk(playground: &Playground, mut stream: Stream, megabytes: usize) {
    let started = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..megabytes * MEGABYTE / BLOCK.len() {
            stream.writer.send(0, &BLOCK).await;
        }
        stream.writer.end_stdin().await;
        stream.writer
    });
    let mut received = 0;
    while let Some((channel, bytes)) = stream.reader.next().await {
        if channel == 1 {
            received += bytes.len();
            // Compared as wholes, since a loop over bytes is what would take the time.
            assert!(bytes.chunks(BLOCK.len()).all(|piece| *piece == BLOCK[..piece.len()]));
        }
    }
    assert_eq!(received, megabytes * MEGABYTE);
    sending.await.unwrap();
    eprintln!("{megabytes} MiB both ways: {:?}", started.elapsed());
    assert!(playground.emulator.address().port() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_in_both_directions_is_complete() {
    let playground = Playground::start().await;
    let web = playground.web().await;
    playground
        .run(
            &web,
            json!({
                "name": "cat", "image": "playground/tools:1", "command": ["cat"], "stdin": true, "stdinOnce": true,
            }),
        )
        .await;
    let stream = playground.attach(&web, "cat", everything()).await;
    bulk(&playground, stream, 200).await;
    let stream = playground.exec("demo", &web, &["cat"], everything()).await;
    bulk(&playground, stream, 200).await;
    playground.emulator.stop().await;
}

#[tokio::test]
async fn a_reader_that_goes_stops_the_writer() {
    let playground = Playground::start().await;
    let web = playground.web().await;
    let script = "mkfifo $HOME/end; yes; echo over >$HOME/end";
    let mut stream = playground.exec("demo", &web, &["sh", "-c", script], AttachParams::default()).await;
    stream.reader.until("y\ny\n").await;
    drop(stream);
    let mut stream = playground.exec("demo", &web, &["sh", "-c", "cat $HOME/end"], AttachParams::default()).await;
    assert_eq!(stream.reader.drain().await.text(), "over\n");
    playground.emulator.stop().await;
}

#[tokio::test]
async fn ephemeral_containers_are_only_added() {
    let playground = Playground::start().await;
    let web = playground.web().await;
    let container = json!({ "name": "a", "image": "playground/tools:1", "command": ["sleep", "1000"] });
    playground.run(&web, container.clone()).await;
    // The same again changes nothing; another image would.
    playground.add(&web, container).await.unwrap();
    let (code, reason, message) = refused(playground.add(&web, json!({ "name": "a", "image": "other" })).await);
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert!(message.contains("existing ephemeral containers \"a\" may not be changed"), "{message}");
    let merge = Patch::Merge(json!({ "spec": { "ephemeralContainers": [{ "name": "b", "image": "x" }] } }));
    let pods = playground.pods("demo");
    let removed = pods.patch_ephemeral_containers(&web, &PatchParams::default(), &merge).await;
    let (code, _, message) = refused(removed);
    assert_eq!(code, 422);
    assert!(message.contains("existing ephemeral containers \"a\" may not be removed"), "{message}");
    let expected = format!("Pod {web:?} is invalid: spec.ephemeralContainers[1].name: Duplicate value: \"web\"");
    let twice = json!({ "name": "web", "image": "x" });
    assert_eq!(refused(playground.add(&web, twice).await), (422, "Invalid".into(), expected));
    let expected =
        format!("Pod {web:?} is invalid: spec.ephemeralContainers[1].targetContainerName: Not found: \"no\"");
    let lost = json!({ "name": "c", "image": "x", "targetContainerName": "no" });
    assert_eq!(refused(playground.add(&web, lost).await), (422, "Invalid".into(), expected));
    let nobody = playground.add("nobody", json!({ "name": "c", "image": "x" })).await;
    assert_eq!(refused(nobody), (404, "NotFound".into(), "pods \"nobody\" not found".into()));
    let stale = Patch::Strategic(json!({ "metadata": { "resourceVersion": "1" }, "spec": {} }));
    let (code, reason, _) = refused(pods.patch_ephemeral_containers(&web, &PatchParams::default(), &stale).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    playground.emulator.stop().await;
}

#[tokio::test]
async fn a_container_that_cannot_start_says_why() {
    let playground = Playground::start().await;
    let web = playground.web().await;
    playground.add(&web, json!({ "name": "image", "image": "registry.invalid/nope:1" })).await.unwrap();
    let waits = |name: &'static str, reason: &'static str| {
        move |pod: &Pod| waiting(pod, name).is_some_and(|(found, _)| found == reason)
    };
    let pod = playground.wait("demo", &web, waits("image", "ErrImagePull")).await;
    let (_, message) = waiting(&pod, "image").unwrap();
    assert!(message.contains("no such host"), "{message}");
    let root = json!({ "name": "root", "image": "playground/tools:1", "securityContext": { "runAsNonRoot": true } });
    playground.add(&web, root).await.unwrap();
    let pod = playground.wait("demo", &web, waits("root", "CreateContainerConfigError")).await;
    let (_, message) = waiting(&pod, "root").unwrap();
    assert!(message.starts_with("container has runAsNonRoot and image will run as root (pod: \"web-"), "{message}");
    let command = json!({ "name": "command", "image": "playground/tools:1", "command": ["/no/such"] });
    playground.add(&web, command).await.unwrap();
    let pod = playground.wait("demo", &web, waits("command", "RunContainerError")).await;
    let (_, message) = waiting(&pod, "command").unwrap();
    assert!(message.contains("runc create failed"), "{message}");
    playground.emulator.stop().await;
}

#[tokio::test]
async fn an_event_says_why_a_container_does_not_start_before_its_status_does() {
    let playground = Playground::start().await;
    let web = playground.web().await;
    playground.add(&web, json!({ "name": "image", "image": "registry.invalid/nope:1" })).await.unwrap();
    let events: Api<Event> = Api::namespaced(playground.client.clone(), "demo");
    let ours = WatchParams::default().fields(&format!("involvedObject.name={web}"));
    let mut news = events.watch(&ours, "0").await.unwrap().boxed();
    let mut reasons = Vec::new();
    while reasons.len() < 3 {
        let news = tokio::time::timeout(PATIENCE, news.next()).await.expect("an event").unwrap();
        let WatchEvent::Added(event) = news.unwrap() else { panic!("events are only added") };
        assert_eq!(event.involved_object.field_path.as_deref(), Some("spec.ephemeralContainers{image}"));
        reasons.push(event.reason.unwrap());
    }
    assert_eq!(reasons, ["Pulling", "Failed", "Failed"]);
    let pod = playground.pods("demo").get(&web).await.unwrap();
    let told = waiting(&pod, "image").map(|(reason, _)| reason);
    assert_ne!(told.as_deref(), Some("ErrImagePull"), "a kubelet's status is ten seconds late");
    playground.emulator.stop().await;
}

#[tokio::test]
async fn a_restricted_namespace_takes_only_what_passes() {
    let playground = Playground::start().await;
    playground.wait("restricted", "app", ready).await;
    let pods = playground.pods("restricted");
    let add = async |container: Value| {
        let patch = Patch::Strategic(json!({ "spec": { "ephemeralContainers": [container] } }));
        pods.patch_ephemeral_containers("app", &PatchParams::default(), &patch).await
    };
    let (code, reason, message) = refused(add(json!({ "name": "y", "image": "playground/tools:1" })).await);
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert!(
        message.starts_with("pods \"app\" is forbidden: violates PodSecurity \"restricted:latest\": "),
        "{message}"
    );
    add(json!({
        "name": "z",
        "image": "playground/tools:1",
        "command": ["sh", "-c", "exit $(id -u | cut -c 3-)"],
        "securityContext": {
            "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 10042,
            "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
        },
    }))
    .await
    .unwrap();
    let ended = |pod: &Pod| state(pod, "z").and_then(|state| state.terminated);
    let pod = playground.wait("restricted", "app", |pod| ended(pod).is_some()).await;
    if probe(program()) == Isolation::Namespaces {
        assert_eq!(ended(&pod).unwrap().exit_code, 42);
    }
    playground.emulator.stop().await;
}

#[tokio::test]
async fn a_debug_container_sees_its_targets_processes_and_files() {
    let playground = Playground::start().await;
    if probe(program()) == Isolation::None {
        eprintln!("skipped: no namespaces on this machine");
        return;
    }
    playground.wait("demo", "distroless", ready).await;
    let script = "read -r go; tr '\\0' ' ' </proc/1/cmdline; ls /proc/1/root; setsid sleep 1000 & echo done";
    playground.run("distroless", json!({
        "name": "debug", "image": "playground/tools:1", "command": ["sh", "-c", script], "stdin": true, "stdinOnce": true,
        "targetContainerName": "app",
    })).await;
    let mut stream = playground.attach("distroless", "debug", everything()).await;
    stream.writer.send(0, b"go\n").await;
    // The stream ends although something still holds the output: it dies with its container.
    let output = stream.reader.drain().await;
    let text = output.text();
    assert!(text.starts_with("pause") && text.ends_with("done\n"), "{output:?}");
    assert!(text.contains("\nproc\n") && !text.contains("usr"), "{output:?}");
    let mut stream = playground.exec("demo", "distroless", &["sh"], AttachParams::default()).await;
    let status = stream.reader.drain().await.status;
    assert!(status["message"].as_str().unwrap().contains("executable file not found"), "{status}");
    playground.emulator.stop().await;
}

#[tokio::test]
async fn port_forward_reaches_the_pods_own_port() {
    for isolation in [probe(program()), Isolation::None] {
        let playground = Playground::with(isolation).await;
        let web = playground.web().await;
        let request = Request::new("/api/v1/namespaces/demo/pods").portforward(&web, &[8080, 81]).unwrap();
        let mut stream = playground.stream(request).await;
        stream.writer.send(0, b"GET / HTTP/1.0\r\n\r\n").await;
        let mut channels: [Vec<u8>; 4] = Default::default();
        while let Some((channel, bytes)) = stream.reader.next().await {
            channels[usize::from(channel)].extend(&bytes);
        }
        let [data, error, _, refused] = channels.map(|bytes| {
            assert_eq!(bytes.len().min(2), 2);
            (u16::from_le_bytes([bytes[0], bytes[1]]), String::from_utf8(bytes[2..].to_vec()).unwrap())
        });
        assert_eq!((data.0, error.0, refused.0), (8080, 8080, 81));
        assert!(data.1.ends_with(&format!("{web}\n")), "{data:?}");
        assert!(error.1.is_empty() && refused.1.contains("connect: connection refused"), "{error:?} {refused:?}");
        playground.emulator.stop().await;
    }
}

#[tokio::test]
async fn a_deleted_pod_is_replaced() {
    let playground = Playground::start().await;
    let web = playground.web().await;
    let pods = playground.pods("demo");
    let version = pods.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    pods.delete(&web, &DeleteParams::default()).await.unwrap();
    let mut events = pods.watch(&WatchParams::default().labels("app=web"), &version).await.unwrap().boxed();
    let (mut terminating, mut gone, mut replaced) = (false, false, false);
    while !(terminating && gone && replaced) {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        match event {
            WatchEvent::Modified(pod) if pod.metadata.name.as_ref() == Some(&web) => {
                terminating |= pod.metadata.deletion_timestamp.is_some();
            }
            WatchEvent::Deleted(pod) => gone |= pod.metadata.name.as_ref() == Some(&web),
            WatchEvent::Modified(pod) => replaced |= pod.metadata.name.as_ref() != Some(&web) && ready(&pod),
            _ => {}
        }
    }
    playground.emulator.stop().await;
}

#[tokio::test]
async fn a_watch_from_too_long_ago_is_told_so() {
    let playground = Playground::start().await;
    let pods = playground.pods("demo");
    playground.wish(json!({ "forgetHistory": true })).await;
    let mut events = pods.watch(&WatchParams::default(), "1001").await.unwrap().boxed();
    match events.next().await.unwrap().unwrap() {
        WatchEvent::Error(status) => assert_eq!((status.code, status.reason.as_str()), (410, "Expired")),
        other => panic!("{other:?}"),
    }
    playground.emulator.stop().await;
}

#[tokio::test]
async fn without_the_token_the_door_is_shut() {
    let playground = Playground::start().await;
    let url = format!("http://{}", playground.emulator.address());
    let stranger = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
    match Api::<Namespace>::all(stranger).list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) => assert_eq!((status.code, status.reason.as_str()), (401, "Unauthorized")),
        other => panic!("{other:?}"),
    }
    playground.emulator.stop().await;
}

#[tokio::test]
async fn faults_come_when_asked_for() {
    let playground = Playground::start().await;
    let web = playground.web().await;
    playground.wish(json!({ "quotaExceeded": true })).await;
    let (code, _, message) = refused(playground.add(&web, json!({ "name": "a", "image": "playground/tools:1" })).await);
    assert_eq!(code, 403);
    assert!(message.contains("exceeded quota"), "{message}");
    playground.wish(json!({ "quotaExceeded": false, "nodeDown": true })).await;
    playground.wait("demo", &web, |pod| !ready(pod)).await;
    playground.wish(json!({ "nodeDown": false })).await;
    playground.wait("demo", &web, ready).await;
    let mut stream = playground.exec("demo", &web, &["cat"], everything()).await;
    stream.writer.send(0, b"hello").await;
    stream.reader.until("hello").await;
    playground.wish(json!({ "dropConnections": true })).await;
    assert!(stream.reader.next().await.is_none(), "the stream was cut");
    playground.emulator.stop().await;
}

#[tokio::test]
async fn a_pod_may_be_created_and_its_command_is_expanded() {
    let playground = Playground::start().await;
    let pods = playground.pods("demo");
    let pod = json!({
        "metadata": { "name": "own", "labels": { "x": "y" } },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "main", "image": "playground/tools:1", "command": ["sh", "-c", "echo '$(WHO)' '$(NOT)' '$$(WHO)' '$$HOME' '$HOME'; exit 1"],
                "env": [{ "name": "NAME", "value": "me" }, { "name": "WHO", "value": "it is $(NAME)" }],
            }],
        },
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    playground
        .wait("demo", "own", |pod| {
            pod.status.as_ref().and_then(|status| status.phase.as_deref()).is_some_and(|phase| phase == "Failed")
        })
        .await;
    let log = pods.logs("own", &LogParams::default()).await.unwrap();
    // A trap of the real one: `$$` is `$`, so whoever writes commands for a shell doubles what it means.
    assert_eq!(log, "it is me $(NOT) $(WHO) $HOME $HOME\n");
    playground.emulator.stop().await;
}

#[tokio::test]
async fn nothing_is_left_behind() {
    for isolation in [probe(program()), Isolation::None] {
        let playground = Playground::with(isolation).await;
        let web = playground.web().await;
        let mark = format!("{}", 100_000_000 + u64::from(playground.emulator.address().port()));
        let command = format!("setsid sleep {mark} & sleep {mark}");
        playground.run(&web, json!({
            "name": "a", "image": "playground/tools:1", "command": ["sh", "-c", command], "targetContainerName": "web",
        })).await;
        let exec = ["sh", "-c", &command];
        let _stream = playground.exec("demo", &web, &exec, terminal()).await;
        playground.emulator.stop().await;
        let left: Vec<_> = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("cmdline")).ok())
            .filter(|line| line.contains(&mark))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
