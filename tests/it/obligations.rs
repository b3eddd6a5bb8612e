//! What a grant asks for in return, and how long it holds: as people see it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::forwards::Forwarder;
use crate::house::{House, Plan, finish, finish_with, read_until, text};

/// A house whose one rule asks for this.
fn asking(obligations: &str, config: &str) -> House {
    let policy = include_str!("policy.toml").replace("profiles = \"*\"", &format!("profiles = \"*\"\n{obligations}"));
    House::build(Plan { policy: Some(policy), config: config.to_owned(), ..Plan::default() })
}

#[test]
fn whoever_loses_a_role_loses_shell_copy_and_forward_with_a_reason() {
    let house = House::open();
    let mut shell = house.client("ssh");
    shell.args(["-tt", "demo.web@porthole"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut shell = shell.spawn().expect("ssh starts");
    shell.stdin.as_mut().expect("piped").write_all(b"echo si''gn\n").expect("open");
    read_until(shell.stdout.as_mut().expect("piped"), "sign\r\n");
    // A copy whose sender is in no hurry.
    let mut copy = house.client("ssh");
    copy.args(["demo.web@porthole", "scp -t /tmp"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut copy = copy.spawn().expect("ssh starts");
    copy.stdout.as_mut().expect("piped").read_exact(&mut [0; 1]).expect("scp is ready");
    let forward = Forwarder::open(&house, "master", "-L", ":localhost:8080");
    let mut connection = forward.connect();
    connection.write_all(b"G").expect("open");
    house.await_audit("forward", |event| event["event"] == "forward_opened");

    // Neither is ended by its own input's end.
    let inputs = [shell.stdin.take(), copy.stdin.take()];
    house.change("policy.toml", &include_str!("policy.toml").replace("developers", "others"));
    let shell = shell.wait_with_output().expect("a child");
    let copy = copy.wait_with_output().expect("a child");
    drop(inputs);
    let said = format!("{}{}", text(&shell.stdout), text(&shell.stderr));
    for (status, said) in [(shell.status, said), (copy.status, text(&copy.stderr))] {
        assert_eq!(status.code(), Some(254), "{said}");
        assert!(said.contains("porthole: this is no longer open to you"), "{said}");
    }
    connection.read_to_end(&mut Vec::new()).expect("the client closes it");
    for action in ["shell", "files", "forward"] {
        let withdrawn = |event: &Value| event["event"] == "grant_withdrawn" && event["action"] == action;
        let event = house.await_audit(action, withdrawn);
        assert_eq!(event["code"], "no_longer_allowed");
        assert!(event["reason"].as_str().is_some_and(|reason| reason.contains("has no role")), "{event}");
    }
    assert_eq!(house.ssh("demo.web", "true").status.code(), Some(254), "and nothing new begins");
}

#[test]
fn a_change_that_still_allows_ends_nothing() {
    let house = House::open();
    let mut client = house.client("ssh");
    client.args(["demo.web@porthole", "echo begin; read line; echo got $line; exit 6"]);
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ssh starts");
    read_until(client.stdout.as_mut().expect("piped"), "begin\n");
    house.change("policy.toml", &include_str!("policy.toml").replace("everything", "all-of-it"));
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3), "the new version is in force");
    client.stdin.take().expect("piped").write_all(b"word\n").expect("open");
    let output = client.wait_with_output().expect("a child");
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("got word\n", Some(6)));
}

#[test]
fn a_message_comes_before_the_program_and_not_into_its_output() {
    let house = asking("message = \"\"\"be careful:\nproduction \\u001b[31m\"\"\"", "");
    let output = house.ssh("demo.web", "echo out");
    assert_eq!(text(&output.stdout), "out\n");
    assert_eq!(text(&output.stderr), "be careful:\nproduction  [31m\n");
    let decided = house.await_audit("decision", |event| event["event"] == "decision");
    assert_eq!(decided["obligations"], json!({ "message": "be careful:\nproduction \u{1b}[31m" }));
}

#[test]
fn read_only_files_can_be_fetched_and_not_changed() {
    let house = asking("read-only = true", "");
    fs::write(house.file("mine"), "mine\n").expect("writable");
    let fetched = finish(house.client("scp").arg("demo.web@porthole:/etc/hostname").arg(house.file("theirs")));
    assert!(fetched.status.success(), "{}", text(&fetched.stderr));
    assert!(!fs::read(house.file("theirs")).expect("fetched").is_empty());
    let put = format!("put {} /tmp/porthole-read-only\n", house.file("mine").display());
    let put = finish_with(house.client("sftp").args(["-b", "-", "demo.web@porthole"]), put.as_bytes());
    assert!(!put.status.success() && text(&put.stderr).to_lowercase().contains("permission denied"), "{put:?}");
    let old = finish(house.client("scp").args(["-O"]).arg(house.file("mine")).arg("demo.web@porthole:/tmp/mine"));
    assert!(!old.status.success() && text(&old.stderr).contains("you may read files there, and write none"), "{old:?}");
    let refused = house.await_audit("refusal", |event| event["code"] == "read_only");
    assert_eq!((&refused["action"], &refused["allow"]), (&"files".into(), &false.into()));
}

#[test]
fn access_in_a_rule_opens_reading_alone() {
    let house = asking("", "");
    let policy = include_str!("policy.toml").replace("actions = \"*\"", "actions = \"files\"\naccess = \"read\"");
    house.change("policy.toml", &policy);
    let read = finish(house.client("scp").args(["-O", "demo.web@porthole:/etc/hostname"]).arg(house.file("theirs")));
    assert!(read.status.success(), "{}", text(&read.stderr));
    let write = finish(house.client("scp").arg("-O").arg(house.file("theirs")).arg("demo.web@porthole:/tmp/x"));
    assert!(!write.status.success() && text(&write.stderr).contains("not open to you"), "{write:?}");
}

#[test]
fn what_must_be_recorded_is_shown_as_it_is_recorded() {
    let folder = |folder: &std::path::Path| fs::create_dir(folder.join("recordings")).expect("writable");
    let policy = include_str!("policy.toml").replace("profiles = \"*\"", "profiles = \"*\"\nrecord = true");
    let config = "[recording]\nfolder = \"recordings\"\n".to_owned();
    let house = House::build(Plan { policy: Some(policy), config, before: Some(Box::new(folder)), ..Plan::default() });
    let output = house.ssh("demo.web", "printf 'caf\\303\\251\\n'; echo err >&2; exit 4");
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("café\n", Some(4)));
    let files: Vec<_> =
        fs::read_dir(house.file("recordings")).expect("there").map(|file| file.expect("readable")).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let cast = fs::read_to_string(file.path()).expect("text");
    let mut lines = cast.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON lines"));
    let header = lines.next().expect("a header");
    assert_eq!(header["version"], 2);
    let shown: String = lines.filter_map(|event| event[2].as_str().map(str::to_owned)).collect();
    assert!(shown.contains("café\n") && shown.contains("err\n"), "{cast}");
    let decided = house.await_audit("decision", |event| event["event"] == "decision");
    assert_eq!(decided["obligations"], json!({ "record": true }));
    let begun = house.await_audit("recording", |event| event["event"] == "recording_started");
    assert!(begun["file"].as_str().is_some_and(|told| file.path().ends_with(told)), "{begun}");
}

#[test]
fn what_must_be_recorded_and_cannot_be_is_refused_or_ended() {
    let house = asking("record = true", "");
    let refused = house.ssh("demo.web", "true");
    assert_eq!(refused.status.code(), Some(254));
    assert!(text(&refused.stderr).contains("only be done with a recording"), "{refused:?}");
    house.await_audit("refusal", |event| event["code"] == "recorder_unavailable");

    let folder = |folder: &std::path::Path| fs::create_dir(folder.join("recordings")).expect("writable");
    let policy = include_str!("policy.toml").replace("profiles = \"*\"", "profiles = \"*\"\nrecord = true");
    let config = "[recording]\nfolder = \"recordings\"\nmax-bytes = 10000\n".to_owned();
    let house = House::build(Plan { policy: Some(policy), config, before: Some(Box::new(folder)), ..Plan::default() });
    let full = house.ssh("demo.web", "head -c 100000 /dev/zero | tr '\\0' x; sleep 98765");
    assert_eq!(full.status.code(), Some(254));
    assert!(text(&full.stderr).contains("recording is full") && full.stdout.len() < 10_000, "{}", text(&full.stderr));
    house.await_audit("end", |event| event["event"] == "process_ended" && event["code"] == "recording_failed");
}
