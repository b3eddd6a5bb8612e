//! The end of a device login: a connection that is kept open makes it no longer, and nothing that comes of it outlives it.

use std::fs;

use serde_json::Value;

use crate::device::{bare, keyless, ssh};
use crate::house::{House, Plan, await_change, finish, finish_with, keygen, text};
use crate::issuer::show;
use crate::provider::Provider;

/// A house whose logins last so long, and which signs certificates.
fn house(provider: &Provider, lifetime: &str, issuer: &str) -> House {
    let config = format!(
        "[issuers.test]\nurl = \"{}\"\naudiences = [\"porthole\"]\n{issuer}\
         [device]\nissuer = \"test\"\nbinding-lifetime = \"{lifetime}\"\n[certificate-authority]\nkeys = [\"own_ca\"]\n",
        provider.url
    );
    let before = |folder: &std::path::Path| keygen(folder, &["-q", "-t", "ed25519", "-N", "", "-f", "own_ca"]);
    let house = House::build(Plan { config, before: Some(Box::new(before)), ..Plan::default() });
    bare(&house);
    provider.approve(&provider.token(|_, _| {}));
    house
}

#[test]
fn on_a_connection_that_outlives_its_login_what_has_begun_goes_on_and_nothing_begins() {
    let provider = Provider::start();
    let house = house(&provider, "20s", "");
    let socket = house.file("master");
    let mut master = house.client("ssh");
    master.args(["-o", "CertificateFile=none", "-o", "BatchMode=no", "-M", "-N", "-S"]).arg(&socket);
    let mut master = master.arg("demo.web@porthole").spawn().expect("ssh starts");
    await_change(house.folder(), || socket.exists().then_some(())).expect("the master's socket");
    let on_it = |command: &str| finish(house.client("ssh").arg("-S").arg(&socket).args(["demo.web@porthole", command]));
    // It begins within the login's time, and ends after it.
    let long = on_it("sleep 21; echo went on");
    assert_eq!((text(&long.stdout).as_str(), long.status.code()), ("went on\n", Some(0)), "{}", text(&long.stderr));
    let late = on_it("echo in");
    assert_eq!((text(&late.stdout).as_str(), late.status.code()), ("", Some(254)));
    assert!(text(&late.stderr).contains("porthole: your login has ended"), "{}", text(&late.stderr));
    house.await_audit("refusal", |event| event["event"] == "decision" && event["code"] == "credential_expired");
    master.kill().expect("it runs");
    master.wait().expect("a child");
}

#[test]
fn where_the_issuer_says_so_the_end_of_the_login_is_that_of_its_sessions() {
    let provider = Provider::start();
    let house = house(&provider, "15s", "end-session-at-expiry = true\n");
    // The login itself, and then the key that it bound.
    for _ in 0..2 {
        let output = finish(&mut ssh(&house, "demo.web", "echo in; sleep 600"));
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("in\n", Some(254)));
        assert!(text(&output.stderr).contains("porthole: your login has ended"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_login_without_a_key_has_an_end_and_so_has_its_certificate() {
    let provider = Provider::start();
    let house = house(&provider, "1h", "");
    let whoami = finish(&mut keyless(&house, "login", "whoami --json"));
    let who: Value = serde_json::from_slice(&whoami.stdout).expect("JSON");
    assert!(who["login_until"].is_string(), "{who}");
    let key = fs::read(house.file("id_ed25519.pub")).expect("the house has it");
    let certified = finish_with(&mut keyless(&house, "login", "cert"), &key);
    assert!(certified.status.success(), "{}", text(&certified.stderr));
    let issued = house.await_audit("certificate", |event| event["event"] == "certificate_issued");
    // A certificate's dates are whole seconds.
    let until = issued["valid_until"].as_str().expect("a date").trim_end_matches('Z');
    house.await_audit("login", |event| {
        event["event"] == "login_accepted" && event["valid_until"].as_str().is_some_and(|end| end.starts_with(until))
    });
    fs::write(house.file("issued-cert.pub"), &certified.stdout).expect("writable");
    let shown = show(&house, "issued-cert.pub");
    assert!(shown.contains("login-until@porthole"), "{shown}");
}
