//! The device login, with a provider that misbehaves: what the person reads, what the audit trail says, and who gets in.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::hostile::Raw;
use crate::house::{House, Plan, cluster, finish, finish_with, keygen, read_until, text};
use crate::issuer::{client, show};
use crate::provider::{Answer, DEVICE, KEYS, Provider, TOKEN};

/// A house whose people log in with this provider.
pub fn house(provider: &Provider, more: &str) -> House {
    let url = &provider.url;
    let config = format!(
        "[issuers.test]\nurl = \"{url}\"\naudiences = [\"porthole\"]\njwks-refresh-pause = \"0s\"\n\
         [device]\nissuer = \"test\"\n{more}"
    );
    House::build(Plan { config, ..Plan::default() })
}

/// `ssh` as a person has it, with a bare key and without a terminal.
pub fn ssh(house: &House, place: &str, command: &str) -> Command {
    let mut client = house.client("ssh");
    for option in ["CertificateFile=none", "LogLevel=INFO", "BatchMode=no"] {
        client.arg("-o").arg(option);
    }
    client.arg(format!("{place}@porthole")).arg(command);
    client
}

/// `ssh` as a person has it who has no key at all.
pub fn keyless(house: &House, place: &str, command: &str) -> Command {
    let mut client = house.client("ssh");
    client.args(["-o", "PubkeyAuthentication=no", "-o", "LogLevel=INFO", "-o", "BatchMode=no"]);
    client.arg(format!("{place}@porthole")).arg(command);
    client
}

pub fn begin(house: &House, place: &str, command: &str) -> Child {
    ssh(house, place, command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ssh is installed")
}

pub fn begun(event: &Value) -> bool {
    event["event"] == "login_pending" && event["code"] == "device_started"
}

/// Logs in as `token` says.
pub fn log_in(house: &House, provider: &Provider, token: &str) -> Output {
    provider.approve(token);
    let output = finish(&mut ssh(house, "demo.web", "echo in"));
    provider.pending();
    output
}

pub fn bare(house: &House) {
    // Else `ssh` takes the certificate that lies beside the key.
    fs::remove_file(house.file("id_ed25519-cert.pub")).expect("the house has it");
}

#[test]
fn a_person_approves_once_and_the_key_is_silent_from_then_on() {
    let provider = Provider::start();
    let house = house(&provider, "");
    bare(&house);
    let client = begin(&house, "demo.web", "echo in");
    let pending = house.await_audit("pending login", begun);
    provider.approve(&provider.token(|_, _| {}));
    let output = client.wait_with_output().expect("a child of ours");
    let said = text(&output.stderr);
    assert_eq!(text(&output.stdout), "in\n", "{said}");
    let fingerprint = pending["detail"].as_str().expect("the key was proved first");
    for word in ["demo.web", "127.0.0.1", "WDJB-MJHT", &format!("{}/device?user_code=", provider.url), fingerprint] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let accepted = house.await_audit("login", |event| event["event"] == "login_accepted");
    assert_eq!((&accepted["method"], &accepted["subject"]), (&json!("device"), &json!("mia")));

    let codes = provider.asked(DEVICE);
    let script = finish(house.client("ssh").args(["-o", "LogLevel=INFO", "demo.web@porthole", "echo again"]));
    assert_eq!((text(&script.stdout), text(&script.stderr)), ("again\n".to_owned(), String::new()));
    fs::write(house.file("notes.txt"), "copied\n").expect("writable");
    let copied = finish(house.client("scp").arg(house.file("notes.txt")).arg("demo.web@porthole:/tmp/login-notes.txt"));
    assert!(copied.status.success() && copied.stderr.is_empty(), "{copied:?}");
    house.await_audit("silent login", |event| event["method"] == "bound-key" && event["subject"] == "mia");
    assert_eq!(provider.asked(DEVICE), codes, "nobody was asked again");
}

#[test]
fn a_binding_that_has_ended_asks_again() {
    let provider = Provider::start();
    let house = house(&provider, "binding-lifetime = \"0s\"\n");
    bare(&house);
    let token = provider.token(|_, _| {});
    for _ in 0..2 {
        let output = log_in(&house, &provider, &token);
        assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
    }
    assert_eq!(provider.asked(DEVICE), 2);
}

#[test]
fn each_end_of_a_device_login_has_its_own_line_and_its_own_code() {
    let provider = Provider::start();
    let house = house(&provider, "");
    bare(&house);
    let raw = |status, bytes: &[u8]| Answer::Raw(status, bytes.to_vec());
    let table: [(&'static str, Answer, &str, &str); 8] = [
        (TOKEN, Answer::Json(400, json!({ "error": "access_denied" })), "device_denied", "was denied"),
        (TOKEN, Answer::Json(400, json!({ "error": "expired_token" })), "device_expired", "nobody approved"),
        (TOKEN, raw(200, b"<html>garbage"), "device_provider_broken", "does not work"),
        (
            TOKEN,
            Answer::Json(200, json!({ "access_token": "a", "token_type": "bearer" })),
            "device_no_token",
            "does not",
        ),
        (TOKEN, Answer::Json(400, json!({ "error": "invalid_client" })), "device_client_refused", "does not work"),
        (DEVICE, raw(500, b"down"), "device_provider_unavailable", "does not answer"),
        (DEVICE, raw(200, &vec![b' '; 1 << 20]), "device_provider_unavailable", "does not answer"),
        (DEVICE, raw(200, b"nonsense"), "device_provider_broken", "does not work"),
    ];
    for (path, answer, code, line) in table {
        provider.answer(path, answer);
        let output = finish(&mut ssh(&house, "demo.web", "echo in"));
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(255), String::new()), "{code}");
        let said = text(&output.stderr);
        assert!(said.lines().any(|said| said.starts_with("porthole: ") && said.contains(line)), "{code}: {said}");
        let refused = house.await_audit("refusal", |event| event["event"] == "login_refused");
        assert_eq!(refused["code"], code, "{refused}");
        provider.answer(path, Answer::Well);
        provider.pending();
        fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
    assert!(!house.log().contains("panicked"), "{}", house.log());
}

#[test]
fn a_provider_that_asks_for_patience_gets_it_and_the_person_reads_so() {
    let provider = Provider::start();
    let house = house(&provider, "");
    bare(&house);
    provider.error("slow_down");
    let client = begin(&house, "demo.web", "echo in");
    house.await_audit("slow down", |event| event["code"] == "device_slow_down");
    provider.approve(&provider.token(|_, _| {}));
    let output = client.wait_with_output().expect("a child of ours");
    assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("asks for patience"), "{}", text(&output.stderr));
}

#[test]
fn polling_ends_when_the_client_leaves_and_what_it_left_counts_for_a_while() {
    let provider = Provider::start();
    let house = house(&provider, "max-pending-per-address = 2\nbinding-lifetime = \"0s\"\n");
    bare(&house);
    let told = |code: &str| {
        house.await_audit(code, |event| event["code"] == code);
        fs::write(house.file("audit.jsonl"), "").expect("writable");
    };
    let begin = || {
        let client = begin(&house, "demo.web", "echo in");
        told("device_started");
        client
    };
    let leave = |mut client: Child| {
        client.kill().expect("a child of ours");
        client.wait().expect("a child of ours");
        told("device_client_left");
    };
    let refused = |line: &str, code: &str| {
        let refused = finish(&mut ssh(&house, "demo.web", "echo in"));
        assert!(text(&refused.stderr).contains(line), "{}", text(&refused.stderr));
        told(code);
    };
    let (first, second) = (begin(), begin());
    refused("too many logins wait at your address", "device_too_many_here");
    leave(first);
    // The place came free with the polling.
    let third = begin();
    provider.approve(&provider.token(|_, _| {}));
    for client in [second, third] {
        let output = client.wait_with_output().expect("a child of ours");
        assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
    }
    provider.pending();
    // Two that were finished are none that were left.
    leave(begin());
    refused("begun at your address and not finished", "device_too_many_left");
    assert_eq!(provider.asked(DEVICE), 4, "the provider is asked for no more");
}

#[test]
fn a_login_that_is_refused_for_too_many_tells_the_trail_which_key_it_bound() {
    let provider = Provider::start();
    let house = house(&provider, "[ssh]\nmax-connections-per-person = 1\n");
    bare(&house);
    let token = provider.token(|_, _| {});
    provider.approve(&token);
    let mut first = keyless(&house, "demo.web", "echo up; sleep 600");
    let mut first = first.stdout(Stdio::piped()).spawn().expect("ssh is installed");
    read_until(first.stdout.as_mut().expect("piped"), "up\n");
    assert_eq!(log_in(&house, &provider, &token).status.code(), Some(255));
    let refused = house.await_audit("refusal", |event| event["code"] == "too_many_connections");
    let detail = refused["detail"].as_str().expect("a word");
    assert!(detail.starts_with("mia, by device login at ") && detail.contains(", binds key SHA256:"), "{detail}");
    first.kill().expect("a child of ours");
    first.wait().expect("a child of ours");
}

#[test]
fn a_client_that_cannot_be_asked_fails_at_once_with_a_line() {
    let provider = Provider::start();
    let house = house(&provider, "");
    bare(&house);
    let began = std::time::Instant::now();
    let batch = finish(house.client("ssh").args(["-o", "LogLevel=INFO", "demo.web@porthole", "true"]));
    assert!(began.elapsed().as_secs_f64() < 2.0, "it took {:?}", began.elapsed());
    assert_eq!(batch.status.code(), Some(255));
    assert!(text(&batch.stderr).contains("log in once with plain ssh"), "{}", text(&batch.stderr));
    house.await_audit("refusal", |event| event["code"] == "device_not_tried");
}

#[test]
fn answers_that_nobody_asked_for_let_nobody_in_and_stop_nobody() {
    let provider = Provider::start();
    let house = house(&provider, "");
    // One, thousands, large ones, and then once more after the end.
    for responses in [vec![String::new()], vec!["x".to_owned(); 20_000], vec!["x".repeat(100_000)]] {
        let mut client = Raw::connect(house.port);
        assert!(client.ask_interactively("demo.web"), "the link comes first");
        assert!(!client.answer(responses.clone()));
        house.await_audit("refusal", |event| event["code"] == "device_unasked_answer");
        assert!(!client.answer(responses));
        assert!(!client.ask_interactively("demo.web"), "one code a connection");
        fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
    assert_eq!(provider.asked(DEVICE), 3);
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3));
    assert!(!house.log().contains("panicked"), "{}", house.log());
}

#[test]
fn whoever_has_a_certificate_gets_in_while_strangers_wait() {
    let provider = Provider::start();
    let house = house(&provider, "max-pending = 5\n");
    let mut waiting: Vec<_> = (0..20).map(|_| Raw::connect(house.port)).collect();
    for client in &mut waiting {
        client.ask_interactively("demo.web");
    }
    assert_eq!(provider.asked(DEVICE), 5, "the provider is asked for no more codes than may wait");
    let began = std::time::Instant::now();
    assert!(Raw::connect(house.port).log_in(&house, "demo.web"));
    assert!(began.elapsed().as_secs_f64() < 1.0, "it took {:?}", began.elapsed());
}

#[test]
fn whoever_waits_for_their_person_loses_their_place_to_no_silent_stranger() {
    let provider = Provider::start();
    let house = house(&provider, "[ssh]\nmax-unauthenticated = 3\n");
    bare(&house);
    let client = begin(&house, "demo.web", "echo in");
    house.await_audit("pending login", begun);
    let silent: Vec<_> = (0..6).map(|_| banner(&house)).collect();
    provider.approve(&provider.token(|_, _| {}));
    let output = client.wait_with_output().expect("a child of ours");
    assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
    drop(silent);
}

/// A stranger who says nothing, once the server has greeted them.
fn banner(house: &House) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", house.port)).expect("a server");
    read_until(&mut stream, "SSH-2.0-");
    stream
}

#[test]
fn a_rotated_key_is_learnt_and_the_old_one_believed_no_more() {
    let provider = Provider::start();
    let house = house(&provider, "binding-lifetime = \"0s\"\n");
    bare(&house);
    let before = provider.token(|_, _| {});
    assert_eq!(text(&log_in(&house, &provider, &before).stdout), "in\n");
    provider.rotate("second");
    assert_eq!(text(&log_in(&house, &provider, &provider.token(|_, _| {})).stdout), "in\n");
    assert_eq!(log_in(&house, &provider, &before).status.code(), Some(255));
    house.await_audit("refusal", |event| event["code"] == "token_retired_key");
    // Keys that cannot be asked for leave those known in force.
    provider.answer(KEYS, Answer::Raw(500, Vec::new()));
    assert_eq!(text(&log_in(&house, &provider, &provider.token(|_, _| {})).stdout), "in\n");
}

#[test]
fn what_is_taken_back_ends_its_sessions_and_asks_again() {
    let provider = Provider::start();
    // In a real cluster there is a right to it in Porthole's own namespace alone.
    let namespace = if cluster().real { "porthole" } else { "demo" };
    let house = house(&provider, &format!("bindings = \"cluster\"\nbindings-namespace = \"{namespace}\"\n"));
    bare(&house);
    let output = log_in(&house, &provider, &provider.token(|_, _| {}));
    assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
    let client = begin(&house, "demo.web", "echo up; sleep 600");
    house.await_audit("process", |event| {
        event["event"] == "process_started" && event["program"] == "echo up; sleep 600"
    });
    let revoke = |whose: [&str; 2]| {
        let mut revoke = Command::new(env!("CARGO_BIN_EXE_porthole"));
        finish(revoke.arg("revoke").args(whose).arg("--config").arg(house.file("porthole.toml")))
    };
    for (whose, said) in [
        (["--subject", "nobody"], "porthole: there is no binding of subject \"nobody\"\n"),
        (["--fingerprint", "SHA256:none"], "porthole: there is no binding of key \"SHA256:none\"\n"),
    ] {
        let nothing = revoke(whose);
        assert_eq!((nothing.status.code(), text(&nothing.stdout)), (Some(1), String::new()), "{nothing:?}");
        assert!(text(&nothing.stderr).ends_with(said), "{nothing:?}");
    }
    let revoked = revoke(["--subject", "mia"]);
    assert!(revoked.status.success() && text(&revoked.stdout).contains("SHA256:"), "{revoked:?}");
    let ended = client.wait_with_output().expect("a child of ours");
    assert_eq!(ended.status.code(), Some(254), "{ended:?}");
    assert!(text(&ended.stderr).contains("your login was taken back"), "{}", text(&ended.stderr));
    house.await_audit("revocation", |event| event["event"] == "login_revoked" && event["code"] == "binding_revoked");
    let asked = provider.asked(DEVICE);
    assert_eq!(text(&log_in(&house, &provider, &provider.token(|_, _| {})).stdout), "in\n");
    assert_eq!(provider.asked(DEVICE), asked + 1);
}

#[test]
fn what_was_issued_on_a_login_goes_when_that_is_taken_back_and_does_not_return_with_the_next() {
    let provider = Provider::start();
    let namespace = if cluster().real { "porthole" } else { "demo" };
    let config = format!(
        "[issuers.test]\nurl = \"{}\"\naudiences = [\"porthole\"]\n[certificate-authority]\nkeys = [\"own_ca\"]\n\
         [device]\nissuer = \"test\"\nbindings = \"cluster\"\nbindings-namespace = \"{namespace}\"\n",
        provider.url
    );
    let before = |folder: &std::path::Path| {
        for name in ["own_ca", "fresh"] {
            keygen(folder, &["-q", "-t", "ed25519", "-N", "", "-f", name]);
        }
    };
    let house = House::build(Plan { config, before: Some(Box::new(before)), ..Plan::default() });
    bare(&house);
    let mut good = provider.token(|_, claims| claims["sub"] = json!("noa"));
    let entered = log_in(&house, &provider, &good);
    assert_eq!(text(&entered.stdout), "in\n", "{}", text(&entered.stderr));

    // One that was got with the key, and one that was got with that one.
    let key = fs::read(house.file("fresh.pub")).expect("there");
    let keep = |output: Output| {
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::write(house.file("fresh-cert.pub"), &output.stdout).expect("writable");
        assert!(show(&house, "fresh-cert.pub").contains("login-key@porthole"), "it names no login");
    };
    keep(finish_with(house.client("ssh").args(["login@porthole", "cert"]), &key));
    keep(finish_with(client(&house, "fresh").args(["login@127.0.0.1", "cert"]), &key));
    let mut open = client(&house, "fresh");
    open.args(["demo.web@127.0.0.1", "echo up; sleep 60"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let open = open.spawn().expect("ssh is installed");
    house
        .await_audit("process", |event| event["event"] == "process_started" && event["program"] == "echo up; sleep 60");

    let mut revoke = Command::new(env!("CARGO_BIN_EXE_porthole"));
    assert!(
        finish(revoke.args(["revoke", "--subject", "noa", "--config"]).arg(house.file("porthole.toml")))
            .status
            .success()
    );
    let ended = open.wait_with_output().expect("a child of ours");
    assert_eq!(ended.status.code(), Some(254), "{ended:?}");
    assert!(text(&ended.stderr).contains("your login was taken back"), "{}", text(&ended.stderr));
    let revoked = house.await_audit("revocation", |event| event["event"] == "login_revoked");
    assert_eq!((&revoked["method"], &revoked["code"]), (&json!("certificate"), &json!("binding_revoked")));
    let refused = || {
        fs::write(house.file("audit.jsonl"), "").expect("writable");
        let output = finish(client(&house, "fresh").args(["demo.web@127.0.0.1", "echo in"]));
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(255), String::new()));
        house.await_audit("refusal", |event| event["code"] == "binding_revoked" && event["method"] == "certificate");
    };
    refused();
    // The same person with the same key, later: another login, and not that one's certificates.
    good = provider.token(|_, claims| claims["sub"] = json!("noa"));
    assert_eq!(text(&log_in(&house, &provider, &good).stdout), "in\n");
    refused();
    keep(finish_with(house.client("ssh").args(["login@porthole", "cert"]), &key));
    let output = finish(client(&house, "fresh").args(["demo.web@127.0.0.1", "echo in"]));
    assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
}

#[test]
fn a_login_without_a_certificate_that_is_about_to_end_brings_none_and_is_told_so() {
    let provider = Provider::start();
    let config = format!(
        "[issuers.test]\nurl = \"{}\"\naudiences = [\"porthole\"]\n[certificate-authority]\nkeys = [\"own_ca\"]\n\
         [device]\nissuer = \"test\"\nbinding-lifetime = \"30s\"\n",
        provider.url
    );
    let before = |folder: &std::path::Path| keygen(folder, &["-q", "-t", "ed25519", "-N", "", "-f", "own_ca"]);
    let house = House::build(Plan { config, before: Some(Box::new(before)), ..Plan::default() });
    bare(&house);
    provider.approve(&provider.token(|_, _| {}));
    let key = fs::read(house.file("id_ed25519.pub")).expect("there");
    let refused = finish_with(&mut ssh(&house, "login", "cert"), &key);
    let said = text(&refused.stderr);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(254), 0), "{said}");
    assert!(
        said.contains("porthole: your login is about to end") && said.contains("log in anew in a minute"),
        "{said}"
    );
    house.await_audit("refusal", |event| event["event"] == "certificate_refused" && event["code"] == "login_over");
}

#[test]
fn a_revoked_certificate_ends_its_open_session() {
    let house = House::build(Plan {
        config: "[certificate]\nrevoked-file = \"revoked.txt\"\n".to_owned(),
        before: Some(Box::new(|folder| fs::write(folder.join("revoked.txt"), "# none\n").expect("writable"))),
        ..Plan::default()
    });
    let mut client = house.client("ssh");
    let client = client.args(["demo.web@porthole", "echo up; sleep 600"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let client = client.spawn().expect("ssh is installed");
    house.await_audit("process", |event| event["event"] == "process_started");
    house.change("revoked.txt", "id: dev\n");
    let ended = client.wait_with_output().expect("a child of ours");
    assert_eq!(ended.status.code(), Some(254), "{ended:?}");
    house.await_audit("revocation", |event| event["code"] == "certificate_revoked");
}
