//! `porthole login`, as a person runs it: with the machine's own ssh, an agent, and a configuration that is theirs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::house::{House, finish, keygen, text};
use crate::issuer::{Agent, house, line};

/// A person at a laptop: a home folder, and a configuration that knows the house.
struct Laptop<'a> {
    house: &'a House,
    home: PathBuf,
}

impl Laptop<'_> {
    fn new(house: &House) -> Laptop<'_> {
        let laptop = Laptop { house, home: house.file("home") };
        fs::create_dir_all(laptop.home.join(".ssh")).expect("writable");
        fs::copy(house.file("ssh_config"), laptop.config()).expect("writable");
        laptop
    }

    fn config(&self) -> PathBuf {
        self.home.join(".ssh/config")
    }

    fn login(&self, arguments: &[&str]) -> Output {
        let mut login = Command::new(env!("CARGO_BIN_EXE_porthole"));
        login.args(["login", "porthole", "-F"]).arg(self.config()).args(arguments);
        login.env("HOME", &self.home).env("TZ", "UTC").env("SSH_AUTH_SOCK", self.house.file("agent.sock"));
        finish(login.stdin(Stdio::null()))
    }

    fn in_agent(&self) -> String {
        let mut list = Command::new("ssh-add");
        text(&finish(list.arg("-L").env("SSH_AUTH_SOCK", self.house.file("agent.sock"))).stdout)
    }

    fn issued(&self) -> usize {
        self.house.audit().iter().filter(|event| event["event"] == "certificate_issued").count()
    }

    /// The end of the certificate that `login` made or renewed.
    fn until(&self) -> String {
        let shown = crate::issuer::show(self.house, "home/.ssh/porthole/porthole-cert.pub");
        line(&shown, "Valid:").rsplit_once(" to ").expect("an end").1.to_owned()
    }
}

fn succeeded(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_login_is_in_the_agent_and_the_configuration_and_a_second_one_asks_nobody() {
    let house = house("lifetime = \"30m\"\n");
    let _agent = Agent::start(house.folder());
    let laptop = Laptop::new(&house);
    let mine = [fs::read(laptop.config()).expect("there"), b"# \xff caf\xe9\r\nHost elsewhere".to_vec()].concat();
    fs::write(laptop.config(), &mine).expect("writable");

    let said = succeeded(&laptop.login(&[]));
    assert!(said.contains("is valid until") && said.contains("in the agent"), "{said}");
    let written = fs::read(laptop.config()).expect("there");
    assert!(written.starts_with(&mine), "what was there has changed:\n{}", text(&written));
    assert_eq!(fs::metadata(laptop.config()).expect("there").permissions().mode() & 0o777, 0o600);
    let listed = laptop.in_agent();
    assert!(listed.contains("ssh-ed25519 ") && listed.contains("ssh-ed25519-cert-v01@openssh.com "), "{listed}");

    assert!(succeeded(&laptop.login(&[])).contains("29m left"));
    assert_eq!((laptop.issued(), fs::read(laptop.config()).expect("there")), (1, written));

    // From now on nothing is needed but what `login` left: the block's key, and its certificate.
    for name in ["id_ed25519", "id_ed25519.pub", "id_ed25519-cert.pub"] {
        fs::remove_file(house.file(name)).expect("there");
    }
    let mut ssh = Command::new("ssh");
    let output = finish(ssh.arg("-F").arg(laptop.config()).args(["demo.web@porthole", "echo in"]).stdin(Stdio::null()));
    assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
}

#[test]
fn a_certificate_with_less_than_a_third_left_is_renewed_and_one_that_cannot_be_stays() {
    let house = house("lifetime = \"30m\"\n");
    let laptop = Laptop::new(&house);
    succeeded(&laptop.login(&["--no-agent", "--no-config"]));
    let sign = |validity: &str| {
        let folder = laptop.home.join(".ssh/porthole");
        keygen(
            &folder,
            &[
                "-q",
                "-s",
                "../../../own_ca",
                "-I",
                "old",
                "-n",
                "user:dev,group:developers",
                "-V",
                validity,
                "porthole.pub",
            ],
        );
        laptop.until()
    };
    let kept = sign("-10m:+10m");
    succeeded(&laptop.login(&["--no-agent", "--no-config"]));
    assert_eq!((laptop.until(), laptop.issued()), (kept, 1), "half of it was left");

    // The old one logs in, but brings none that lasts longer than it; the configuration's own key does.
    let old = sign("-50m:+10m");
    succeeded(&laptop.login(&["--no-agent", "--no-config"]));
    assert!(laptop.until() > old, "it was not renewed: {}", house.log());
    let renewed = laptop.until();
    succeeded(&laptop.login(&["--no-agent", "--no-config", "--force"]));
    assert!(laptop.until() >= renewed);

    // In its login's last minute it brings none at all.
    let ending = sign("-50m:+50s");
    succeeded(&laptop.login(&["--no-agent", "--no-config"]));
    house.await_audit("refusal", |event| event["event"] == "certificate_refused" && event["code"] == "login_over");
    assert!(laptop.until() > ending, "nobody logged in anew: {}", house.log());

    // Without anybody to log in anew as, the old one is as good as it gets.
    let old = sign("-50m:+10m");
    fs::remove_file(house.file("id_ed25519")).expect("there");
    let output = laptop.login(&["--no-agent", "--no-config"]);
    assert!(succeeded(&output).contains("valid until"));
    assert_eq!(laptop.until(), old);

    let expired = sign("-50m:-10m");
    let output = laptop.login(&["--no-agent", "--no-config"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("porthole: no certificate came from porthole"), "{}", text(&output.stderr));
    assert_eq!(laptop.until(), expired);
}

#[test]
fn the_certificate_stays_in_place_while_somebody_logs_in_anew() {
    let house = house("");
    let laptop = Laptop::new(&house);
    succeeded(&laptop.login(&["--no-agent"]));
    // The block names the certificate, which brings none that lasts longer than its login; the house's own key does.
    succeeded(&laptop.login(&["--no-agent", "--force"]));
    let logins: Vec<_> = house.audit().into_iter().filter(|event| event["event"] == "login_accepted").collect();
    let credentials: Vec<_> = logins.iter().map(|login| &login["credential"]).collect();
    assert_eq!(credentials.len(), 3, "{credentials:?}");
    assert!(credentials[0] != credentials[1] && credentials[0] == credentials[2], "{credentials:?}");
    let folder = laptop.home.join(".ssh/porthole");
    let certificate = folder.join("porthole-cert.pub");
    let before = fs::read(&certificate).expect("there");

    // What ssh runs to get through sees what every other ssh would see at that moment. It ends when its output does, so
    // that is held open until the word is written.
    let seen = house.file("seen");
    let look = format!("ProxyCommand ls \"{}\" | tee -a \"{}\"\n", certificate.display(), seen.display());
    let mine = [look.as_bytes(), &fs::read(laptop.config()).expect("there")].concat();
    fs::write(laptop.config(), &mine).expect("writable");
    assert_eq!(laptop.login(&["--no-agent", "--force"]).status.code(), Some(1));
    let seen = fs::read_to_string(seen).expect("it was run");
    assert_eq!(seen, format!("{}\n", certificate.display()).repeat(2), "once as configured, once anew");
    assert_eq!(fs::read(&certificate).expect("there"), before);
    assert_eq!(fs::read(laptop.config()).expect("there"), mine);
    assert_eq!(fs::read_dir(folder).expect("there").count(), 3, "a key, its public half and its certificate");
}

#[test]
fn a_key_of_ones_own_is_certified_and_stays_in_the_agent_as_it_was() {
    let house = house("");
    let _agent = Agent::start(house.folder());
    let laptop = Laptop::new(&house);
    let key = house.file("fresh").display().to_string();
    let mut add = Command::new("ssh-add");
    finish(add.args(["-q", &key]).env("SSH_AUTH_SOCK", house.file("agent.sock")));
    let before = laptop.in_agent();
    // Without its public half beside it, too.
    fs::rename(house.file("fresh.pub"), house.file("elsewhere.pub")).expect("there");
    let said = succeeded(&laptop.login(&["--key", &key]));
    assert!(said.contains("in the agent already"), "{said}");
    assert_eq!(laptop.in_agent(), before);
    assert!(house.file("fresh-cert.pub").exists());
    assert!(text(&fs::read(laptop.config()).expect("there")).contains(&format!("CertificateFile \"{key}-cert.pub\"")));
}

#[test]
fn what_cannot_be_done_is_a_line_and_changes_nothing() {
    let house = house("");
    let laptop = Laptop::new(&house);
    let failed = |arguments: &[&str], what: &str| {
        let output = laptop.login(arguments);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(what), "{arguments:?}: {said}");
    };
    failed(&["--key", "/nonexistent/key"], "there is no key");
    let half = "Host *\n# >>> porthole porthole: written by `porthole login`, a change here is lost\nHost porthole\n";
    let mine = [text(&fs::read(laptop.config()).expect("there")), half.to_owned()].concat();
    fs::write(laptop.config(), &mine).expect("writable");
    failed(&["--no-agent"], "the block's last line is missing");
    assert_eq!(text(&fs::read(laptop.config()).expect("there")), mine);

    for host in ["-oProxyCommand=id", "a b", "a\nb", "*", "../x", "", "a/b", "login@host", "a;id"] {
        let mut login = Command::new(env!("CARGO_BIN_EXE_porthole"));
        let output = finish(login.args(["login", "--", host]).env("HOME", &laptop.home).stdin(Stdio::null()));
        assert_eq!(output.status.code(), Some(1), "{host:?}: {output:?}");
        assert!(text(&output.stderr).contains("no name of a host"), "{host:?}: {}", text(&output.stderr));
    }
    let closed = House::open();
    let output = Laptop::new(&closed).login(&["--no-agent", "--no-config"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("issues no certificates") && said.contains("no certificate came"), "{said}");
}
