//! The device login with a real provider: Dex, whose pages a person's browser would walk through.
//!
//! `make e2e-login` builds Dex and names it by `PORTHOLE_TEST_DEX`; without it there is nothing to show here, which is
//! said where nobody can miss it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::house::{House, PROGRAM, Plan, cluster, finish, text};

/// A running Dex with one person, and its own state in memory.
struct Dex {
    child: Child,
    url: String,
}

impl Dex {
    fn start(program: &Path, folder: &Path, port: u16) -> Dex {
        let url = format!("http://127.0.0.1:{port}/dex");
        // The hash is of `password`: this person exists for as long as the test runs.
        let config = format!(
            "issuer: {url}\nstorage: {{type: memory}}\nweb: {{http: '127.0.0.1:{port}'}}\n\
             oauth2: {{skipApprovalScreen: true}}\nenablePasswordDB: true\n\
             staticClients:\n- {{id: porthole, name: Porthole, public: true, redirectURIs: ['/device/callback']}}\n\
             staticPasswords:\n- email: mia@example.com\n  username: mia\n  userID: 08a8684b-db88-4b73-90a9-3cd1661f5466\n  \
             hash: '$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W'\n"
        );
        fs::write(folder.join("dex.yaml"), config).expect("writable");
        let mut child = Command::new(program)
            .args(["serve", "dex.yaml"])
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Dex starts");
        let mut said = BufReader::new(child.stderr.take().expect("piped"));
        let (mut line, mut log) = (String::new(), String::new());
        while !line.contains("listening on") {
            line.clear();
            assert!(said.read_line(&mut line).expect("readable") > 0, "Dex ended before it was ready:\n{log}");
            log.push_str(&line);
        }
        // Its log ends with it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Dex { child, url }
    }

    /// Approves a code as a browser does: the code's form, then the login's.
    fn approve(&self, folder: &Path, code: &str) {
        let browser = || {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "-L", "--fail", "-c", "jar", "-b", "jar"]).current_dir(folder);
            curl
        };
        let asked = browser()
            .args(["-o", "/dev/null", "-w", "%{url_effective}", "--data-urlencode", &format!("user_code={code}")])
            .arg(format!("{}/device/auth/verify_code", self.url))
            .output()
            .expect("curl is installed");
        let login = text(&asked.stdout);
        assert!(asked.status.success() && login.contains("/login"), "no form to log in with: {asked:?}");
        let done = browser()
            .args(["--data-urlencode", "login=mia@example.com", "--data-urlencode", "password=password", &login])
            .output()
            .expect("curl is installed");
        assert!(done.status.success() && text(&done.stdout).contains("Login Successful"), "{}", text(&done.stdout));
    }
}

impl Drop for Dex {
    fn drop(&mut self) {
        // One that has ended already needs no end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where Dex is; none, loudly, where it was not built.
fn program() -> Option<PathBuf> {
    let program = std::env::var_os("PORTHOLE_TEST_DEX").map(PathBuf::from);
    if program.is_none() {
        // Not by a macro: the test harness would keep that to itself.
        let line =
            b"SKIPPED: the login with Dex, which is not built (make e2e-login builds and runs it; it needs Go)\n";
        std::io::stderr().write_all(line).expect("stderr");
    }
    program
}

/// A house that believes Dex. Static people have no groups there, so the policy names the person.
fn house(url: &str, more: &str) -> House {
    let config = format!(
        "[issuers.dex]\nurl = \"{url}\"\naudiences = [\"porthole\"]\njwks-refresh-pause = \"0s\"\n\
         [issuers.dex.claims]\nsubject = \"email\"\n[device]\nissuer = \"dex\"\n{more}"
    );
    let policy = include_str!("policy.toml").replace("groups = \"developers\"", "subjects = \"mia@example.com\"");
    let house = House::build(Plan { config, policy: Some(policy), ..Plan::default() });
    fs::remove_file(house.file("id_ed25519-cert.pub")).expect("the house has it");
    house
}

fn begin(house: &House) -> (Child, String) {
    let before = house.audit().len();
    let mut client = house.client("ssh");
    client.args(["-o", "LogLevel=INFO", "-o", "BatchMode=no", "demo.web@porthole", "echo in"]);
    let mut client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ssh is installed");
    house.await_audit("pending login", |event| {
        event["code"] == "device_started" && house.audit().iter().skip(before).any(|new| new == event)
    });
    let mut said = BufReader::new(client.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("the code there must be") {
        line.clear();
        assert!(said.read_line(&mut line).expect("readable") > 0, "ssh said no code");
    }
    let code = line.trim().rsplit(' ').next().expect("words").to_owned();
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    (client, code)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

#[test]
fn a_person_of_dex_logs_in_by_its_forms_and_is_asked_once_until_that_is_taken_back() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dex = Dex::start(&program, folder.path(), free_port());
    let namespace = if cluster().real { "porthole" } else { "demo" };
    let house = house(&dex.url, &format!("bindings = \"cluster\"\nbindings-namespace = \"{namespace}\"\n"));
    let (client, code) = begin(&house);
    dex.approve(folder.path(), &code);
    let output = client.wait_with_output().expect("a child of ours");
    assert_eq!(text(&output.stdout), "in\n", "{}", house.log());
    let accepted = house.await_audit("login", |event| event["event"] == "login_accepted");
    assert_eq!((&accepted["method"], &accepted["subject"]), (&json!("device"), &json!("mia@example.com")));
    // The house's own configuration has `BatchMode`: nothing could be asked.
    let script = || finish(house.client("ssh").args(["-o", "LogLevel=INFO", "demo.web@porthole", "echo again"]));
    let said = script();
    assert_eq!((text(&said.stdout), text(&said.stderr)), ("again\n".to_owned(), String::new()));
    fs::write(house.file("notes.txt"), "copied\n").expect("writable");
    let mut copy = house.client("scp");
    let copied = finish(copy.arg("-q").arg(house.file("notes.txt")).arg("demo.web@porthole:/tmp/dex-notes.txt"));
    assert!(copied.status.success() && copied.stdout.is_empty() && copied.stderr.is_empty(), "{copied:?}");
    house.await_audit("silent login", |event| event["event"] == "login_accepted" && event["method"] == "bound-key");

    let mut open = house.client("ssh");
    open.args(["demo.web@porthole", "sleep 60"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let open = open.spawn().expect("ssh is installed");
    house.await_audit("process", |event| event["event"] == "process_started" && event["program"] == "sleep 60");
    let mut revoke = Command::new(PROGRAM);
    revoke.args(["revoke", "--subject", "mia@example.com", "--config"]).arg(house.file("porthole.toml"));
    assert!(finish(&mut revoke).status.success());
    assert_eq!(open.wait_with_output().expect("a child of ours").status.code(), Some(254), "it ends with the login");
    let began = Instant::now();
    let refused = script();
    assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(255), String::new()));
    let (client, code) = begin(&house);
    dex.approve(folder.path(), &code);
    assert_eq!(text(&client.wait_with_output().expect("a child of ours").stdout), "in\n", "{}", house.log());
    assert_eq!(text(&script().stdout), "again\n");
}

#[test]
fn a_dex_that_was_away_makes_the_next_login_work_again() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_port();
    let dex = Dex::start(&program, folder.path(), port);
    let house = house(&dex.url, "binding-lifetime = \"0s\"\n");
    let (client, code) = begin(&house);
    dex.approve(folder.path(), &code);
    assert_eq!(text(&client.wait_with_output().expect("a child of ours").stdout), "in\n");
    // In mid-flow: this Dex forgets its codes with its memory, and signs with new keys when it is back.
    let (client, _) = begin(&house);
    drop(dex);
    let dex = Dex::start(&program, folder.path(), port);
    let ended = client.wait_with_output().expect("a child of ours");
    assert_eq!(ended.status.code(), Some(255), "{ended:?}");
    house.await_audit("refusal", |event| event["event"] == "login_refused" && event["method"] == "device");
    let (client, code) = begin(&house);
    dex.approve(folder.path(), &code);
    assert_eq!(text(&client.wait_with_output().expect("a child of ours").stdout), "in\n", "{}", house.log());
}
