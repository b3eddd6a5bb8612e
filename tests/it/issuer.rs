//! Certificates from Porthole: who gets one, what it says, what it opens, and how it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::house::{House, Plan, finish, finish_with, keygen, text};

/// A house that issues certificates, with `more` in its configuration.
pub fn house(more: &str) -> House {
    House::build(Plan {
        config: format!("[certificate-authority]\nkeys = [\"own_ca\"]\n{more}"),
        before: Some(Box::new(|folder| {
            keygen(folder, &["-q", "-t", "ed25519", "-N", "", "-C", "own_ca", "-f", "own_ca"]);
            keygen(folder, &["-q", "-t", "ed25519", "-N", "", "-C", "me@laptop", "-f", "fresh"]);
            fs::write(folder.join("revoked.txt"), "# nobody\n").expect("writable");
        })),
        ..Plan::default()
    })
}

/// Asks for a certificate with the house's own login.
fn ask(house: &House, sent: &[u8]) -> Output {
    finish_with(house.client("ssh").args(["login@porthole", "cert"]), sent)
}

/// Gets a certificate for the key `name`, as a person would, and keeps it beside it.
fn certify(house: &House, name: &str) -> String {
    let key = fs::read(house.file(&format!("{name}.pub"))).expect("the key is there");
    keep(house, name, ask(house, &key))
}

fn keep(house: &House, name: &str, output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}\n{}", text(&output.stderr), house.log());
    let file = house.file(&format!("{name}-cert.pub"));
    fs::write(&file, &output.stdout).expect("writable");
    show(house, &format!("{name}-cert.pub"))
}

/// The certificate as `ssh-keygen` reads it.
pub fn show(house: &House, name: &str) -> String {
    let mut shown = Command::new("ssh-keygen");
    let shown = finish(shown.args(["-L", "-f"]).arg(house.file(name)).env("TZ", "UTC"));
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    text(&shown.stdout)
}

/// The rest of the line that begins with `name`.
pub fn line<'a>(shown: &'a str, name: &str) -> &'a str {
    let found = shown.lines().find_map(|line| line.trim().strip_prefix(name));
    found.unwrap_or_else(|| panic!("no {name} in:\n{shown}")).trim()
}

/// A client that knows only the key `name`, with the certificate beside it.
pub fn client(house: &House, name: &str) -> Command {
    let mut client = Command::new("ssh");
    let root = house.folder().display().to_string();
    client.args(["-F", "/dev/null", "-p", &house.port.to_string()]).stdin(Stdio::null());
    for option in [
        "HostKeyAlias=porthole".to_owned(),
        format!("UserKnownHostsFile={root}/known_hosts"),
        "IdentitiesOnly=yes".to_owned(),
        "IdentityAgent=none".to_owned(),
        "BatchMode=yes".to_owned(),
        "LogLevel=ERROR".to_owned(),
        format!("IdentityFile={root}/{name}"),
    ] {
        client.args(["-o", &option]);
    }
    client
}

fn run(house: &House, name: &str, place: &str, command: &str) -> Output {
    finish(client(house, name).arg(format!("{place}@127.0.0.1")).arg(command))
}

fn issued(house: &House) -> Value {
    let events = house.audit().into_iter().rev();
    events.into_iter().find(|event| event["event"] == "certificate_issued").expect("it is in the trail")
}

/// The lines of the list that begins with `name`.
fn list<'a>(shown: &'a str, name: &str) -> Vec<&'a str> {
    let lines = shown.lines().skip_while(|line| !line.trim().starts_with(name)).skip(1);
    lines.take_while(|line| line.starts_with("                ")).map(str::trim).collect()
}

#[test]
fn what_ssh_keygen_reads_in_a_certificate_is_what_the_trail_says_of_it_field_by_field() {
    for (more, options) in [("", vec![]), ("bind-source-address = true\n", vec!["source-address 127.0.0.1"])] {
        let house = house(more);
        let shown = certify(&house, "fresh");
        let event = issued(&house);
        println!("{shown}\n{event:#}");
        let said = |field: &str| event[field].as_str().unwrap_or_else(|| panic!("no {field} in {event}"));
        assert_eq!(line(&shown, "Serial:"), event["serial"].to_string());
        assert_ne!(event["serial"], 0);
        assert_eq!(line(&shown, "Key ID:"), format!("{:?}", said("key_id")));
        assert_eq!(said("key_id"), format!("dev session {}", said("session")));
        assert!(line(&shown, "Type:").ends_with("user certificate"));
        assert!(line(&shown, "Public key:").ends_with(&format!(" {}", said("key"))));
        assert!(line(&shown, "Signing CA:").contains(&format!(" {} ", said("ca"))));
        assert_eq!(serde_json::json!(list(&shown, "Principals:")), event["principals"]);
        assert_eq!(event["principals"], serde_json::json!(["user:dev", "group:developers"]));
        let date = |field| said(field).trim_end_matches('Z');
        assert_eq!(line(&shown, "Valid:"), format!("from {} to {}", date("valid_from"), date("valid_until")));
        assert_eq!(list(&shown, "Critical Options:"), options);
        assert_eq!(
            event["source_address"].as_str().map(|address| format!("source-address {address}")).as_deref(),
            options.first().copied()
        );
        for extension in ["permit-pty", "permit-port-forwarding", "permit-agent-forwarding", "login-until@porthole"] {
            assert!(list(&shown, "Extensions:").iter().any(|line| line.starts_with(extension)), "{extension}: {shown}");
        }
        assert_eq!(list(&shown, "Extensions:").len(), 4, "{shown}");
    }
}

#[test]
fn a_certificate_names_the_same_person_and_opens_the_same_doors() {
    let house = house("");
    certify(&house, "fresh");
    let event = issued(&house);
    assert_eq!(text(&run(&house, "fresh", "demo.web", "echo in").stdout), "in\n");
    let login = house.await_audit("login", |login| {
        login["event"] == "login_accepted" && login["credential"].to_string().contains(&event["serial"].to_string())
    });
    assert_eq!((&login["subject"], &login["groups"]), (&Value::from("dev"), &serde_json::json!(["developers"])));
    let whoami = text(&run(&house, "fresh", "login", "whoami").stdout);
    assert!(line(&whoami, "subject") == "dev" && line(&whoami, "groups") == "developers", "{whoami}");
}

#[test]
fn no_certificate_outlives_the_login_that_it_comes_from_however_often_it_is_renewed() {
    let house = house("lifetime = \"30m\"\n");
    let until = |shown: &str| line(shown, "Valid:").rsplit_once(" to ").expect("an end").1.to_owned();
    let login_until = show(&house, "id_ed25519-cert.pub");
    let first = certify(&house, "fresh");
    assert_ne!(until(&first), until(&login_until), "it should last half an hour of the hour");
    // The next one is got with the first, and after it one for which less than half an hour is left.
    let key = fs::read(house.file("fresh.pub")).expect("there");
    let second = finish_with(client(&house, "fresh").args(["login@127.0.0.1", "cert"]), &key);
    keep(&house, "fresh", second);
    let whoami = text(&run(&house, "fresh", "login", "whoami").stdout);
    let date = |text: &str| text.trim_end_matches('Z').to_owned();
    assert_eq!(date(line(&whoami, "login until")), until(&login_until), "{whoami}");

    keygen(
        house.folder(),
        &["-q", "-s", "user_ca", "-I", "dev", "-n", "dev,group:developers", "-V", "-1m:+20m", "id_ed25519.pub"],
    );
    let login_until = until(&show(&house, "id_ed25519-cert.pub"));
    assert_eq!(until(&certify(&house, "fresh")), login_until);
    let renewed = finish_with(client(&house, "fresh").args(["login@127.0.0.1", "cert"]), &key);
    assert_eq!(until(&keep(&house, "fresh", renewed)), login_until);

    keygen(house.folder(), &["-q", "-s", "user_ca", "-I", "dev", "-n", "dev", "-V", "-1m:+50s", "id_ed25519.pub"]);
    let refused = ask(&house, &key);
    assert_eq!(refused.status.code(), Some(254));
    assert!(text(&refused.stderr).contains("log in anew"), "{}", text(&refused.stderr));
}

#[test]
fn a_certificate_has_no_right_that_the_login_had_not() {
    let house = house("");
    let sign = |options: &[&str]| {
        let base = ["-q", "-s", "user_ca", "-I", "dev", "-n", "dev,group:developers", "-V", "+1h"];
        keygen(house.folder(), &[base.as_slice(), options, &["id_ed25519.pub"]].concat());
    };
    sign(&["-O", "clear", "-O", "permit-pty", "-O", "source-address=127.0.0.0/8"]);
    let shown = certify(&house, "fresh");
    assert!(shown.contains("permit-pty") && !shown.contains("permit-port-forwarding"), "{shown}");
    assert!(shown.contains("source-address 127.0.0.0/8"), "{shown}");

    sign(&["-O", "force-command=cert"]);
    let key = fs::read(house.file("fresh.pub")).expect("there");
    let refused = ask(&house, &key);
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(254), String::new()));
}

#[test]
fn rules_decide_what_a_group_gets_and_an_address_can_be_bound() {
    let house = house("rules = [{ groups = [\"developers\"], lifetime = \"10m\", bind-source-address = true }]\n");
    let shown = certify(&house, "fresh");
    assert!(shown.contains("source-address 127.0.0.1"), "{shown}");
    assert_eq!(text(&run(&house, "fresh", "demo.web", "echo in").stdout), "in\n");
    let elsewhere = finish(client(&house, "fresh").args(["-b", "127.0.0.2", "demo.web@127.0.0.1", "echo in"]));
    assert_eq!(elsewhere.status.code(), Some(255));
    house.await_audit("refusal", |event| event["code"] == "certificate_source_address");

    keygen(house.folder(), &["-q", "-s", "user_ca", "-I", "eve", "-n", "eve", "-V", "+1h", "id_ed25519.pub"]);
    let refused = ask(&house, &fs::read(house.file("fresh.pub")).expect("there"));
    assert_eq!(refused.status.code(), Some(254));
    assert!(text(&refused.stderr).contains("you may not have a certificate"), "{}", text(&refused.stderr));
    house.await_audit("refusal", |event| event["event"] == "certificate_refused" && event["code"] == "no_rule");
}

#[test]
fn what_is_no_key_gets_a_line_and_a_house_without_a_ca_says_so() {
    let closed = House::open();
    let refused = ask(&closed, b"ssh-ed25519 AAAA");
    assert_eq!(refused.status.code(), Some(254));
    assert!(text(&refused.stderr).contains("issues no certificates"), "{}", text(&refused.stderr));
    assert!(!text(&closed.ssh("login", "help").stdout).contains("cert"), "it offers what it does not have");

    let house = house("");
    assert!(text(&house.ssh("login", "help").stdout).contains("cert "));
    keygen(house.folder(), &["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", "short"]);
    let read = |name: &str| fs::read(house.file(name)).expect("there");
    let garbage: Vec<u8> = (0..4 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (sent, code) in [
        (Vec::new(), "no_key"),
        (vec![b'A'; 4 << 20], "key_too_long"),
        (garbage, "key_too_long"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "key_malformed"),
        ([read("fresh.pub"), read("id_ed25519.pub")].concat(), "many_keys"),
        (read("fresh"), "private_key"),
        (read("id_ed25519-cert.pub"), "key_is_certificate"),
        (read("short.pub"), "key_weak"),
    ] {
        fs::write(house.file("audit.jsonl"), "").expect("writable");
        let refused = ask(&house, &sent);
        let said = text(&refused.stderr);
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(254), 0), "{code}: {said}");
        assert!(said.starts_with("porthole: ") && said.lines().count() == 1, "{code}: {said}");
        house.await_audit(code, |event| event["event"] == "certificate_refused" && event["code"] == code);
    }
    certify(&house, "fresh");
    assert!(!house.log().contains("panicked"), "{}", house.log());
}

#[test]
fn where_no_certificates_are_issued_the_trail_has_who_asked() {
    let house = House::open();
    let refused = ask(&house, &fs::read(house.file("id_ed25519.pub")).expect("there"));
    let said = text(&refused.stderr);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(254), 0), "{said}");
    assert!(said.contains("issues no certificates"), "{said}");
    // It was there before the person heard it.
    let trail = house.audit();
    let event = trail.iter().find(|event| event["event"] == "certificate_refused").expect("it is in the trail");
    assert_eq!((&event["code"], &event["subject"]), (&Value::from("no_issuer"), &Value::from("dev")));
    assert!(said.contains(event["session"].as_str().expect("named")), "{said}");
}

/// An agent that ends with the value.
pub struct Agent(std::process::Child);

impl Agent {
    pub fn start(house_folder: &std::path::Path) -> Agent {
        let socket = house_folder.join("agent.sock");
        let mut agent = Command::new("ssh-agent");
        agent.arg("-D").arg("-a").arg(&socket).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let agent = Agent(agent.spawn().expect("ssh-agent is installed"));
        crate::house::await_change(house_folder, || socket.exists().then_some(())).expect("the agent starts");
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_key_in_an_agent_signs_and_an_agent_that_is_gone_is_said() {
    let house = House::build(Plan {
        config: "[certificate-authority]\nkeys = [\"own_ca.pub\"]\nagent-socket = \"agent.sock\"\n".to_owned(),
        before: Some(Box::new(|folder| {
            // Its private half is in the agent and nowhere else.
            keygen(folder, &["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "own_ca"]);
            keygen(folder, &["-q", "-t", "ed25519", "-N", "", "-f", "fresh"]);
        })),
        ..Plan::default()
    });
    let key = fs::read(house.file("fresh.pub")).expect("there");
    let refused = |why: &str| {
        let refused = ask(&house, &key);
        assert_eq!(refused.status.code(), Some(254), "{why}");
        assert!(text(&refused.stderr).contains("cannot be signed now"), "{why}: {}", text(&refused.stderr));
        house.await_audit(why, |event| event["detail"].as_str().is_some_and(|detail| detail.contains(why)));
    };
    refused("cannot be reached");
    let agent = Agent::start(house.folder());
    refused("does not sign");
    let mut add = Command::new("ssh-add");
    add.arg("-q").arg(house.file("own_ca")).env("SSH_AUTH_SOCK", house.file("agent.sock"));
    assert!(finish(&mut add).status.success());
    fs::remove_file(house.file("own_ca")).expect("there");
    let shown = certify(&house, "fresh");
    assert!(line(&shown, "Signing CA:").contains("rsa-sha2-512"), "{shown}");
    assert_eq!(text(&run(&house, "fresh", "demo.web", "echo in").stdout), "in\n");
    drop(agent);
    refused("cannot be reached");
}

#[test]
fn a_rotation_goes_on_believing_the_old_key_until_it_is_taken_out() {
    let house = House::build(Plan {
        config: "[certificate-authority]\nkeys = [\"now\", \"before\"]\n".to_owned(),
        before: Some(Box::new(|folder| {
            for name in ["now", "next", "fresh", "later"] {
                keygen(folder, &["-q", "-t", "ed25519", "-N", "", "-f", name]);
            }
            fs::copy(folder.join("now.pub"), folder.join("before")).expect("writable");
        })),
        ..Plan::default()
    });
    let old = certify(&house, "fresh");
    // A private key keeps its mode: `change` writes over what is there.
    fs::write(house.file("change"), "").expect("writable");
    fs::set_permissions(house.file("change"), fs::Permissions::from_mode(0o600)).expect("ours");
    house.change("now", &fs::read_to_string(house.file("next")).expect("there"));
    let new = certify(&house, "later");
    assert_ne!(line(&old, "Signing CA:"), line(&new, "Signing CA:"));
    for name in ["fresh", "later"] {
        assert_eq!(text(&run(&house, name, "demo.web", "echo in").stdout), "in\n", "{name}");
    }
    house.change("before", &fs::read_to_string(house.file("next.pub")).expect("there"));
    assert_eq!(run(&house, "fresh", "demo.web", "echo in").status.code(), Some(255));
    house.await_audit("refusal", |event| event["code"] == "certificate_wrong_ca");
    assert_eq!(text(&run(&house, "later", "demo.web", "echo in").stdout), "in\n");
}

#[test]
fn a_revoked_certificate_ends_its_open_sessions_and_opens_no_more() {
    let house = house("[certificate]\nrevoked-file = \"revoked.txt\"\n");
    for by in ["serial", "id"] {
        let shown = certify(&house, "fresh");
        let event = issued(&house);
        let socket = house.file(&format!("master-{by}"));
        let control = format!("ControlPath={}", socket.display());
        let mut open = client(&house, "fresh");
        open.args(["-o", "ControlMaster=yes", "-o", &control, "demo.web@127.0.0.1", "echo in; exec sleep 600"]);
        let mut open = open.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ssh starts");
        let mut output = open.stdout.take().expect("piped");
        crate::house::read_until(&mut output, "in\n");

        let started = Instant::now();
        let revoked = match by {
            "serial" => format!("serial: {}\n", line(&shown, "Serial:")),
            _ => format!("id: {}\n", event["key_id"].as_str().expect("text")),
        };
        house.change("revoked.txt", &revoked);
        let mut said = String::new();
        std::io::Read::read_to_string(open.stderr.as_mut().expect("piped"), &mut said).expect("text");
        let status = open.wait().expect("a child of ours");
        assert!(started.elapsed() < Duration::from_secs(10), "by {by}: it took {:?}", started.elapsed());
        assert_eq!(status.code(), Some(254), "by {by}: {said}");
        assert!(said.contains("your certificate is no longer believed"), "by {by}: {said}");
        house.await_audit("end", |event| event["event"] == "process_ended" && event["code"] == "certificate_revoked");
        assert_eq!(run(&house, "fresh", "demo.web", "echo in").status.code(), Some(255), "by {by}");
        fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
}

#[test]
fn an_open_connection_of_a_revoked_certificate_opens_nothing_more_and_its_forwards_end() {
    let house = house("[certificate]\nrevoked-file = \"revoked.txt\"\n");
    let shown = certify(&house, "fresh");
    let socket = house.file("master");
    let mut master = client(&house, "fresh");
    master.args(["-M", "-N", "-S"]).arg(&socket).arg("demo.web@127.0.0.1").stderr(Stdio::null());
    let mut master = master.spawn().expect("ssh starts");
    crate::house::await_change(house.folder(), || socket.exists().then_some(())).expect("the master's socket");
    let through = |arguments: &[&str]| {
        let mut ssh = client(&house, "fresh");
        ssh.arg("-S").arg(&socket).args(arguments);
        ssh
    };
    let mut forward = through(&["-W", "localhost:8080", "demo.web@127.0.0.1"]);
    let mut forward =
        forward.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ssh starts");
    house.await_audit("forward", |event| event["event"] == "forward_opened");
    assert_eq!(text(&finish(&mut through(&["demo.web@127.0.0.1", "echo in"])).stdout), "in\n");

    house.change("revoked.txt", &format!("serial: {}\n", line(&shown, "Serial:")));
    house.await_audit("end", |event| event["event"] == "forward_ended" && event["code"] == "certificate_revoked");
    forward.wait().expect("a child of ours");
    let refused = finish(&mut through(&["demo.web@127.0.0.1", "echo in"]));
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(254), String::new()));
    assert!(text(&refused.stderr).contains("your certificate is no longer believed"), "{}", text(&refused.stderr));
    finish(&mut through(&["-O", "exit", "demo.web@127.0.0.1"]));
    master.wait().expect("a child of ours");
}
