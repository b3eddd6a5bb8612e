//! The server as an operator has it: its start, its configuration's errors, its end.

use std::io::Read as _;
use std::process::{Command, Stdio};

use crate::house::{House, Plan, read_until, text};

#[test]
fn a_wrong_configuration_names_the_file_the_key_and_what_would_be_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("porthole.toml");
    for (config, words) in [
        ("[ssh]\nlogin-deadlin = \"5s\"\n", vec!["porthole.toml", "login-deadlin", "login-deadline", "2"]),
        ("[ssh]\nlogin-deadline = 5\n", vec!["porthole.toml", "login-deadline", "2"]),
        ("[ssh]\nlogin-deadline = \"5\"\n", vec!["\"30s\""]),
        ("", vec!["porthole.toml", "certificate.trusted-ca-files"]),
        ("[certificate]\ntrusted-ca-files = [\"ca.pub\"]\n", vec!["ca.pub"]),
        (
            "[certificate]\ntrusted-ca-files = [\"ca.pub\"]\n[session]\ndefault-profile = \"x\"\n",
            vec!["session.default-profile", "general"],
        ),
        (
            "[issuers.company]\nurl = \"https://login.example.com\"\naudiences = [\"ours\"]\n\
             [device]\nissuer = \"company\"\nclient-id = \"theirs\"\n",
            vec!["device.client-id", "theirs", "audiences", "issuers.company"],
        ),
        ("[ssh\n", vec!["porthole.toml", "1"]),
    ] {
        std::fs::write(&file, config).expect("writable");
        let output = Command::new(env!("CARGO_BIN_EXE_porthole"))
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .output()
            .expect("it runs");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{config:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{config:?}: {said}");
    }
}

#[test]
fn a_stop_lets_a_session_finish_and_takes_no_new_one() {
    let mut house = House::build(Plan { config: "[ssh]\ndrain-deadline = \"30s\"\n".to_owned(), ..Plan::default() });
    let mut client = house.client("ssh");
    client.args(["demo.web@porthole", "echo begin; read line; echo got $line; exit 6"]);
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ssh starts");
    let mut output = client.stdout.take().expect("piped");
    read_until(&mut output, "begin\n");
    house.signal("TERM");
    house.await_log("stopping");
    assert_eq!(house.ssh("demo.web", "true").status.code(), Some(255));
    use std::io::Write as _;
    client.stdin.take().expect("piped").write_all(b"word\n").expect("open");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("text");
    assert_eq!((rest.as_str(), client.wait().expect("a child").code()), ("got word\n", Some(6)));
    assert!(house.stop().success());
}

#[test]
fn a_session_that_outlasts_the_stop_gets_a_line_and_254() {
    let mut house = House::open();
    let mut client = house.client("ssh");
    client.args(["demo.web@porthole", "echo begin; sleep 98765"]);
    let mut client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ssh starts");
    read_until(client.stdout.as_mut().expect("piped"), "begin\n");
    assert!(house.stop().success(), "{}", house.log());
    let output = client.wait_with_output().expect("a child");
    assert_eq!(output.status.code(), Some(254), "{output:?}");
    assert!(text(&output.stderr).contains("porthole is restarting"), "{output:?}");
}

#[test]
fn a_connection_lives_through_new_keys() {
    let house = House::build(Plan { config: "[ssh]\nrekey-interval = \"1s\"\n".to_owned(), ..Plan::default() });
    let mut client = house.client("ssh");
    client.args([
        "-o",
        "RekeyLimit=1M",
        "demo.web@porthole",
        "for n in 1 2 3 4; do head -c 3000000 /dev/zero; sleep 1; done; exit 9",
    ]);
    let output = crate::house::finish(&mut client);
    assert_eq!((output.stdout.len(), output.status.code()), (12_000_000, Some(9)), "{}", text(&output.stderr));
}

#[test]
fn nobody_gets_in_while_the_audit_trail_cannot_be_written() {
    let house = House::build(Plan { config: "[audit]\nfile = \"/dev/full\"\n".to_owned(), ..Plan::default() });
    assert_eq!(house.ssh("demo.web", "true").status.code(), Some(255));
}

#[test]
fn the_host_key_is_made_once_where_the_configuration_says_so() {
    let config = "[ssh]\nhost-keys = [\"made\"]\ngenerate-host-key = true\n";
    let house = House::build(Plan { config: config.to_owned(), ..Plan::default() });
    let key = std::fs::read(house.file("made")).expect("made at the start");
    let scanned =
        Command::new("ssh-keyscan").args(["-p", &house.port.to_string(), "127.0.0.1"]).output().expect("it runs");
    let public = Command::new("ssh-keygen").arg("-y").arg("-f").arg(house.file("made")).output().expect("it runs");
    let blob = text(&public.stdout).split(' ').nth(1).expect("a key").to_owned();
    assert!(text(&scanned.stdout).contains(blob.trim()), "{}", text(&scanned.stdout));
    assert_eq!(std::fs::read(house.file("made")).expect("still there"), key);
}
