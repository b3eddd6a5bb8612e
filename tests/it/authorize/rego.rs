//! Rego inside Porthole: bundles from files and from a server, and policies that go astray.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use porthole::authorize::{ActionKind, Authorizer as _};

use super::questions::developer;
use super::server::{Mode, Reply, Request, Server};
use super::{Asked, load, shipped};
use crate::house::{PATIENCE, finish, text};

/// A bundle with one policy.
fn bundle(folder: &Path, policy: &str) -> Vec<u8> {
    std::fs::write(folder.join("policy.rego"), policy).expect("writable");
    let output = finish(Command::new("tar").args(["-czf", "bundle.tar.gz", "policy.rego"]).current_dir(folder));
    assert!(output.status.success(), "{}", text(&output.stderr));
    std::fs::read(folder.join("bundle.tar.gz")).expect("just made")
}

fn says(reason: &str) -> String {
    format!("package porthole\ndecision := {{\"allow\": true, \"reason\": \"{reason}\"}}\n")
}

#[test]
fn a_bundle_of_the_shipped_policy_decides() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("bundle.tar.gz");
    let output = finish(Command::new("tar").arg("-czf").arg(&file).arg("-C").arg(shipped("rego")).arg("."));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let config = format!("authorize.ask = [\"it\"]\nauthorizers.it = {{ type = \"rego\", files = [{file:?}] }}\n");
    let decision = Asked::new(&config).decide(&developer(ActionKind::Shell)).expect("an answer");
    assert_eq!(decision.reason, r#"it: role "developer", rule "own-namespaces" allows"#);
}

#[test]
fn a_bundle_from_a_server_is_taken_when_it_is_new_and_good() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let served = Arc::new(Mutex::new((1, bundle(folder.path(), &says("one")))));
    let shown = Arc::clone(&served);
    let mut server = Server::plain(move |request: &Request| {
        let (version, bytes) = shown.lock().expect("not poisoned").clone();
        let etag = format!("\"{version}\"");
        if request.headers.get("if-none-match") == Some(&etag) {
            return Reply { status: 304, headers: vec![("ETag", etag)], body: Vec::new() };
        }
        Reply { status: 200, headers: vec![("ETag", etag)], body: bytes }
    });
    server.set(Mode::Status500);
    let config = format!(
        "authorize.ask = [\"it\"]\n[authorizers.it]\ntype = \"rego\"\nbundle-interval = \"1s\"\n\
         bundle.url = \"{}/bundle.tar.gz\"\n",
        server.url()
    );
    let asked = Asked::new(&config);
    let reason = || asked.decide(&developer(ActionKind::Shell)).map(|decision| decision.reason);
    let mut changes = asked.authorizers.changes();
    let mut await_change = || {
        let changed = async { tokio::time::timeout(PATIENCE, changes[0].changed()).await };
        asked.runtime.block_on(changed).expect("in time").expect("it lives");
    };
    server.await_asked(1);
    // Nobody has a policy yet, so whoever asks waits, and gets the first one.
    server.set(Mode::Well);
    assert_eq!(reason(), Ok("it: one".to_owned()));
    await_change();
    let put = |version: u32, bytes: Vec<u8>| *served.lock().expect("not poisoned") = (version, bytes);
    // Neither a broken bundle, nor none, nor a server that is away takes the good one's place.
    for (version, bytes) in [(2, bundle(folder.path(), "package porthole\ndecision := {")), (3, b"no bundle".to_vec())]
    {
        put(version, bytes);
        server.await_asked(server.asked() + 2);
        assert_eq!(reason(), Ok("it: one".to_owned()));
    }
    put(4, bundle(folder.path(), &says("four")));
    await_change();
    assert_eq!(reason(), Ok("it: four".to_owned()));
}

#[test]
fn a_policy_that_never_ends_is_no_answer() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("policy.rego");
    let policy = "package porthole\ndecision := count([1 | some i in numbers.range(1, 100000); \
                  some j in numbers.range(1, 100000); i * j == 0]) == 0\n";
    std::fs::write(&file, policy).expect("writable");
    let config = format!("authorize.ask = [\"it\"]\nauthorizers.it = {{ type = \"rego\", files = [{file:?}] }}\n");
    let asked = Asked::new(&config);
    let begun = Instant::now();
    let said = asked.decide(&developer(ActionKind::Shell)).expect_err("no answer").to_string();
    assert!(said.contains("the policy failed"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_policy_reaches_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("policy.rego");
    let server = Server::plain(|_| Reply::json(&serde_json::json!(true)));
    let policy =
        format!("package porthole\ndecision := http.send({{\"method\": \"get\", \"url\": {:?}}}).body\n", server.url());
    std::fs::write(&file, policy).expect("writable");
    let config = format!("authorize.ask = [\"it\"]\nauthorizers.it = {{ type = \"rego\", files = [{file:?}] }}\n");
    let said = Asked::new(&config).decide(&developer(ActionKind::Shell)).expect_err("no answer").to_string();
    assert!(said.contains("http.send"), "{said}");
    assert_eq!(server.asked(), 0);
}

#[test]
fn a_policy_that_has_no_such_rule_does_not_load() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("policy.rego");
    let config = format!("authorize.ask = [\"it\"]\nauthorizers.it = {{ type = \"rego\", files = [{file:?}] }}\n");
    for (policy, problem) in
        [("package porthole\nother := true", "decision"), ("package porthole\ndecision := {", "policy.rego")]
    {
        std::fs::write(&file, policy).expect("writable");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let config = load(folder.path(), &config).expect("it loads");
        let opened = runtime.block_on(async { porthole::authorize::open(&config, None).map(drop) });
        let said = opened.expect_err("it cannot be asked").to_string();
        assert!(said.starts_with("authorizers.it: ") && said.contains(problem), "{said}");
    }
}
