//! What is open while an authorizer changes its mind, or cannot say: it is asked again, and the grace is all it gets.

use std::io::Write as _;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::server::{Mode, Reply, Server};
use crate::house::{House, Plan, read_until, text};
use crate::screen::Window;

const GRACE: Duration = Duration::from_secs(3);

/// A house that asks this server again each second.
fn house(server: &Server, folder: &std::path::Path) -> House {
    let config = format!(
        "[authorize]\nask = [\"it\"]\nrecheck-interval = \"1s\"\nrecheck-grace = \"{}s\"\n\
         [authorizers.it]\ntype = \"webhook\"\nlimits.cache-lifetime = \"0s\"\n\
         [authorizers.it.server]\nurl = {:?}\nca-file = {:?}\n",
        GRACE.as_secs(),
        server.url(),
        folder.join("ca.pem")
    );
    House::build(Plan { config, ..Plan::default() })
}

/// A command that waits for its input.
fn waiting(house: &House) -> (Child, ChildStdin) {
    let mut client = house.client("ssh");
    client.args(["demo.web@porthole", "echo begin; read line; echo got $line; exit 6"]);
    let mut client =
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ssh starts");
    read_until(client.stdout.as_mut().expect("piped"), "begin\n");
    let keys = client.stdin.take().expect("piped");
    (client, keys)
}

/// Each in a house of its own, all at once: most of it is waiting.
#[test]
fn what_is_open_outlives_an_authorizer_that_fails_by_the_grace_and_no_longer() {
    std::thread::scope(|scope| {
        for mode in Mode::FAILURES {
            scope.spawn(move || {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let mut server = Server::encrypted(folder.path(), |_| Reply::json(&json!(true)));
                let house = house(&server, folder.path());
                let (client, _keys) = waiting(&house);
                server.set(mode);
                let begun = Instant::now();
                let ended = client.wait_with_output().expect("a child");
                let (took, said) = (begun.elapsed(), text(&ended.stderr));
                assert_eq!(ended.status.code(), Some(254), "{mode:?}: {said}");
                assert!(said.contains("could not be decided for 3s"), "{mode:?}: {said}");
                assert!(took >= GRACE && took < GRACE + Duration::from_secs(10), "{mode:?}: {took:?}");
                let event = house.await_audit("end", |event| event["event"] == "grant_withdrawn");
                assert_eq!(event["code"], "authorizer_unavailable", "{mode:?}");
            });
        }
    });
}

#[test]
fn what_is_open_goes_on_where_the_authorizer_is_back_within_the_grace() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::encrypted(folder.path(), |_| Reply::json(&json!(true)));
    let house = house(&server, folder.path());
    let (client, mut keys) = waiting(&house);
    server.set(Mode::Status500);
    house.await_log("nobody can say whether a session may go on");
    server.set(Mode::Well);
    let asked = server.asked();
    server.await_asked(asked + 2);
    keys.write_all(b"word\n").expect("open");
    drop(keys);
    let ended = client.wait_with_output().expect("a child");
    assert_eq!((text(&ended.stdout).as_str(), ended.status.code()), ("got word\n", Some(6)), "{}", text(&ended.stderr));
}

#[test]
fn a_server_that_says_no_by_now_ends_what_it_allowed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let allows = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&allows);
    let server = Server::encrypted(folder.path(), move |_| {
        Reply::json(&json!({ "allow": says.load(Ordering::Relaxed), "reason": "not in the group" }))
    });
    let house = house(&server, folder.path());
    let (client, _keys) = waiting(&house);
    allows.store(false, Ordering::Relaxed);
    let begun = Instant::now();
    let ended = client.wait_with_output().expect("a child");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(ended.status.code(), Some(254));
    assert!(text(&ended.stderr).contains("no longer open to you"), "{}", text(&ended.stderr));
    let event = house.await_audit("end", |event| event["event"] == "grant_withdrawn");
    assert_eq!((&event["code"], &event["reason"]), (&"no_longer_allowed".into(), &"it: not in the group".into()));
}

#[test]
fn a_yes_that_asks_for_more_by_now_ends_what_does_not_keep_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let records = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&records);
    let server = Server::encrypted(folder.path(), move |_| {
        Reply::json(&json!({ "allow": true, "obligations": { "record": says.load(Ordering::Relaxed) } }))
    });
    let house = house(&server, folder.path());
    let (client, _keys) = waiting(&house);
    records.store(true, Ordering::Relaxed);
    let ended = client.wait_with_output().expect("a child");
    assert_eq!(ended.status.code(), Some(254));
    let event = house.await_audit("end", |event| event["event"] == "grant_withdrawn");
    assert_eq!(event["reason"], "it must be recorded now, and is not");
}

/// What is on a screen is what somebody says is open, now.
#[test]
fn a_menu_shows_nothing_that_nobody_could_confirm_and_fills_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::encrypted(folder.path(), |request| {
        let asked: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
        Reply::json(&json!(asked["target"]["namespace"] == "demo"))
    });
    let house = house(&server, folder.path());
    let mut window = Window::open(&house, "dev", "xterm", [80, 24]);
    window.shows(&["demo", "distroless", "db-0"], &["looking", "team"]);
    server.set(Mode::Status500);
    window.shows(&["cannot be decided just now"], &["distroless", "db-0"]);
    server.set(Mode::Well);
    window.shows(&["distroless", "db-0"], &["cannot be decided just now"]);
    window.keys("\x03");
    let (status, bytes) = window.end();
    assert_eq!(status, Some(0));
    assert!(!text(&bytes).contains("vault"), "what is closed was in no frame");
    house.await_audit("refused list", |event| {
        event["event"] == "places_listed" && event["code"] == "authorizer_unavailable" && event["open"] == 0
    });
}
