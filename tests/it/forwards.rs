//! Connections into the pod: `-L`, `-W`, `-D`, and what is refused.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::house::{House, Plan, await_change, finish, finish_with, keygen, read_until, text};

/// A client that only forwards, with a socket that tells when it is ready, and ports of its own choice.
pub struct Forwarder {
    client: Child,
    port: u16,
}

impl Forwarder {
    pub fn open(house: &House, name: &str, flag: &str, destination: &str) -> Forwarder {
        Forwarder::open_by(house.client("ssh"), house, name, flag, destination)
    }

    /// With an `ssh` that is not the house's usual one.
    pub fn open_by(mut client: Command, house: &House, name: &str, flag: &str, destination: &str) -> Forwarder {
        // A port that was free a moment ago: OpenSSH has no way to tell which one it took.
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let socket = house.file(name);
        client.args(["-M", "-N", "-o", "ExitOnForwardFailure=yes", "-S"]).arg(&socket);
        client.arg(flag).arg(format!("127.0.0.1:{port}{destination}")).arg("demo.web@porthole");
        let client = client.stderr(Stdio::null()).spawn().expect("ssh starts");
        await_change(house.folder(), || socket.exists().then_some(())).expect("the master's socket");
        Forwarder { client, port }
    }

    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).expect("ssh listens")
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// A program in the pod that listens on `port`, speaks first, counts what it gets until its peer's end, and answers.
struct Speaker {
    client: Child,
}

impl Speaker {
    fn open(house: &House, port: u16) -> Speaker {
        let program = format!(
            "perl -MIO::Socket::INET -e '$|=1; my $s=IO::Socket::INET->new(Listen=>9,LocalAddr=>\"127.0.0.1\",\
             LocalPort=>{port},ReuseAddr=>1) or die; print \"up\\n\"; while (my $c=$s->accept) {{ if (!fork) {{ \
             $c->autoflush(1); print $c \"220 hello\\n\"; my $l=<$c>; if ($l=~/^hang/) {{ sleep 9999 }} print $c \"got $l\"; exit }} }}'"
        );
        let mut client = house.client("ssh");
        let mut client =
            client.arg("demo.web@porthole").arg(program).stdout(Stdio::piped()).spawn().expect("ssh starts");
        read_until(client.stdout.as_mut().expect("piped"), "up");
        Speaker { client }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

#[test]
fn a_web_pod_answers_through_a_forward_and_through_socks() {
    let house = House::open();
    let forward = Forwarder::open(&house, "l", "-L", ":localhost:8080");
    let mut stream = forward.connect();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let pod = text(&house.ssh("demo.web", "hostname").stdout);
    assert!(answer.starts_with("HTTP/1.") && answer.contains(pod.trim()), "{answer:?} of {pod:?}");

    let socks = Forwarder::open(&house, "d", "-D", "");
    let proxy = format!("socks5h://127.0.0.1:{}", socks.port);
    let fetched =
        finish(Command::new("curl").args(["-sS", "--max-time", "20", "-x", &proxy, "http://localhost:8080/"]));
    assert!(text(&fetched.stdout).contains(pod.trim()), "{fetched:?}");
    house
        .await_audit("forward", |event| event["event"] == "forward_opened" && event["destination"] == "localhost:8080");
}

#[test]
fn a_server_that_speaks_first_is_heard_and_one_that_hangs_stops_nobody() {
    let house = House::open();
    let port = 20_000 + house.port % 10_000;
    let _speaker = Speaker::open(&house, port);
    let forward = Forwarder::open(&house, "l", "-L", &format!(":127.0.0.1:{port}"));

    let mut hung = forward.connect();
    read_until(&mut hung, "220 hello\n");
    hung.write_all(b"hang\n").expect("open");
    // Far more than every buffer on the way takes: the rest of it stays with the client.
    hung.set_nonblocking(true).expect("a socket");
    let piece = [0u8; 64 << 10];
    for _ in 0..256 {
        if hung.write(&piece).is_err() {
            break;
        }
    }

    let mut other = forward.connect();
    read_until(&mut other, "220 hello\n");
    other.write_all(b"word\n").expect("open");
    read_until(&mut other, "got word\n");

    let mut beside = house.client("ssh");
    beside.arg("-S").arg(house.file("l")).args(["demo.web@porthole", "cat; exit 4"]);
    let output = finish_with(&mut beside, b"a shell beside\n");
    assert_eq!((text(&output.stdout), output.status.code()), ("a shell beside\n".into(), Some(4)));
}

#[test]
fn the_answer_comes_after_the_client_has_ended_its_side() {
    let house = House::open();
    let port = 30_000 + house.port % 10_000;
    let _speaker = Speaker::open(&house, port);
    let forward = Forwarder::open(&house, "l", "-L", &format!(":localhost:{port}"));
    let mut stream = forward.connect();
    stream.write_all(b"last words\n").expect("open");
    stream.shutdown(Shutdown::Write).expect("open");
    let mut all = String::new();
    stream.read_to_string(&mut all).expect("text");
    assert_eq!(all, "220 hello\ngot last words\n");
}

#[test]
fn only_the_pod_itself_can_be_reached_and_the_refusal_says_so() {
    let house = House::open();
    for destination in ["192.0.2.1:80", "example.com:80", "169.254.169.254:80", "10.96.0.1:443", "web.demo.svc:8080"] {
        let output = finish(house.client("ssh").args(["-o", "LogLevel=INFO", "-W", destination, "demo.web@porthole"]));
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains("porthole:"), "{destination}: {said}");
    }
    let closed = finish(house.client("ssh").args(["-o", "LogLevel=INFO", "-W", "localhost:1", "demo.web@porthole"]));
    assert!(!closed.status.success(), "{closed:?}");
    let remote = finish(house.client("ssh").args([
        "-o",
        "ExitOnForwardFailure=yes",
        "-R",
        "0:localhost:22",
        "demo.web@porthole",
        "true",
    ]));
    assert!(!remote.status.success(), "{remote:?}");
}

#[test]
fn a_forward_lasts_no_longer_than_it_was_granted() {
    let policy = include_str!("policy.toml").replace("actions = ", "max-duration = \"2s\"\nactions = ");
    let house = House::build(Plan { policy: Some(policy), ..Plan::default() });
    // Its input stays open, and nothing is asked of the pod's server.
    let mut client = house.client("ssh");
    client.args(["-W", "localhost:8080", "demo.web@porthole"]).stdin(Stdio::piped());
    let mut client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ssh starts");
    let ended = house.await_audit("forward's end", |event| event["event"] == "forward_ended");
    assert_eq!(ended["code"], "duration_over", "{ended}");
    client.wait().expect("it ends with its only channel");
}

#[test]
fn nothing_begins_on_a_certificate_that_has_ended_where_sessions_end_with_it() {
    let house = House::build(Plan {
        config: "[certificate]\nend-session-at-expiry = true\n".to_owned(),
        before: Some(Box::new(|folder| {
            keygen(
                folder,
                &["-q", "-s", "user_ca", "-I", "dev", "-n", "dev,group:developers", "-V", "-1m:+4s", "id_ed25519.pub"],
            );
        })),
        ..Plan::default()
    });
    let socket = house.file("master");
    let mut master = house.client("ssh");
    let mut master = master.args(["-M", "-N", "-S"]).arg(&socket).arg("demo.web@porthole").spawn().expect("ssh starts");
    await_change(house.folder(), || socket.exists().then_some(())).expect("the master's socket");
    let on_it = |arguments: &[&str]| finish(house.client("ssh").arg("-S").arg(&socket).args(arguments));
    let session = on_it(&["demo.web@porthole", "sleep 98765"]);
    assert_eq!(session.status.code(), Some(254), "{session:?}");
    assert!(text(&session.stderr).contains("your certificate has ended"), "{session:?}");
    let next = on_it(&["demo.web@porthole", "echo never"]);
    assert_eq!((next.status.code(), text(&next.stdout).as_str()), (Some(254), ""), "{next:?}");
    assert!(!on_it(&["-W", "localhost:8080", "demo.web@porthole"]).status.success());
    let mut refused = house.audit();
    refused.retain(|event| event["event"] == "decision" && event["code"] == "credential_expired");
    let actions: Vec<_> = refused.iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["exec", "forward"], "{:#?}", house.audit());
    master.kill().expect("it runs");
    master.wait().expect("a child");
}
