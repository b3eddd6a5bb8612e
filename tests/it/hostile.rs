//! What a bad client sends: it learns nothing, stops nobody, and ends nothing but its own connection.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use russh::client::{AuthResult, Config, Handle, Handler, KeyboardInteractiveAuthResponse};
use russh::keys::{Certificate, PrivateKey};
use russh::{ChannelMsg, client};

use crate::house::{House, PATIENCE, Plan, text};

/// A client that says what no `ssh` would.
pub struct Raw {
    runtime: tokio::runtime::Runtime,
    handle: Handle<Trusting>,
}

pub struct Trusting;

impl Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &russh::keys::PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

impl Raw {
    pub fn connect(port: u16) -> Raw {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connecting = client::connect(Arc::new(Config::default()), ("127.0.0.1", port), Trusting);
        let handle = runtime.block_on(connecting).expect("a server");
        Raw { runtime, handle }
    }

    pub fn log_in_with_password(&mut self, user: &str, password: &str) -> bool {
        let answer = self.runtime.block_on(self.handle.authenticate_password(user, password));
        matches!(answer, Ok(AuthResult::Success))
    }

    /// Asks to log in by keyboard-interactive: whether the server asks something in return.
    pub fn ask_interactively(&mut self, user: &str) -> bool {
        let answer = self.runtime.block_on(self.handle.authenticate_keyboard_interactive_start(user, None));
        matches!(answer, Ok(KeyboardInteractiveAuthResponse::InfoRequest { .. }))
    }

    /// Answers what was asked, or was not: whether that let somebody in.
    pub fn answer(&mut self, responses: Vec<String>) -> bool {
        let answer = self.runtime.block_on(self.handle.authenticate_keyboard_interactive_respond(responses));
        matches!(answer, Ok(KeyboardInteractiveAuthResponse::Success))
    }

    pub fn log_in(&mut self, house: &House, user: &str) -> bool {
        let read = |name: &str| std::fs::read_to_string(house.file(name)).expect("the house has it");
        self.log_in_as(user, &read("id_ed25519"), &read("id_ed25519-cert.pub"))
    }

    pub fn log_in_as(&mut self, user: &str, key: &str, certificate: &str) -> bool {
        let key = PrivateKey::from_openssh(key).expect("a key");
        let certificate = Certificate::from_openssh(certificate).expect("a certificate");
        let answer = self.runtime.block_on(self.handle.authenticate_openssh_cert(user, Arc::new(key), certificate));
        matches!(answer, Ok(AuthResult::Success))
    }

    /// Runs a command: its stderr and status.
    fn run(&mut self, command: &str) -> (String, Option<u32>) {
        self.runtime.block_on(async {
            let mut channel = self.handle.channel_open_session().await.expect("a channel");
            channel.exec(true, command).await.expect("sent");
            let (mut said, mut status) = (Vec::new(), None);
            while let Some(message) = channel.wait().await {
                match message {
                    ChannelMsg::ExtendedData { data, .. } => said.extend_from_slice(&data),
                    ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                    _ => {}
                }
            }
            (text(&said), status)
        })
    }
}

/// Names that somebody might try, from a fixed seed: the same ones every time.
fn names() -> Vec<String> {
    let alphabet: Vec<char> = "abz09-.+~_/:@ \t\n\0'\"$`\\;|&<>(){}[]*?!#%^=,ÄéЖ中\u{202e}\u{feff}💥".chars().collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut names: Vec<String> =
        (0..300).map(|_| (0..=next(40)).map(|_| alphabet[next(alphabet.len())]).collect()).collect();
    names.extend(
        ["../../etc/passwd", "demo.web;id", "demo.web+", "demo.web~~", ".", "..", "~", "+", "demo.", "*.*"]
            .map(str::to_owned),
    );
    names.push("a".repeat(100_000));
    names.push(format!("demo.{}", "a.".repeat(5000)));
    names
}

#[test]
fn hostile_login_names_get_a_line_and_the_server_stays() {
    let house = House::open();
    for name in names() {
        let mut client = Raw::connect(house.port);
        assert!(client.log_in(&house, &name), "the name is no part of who somebody is: {name:?}");
        let (said, status) = client.run("echo never");
        assert_eq!(status, Some(254), "{name:?}: {said}");
        assert!(said.starts_with("porthole: ") && said.trim_end().lines().count() == 1, "{name:?}: {said:?}");
        assert!(said.trim_end().chars().all(|c| !c.is_control()), "{name:?}: {said:?}");
    }
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3));
    assert!(!house.log().contains("panicked"), "{}", house.log());
}

#[test]
fn a_client_that_does_not_log_in_is_gone_at_the_deadline() {
    let house = House::build(Plan { config: "[ssh]\nlogin-deadline = \"1s\"\n".to_owned(), ..Plan::default() });
    // One that says nothing, one that stops after its banner, one that never ends its banner.
    for said in [b"".as_slice(), b"SSH-2.0-slow\r\n", &[b'x'; 100]] {
        let mut stream = TcpStream::connect(("127.0.0.1", house.port)).expect("a server");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(said).expect("open");
        let mut answer = Vec::new();
        // Either an end or a reset; what matters is that it comes.
        let _ = stream.read_to_end(&mut answer);
        house.await_audit("end", |event| event["event"] == "connection_closed" && event["reason"] == "login_deadline");
        std::fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
}

#[test]
fn garbage_ends_its_own_connection_only() {
    let house = House::open();
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 1 << 16],
        vec![0xff; 1 << 16],
        b"SSH-2.0-x\r\n\xff\xff\xff\xff".to_vec(),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", house.port)).expect("a server");
        let _ = stream.write_all(&garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3));
    assert!(!house.log().contains("panicked"), "{}", house.log());
}

#[test]
fn silent_strangers_keep_nobody_out() {
    let house = House::build(Plan { config: "[ssh]\nmax-unauthenticated = 2\n".to_owned(), ..Plan::default() });
    let mut waiting = [(); 2].map(|()| {
        let mut stream = TcpStream::connect(("127.0.0.1", house.port)).expect("a server");
        // Its banner shows that it has a place, before the next one comes.
        stream.read_exact(&mut [0]).expect("a banner");
        stream
    });
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3));
    house.await_audit("displaced stranger", |event| event["reason"] == "displaced");
    // It was the oldest, and its connection has ended.
    let mut rest = Vec::new();
    waiting[0].read_to_end(&mut rest).expect("an end");
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3), "what has logged in is no stranger");
}

#[test]
fn nothing_runs_that_the_trail_has_not_told_of_however_early_a_client_leaves() {
    let config = format!(
        "[ssh]\nmax-channels-per-person = 8\n[profiles.shared]\nimage = \"{}\"\ntarget-mounts = true\n",
        crate::house::cluster().tools
    );
    let house = House::build(Plan { config, ..Plan::default() });
    let pod = text(&house.ssh("demo.web", "hostname").stdout).trim().to_owned();
    let place = format!("demo.{pod}~shared");
    let mark = format!("/data/early-{}", house.port);
    let mut client = Raw::connect(house.port);
    assert!(client.log_in(&house, &place));
    let mut taken = 0;
    for n in 0..24 {
        let channel = client.runtime.block_on(client.handle.channel_open_session());
        // There are never more of a person's sessions than may be, those that are still being ended included.
        let Ok(channel) = channel else { continue };
        taken += 1;
        client.runtime.block_on(async {
            channel.exec(false, format!("touch {mark}-{n}")).await.expect("sent");
            channel.close().await.expect("sent");
        });
    }
    assert!((8..24).contains(&taken), "{taken} of 24 were taken");
    drop(client);
    // The server ends when nothing is left of them.
    let trail = || house.audit();
    let begun = |event: &str| trail().iter().filter(|line| line["event"] == event).count();
    house.await_audit("the containers' ends", |_| begun("container_ended") + 1 >= begun("container_started"));
    let ran = text(&house.ssh(&place, &format!("ls {mark}-* 2>/dev/null")).stdout);
    for file in ran.lines() {
        let told = trail().iter().any(|line| {
            line["event"] == "process_started" && line["program"].as_str().is_some_and(|it| it.ends_with(file))
        });
        assert!(told, "{file} was made, and no event tells of it");
    }
    house.ssh(&place, &format!("rm -f {mark}-*"));
}

#[test]
fn what_is_sent_before_a_request_is_nobodys() {
    let house = House::open();
    let mut client = Raw::connect(house.port);
    assert!(client.log_in(&house, "demo.web"));
    let output = client.runtime.block_on(async {
        let mut channel = client.handle.channel_open_session().await.expect("a channel");
        channel.data(&b"too early\n"[..]).await.expect("sent");
        channel.exec(true, "cat").await.expect("sent");
        channel.data(&b"in time\n"[..]).await.expect("sent");
        channel.eof().await.expect("sent");
        let mut output = Vec::new();
        while let Some(message) = channel.wait().await {
            if let ChannelMsg::Data { data } = message {
                output.extend_from_slice(&data);
            }
        }
        output
    });
    assert_eq!(text(&output), "in time\n");
}

#[test]
fn channels_beyond_the_limit_are_refused_and_ended_ones_do_not_count() {
    let house = House::build(Plan { config: "[ssh]\nmax-channels-per-connection = 2\n".to_owned(), ..Plan::default() });
    let mut client = Raw::connect(house.port);
    assert!(client.log_in(&house, "demo.web"));
    for _ in 0..5 {
        assert_eq!(client.run("exit 3").1, Some(3));
    }
    let third = client.runtime.block_on(async {
        let one = client.handle.channel_open_session().await.expect("the first");
        let two = client.handle.channel_open_session().await.expect("the second");
        let third = client.handle.channel_open_session().await;
        drop((one, two));
        third.is_ok()
    });
    assert!(!third, "a third channel was opened");
}
