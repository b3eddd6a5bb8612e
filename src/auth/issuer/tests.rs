//! What is signed, as `ssh-keygen` and the verifier read it; and the lines that are no keys.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::config::{Certificate as Reading, CertificateAuthority, CertificateRule};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIILq1qB6rSvJmdGqgb1qvPqiuYnHxYWjNGWdqzYN0yHq";
/// A key in hardware, which this machine need not have.
const HARDWARE_KEY: &str = "sk-ssh-ed25519@openssh.com \
    AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIILq1qB6rSvJmdGqgb1qvPqiuYnHxYWjNGWdqzYN0yHqAAAABHNzaDo=";

#[test]
fn a_plain_key_is_read_with_its_comment_cut() {
    let line = format!("\n {KEY} {}\r\n", "me".repeat(500));
    let key = parse_public_key(line.as_bytes()).expect("a key");
    assert_eq!(key.comment().as_str_lossy().chars().count(), 128);
    assert!(parse_public_key(KEY.as_bytes()).is_ok());
}

#[test]
fn what_is_no_plain_strong_key_is_told_what_it_is() {
    let certificate = "ssh-ed25519-cert-v01@openssh.com AAAA me";
    let weak = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwEAAQ==";
    for (sent, code) in [
        (b"".as_slice(), "no_key"),
        (b"\n \n", "no_key"),
        (b"\xff\xfe", "key_malformed"),
        (b"GET / HTTP/1.1", "key_malformed"),
        (b"ssh-ed25519", "key_malformed"),
        (b"ssh-ed25519 AAAA", "key_malformed"),
        (b"from=\"*\" ssh-ed25519 AAAA", "key_malformed"),
        (format!("{KEY}\x07").as_bytes(), "key_malformed"),
        (format!("{KEY}\0").as_bytes(), "key_malformed"),
        (format!("{KEY}AAAA").as_bytes(), "key_malformed"),
        (format!("{KEY}\n{KEY}").as_bytes(), "many_keys"),
        (certificate.as_bytes(), "key_is_certificate"),
        (weak.as_bytes(), "key_weak"),
        (b"ssh-dss AAAAB3NzaC1kc3MAAAABBwAAAAEHAAAAAQcAAAABBw==", "key_weak"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "private_key"),
        (&vec![b'a'; PUBLIC_KEY_MAX_BYTES + 1], "key_too_long"),
    ] {
        let error = parse_public_key(sent).expect_err(&String::from_utf8_lossy(sent));
        assert_eq!(IssueError::Key(error).code(), code, "{}", String::from_utf8_lossy(sent));
    }
}

/// An office of the CA, with its key in a folder of its own.
struct Office {
    folder: tempfile::TempDir,
}

impl Office {
    fn new(ca: &[&str]) -> Office {
        let office = Office { folder: tempfile::tempdir().expect("a temporary folder") };
        office.ssh_keygen(&[&["-q", "-N", "", "-f", "ca"], ca].concat());
        office
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ssh_keygen(&self, arguments: &[&str]) -> String {
        let run = Command::new("ssh-keygen").args(arguments).current_dir(self.folder.path()).env("TZ", "UTC").output();
        let output = run.expect("these tests need OpenSSH's ssh-keygen in the PATH");
        assert!(output.status.success(), "ssh-keygen {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    async fn issuer(&self, audit: &Path, config: CertificateAuthority) -> (Issuer, Arc<Verifier>) {
        let config = CertificateAuthority { keys: vec![self.path("ca")], ..config };
        let keyring = open_keyring(&config).unwrap_or_else(|error| panic!("{error}")).expect("it is on");
        let reading = Reading::default();
        let verifier = Verifier::open(&reading, Some(Arc::clone(&keyring))).unwrap_or_else(|error| panic!("{error}"));
        let (verifier, audit) = (
            Arc::new(verifier),
            Arc::new(
                Audit::open(&config::Audit { file: Some(audit.to_owned()), ..Default::default() })
                    .await
                    .expect("it opens"),
            ),
        );
        (Issuer::new(&config, &reading, keyring, Arc::clone(&verifier), audit), verifier)
    }
}

async fn issue(issuer: &Issuer, identity: &Identity, key: &str) -> Result<Issued, IssueError> {
    let connection = ConnectionId::random();
    let wish = Wish {
        identity,
        key: parse_public_key(key.as_bytes()),
        source: IpAddr::from([192, 0, 2, 7]),
        connection: &connection,
        session: &connection.session(1),
    };
    issuer.issue(wish).await
}

#[tokio::test]
async fn every_kind_of_ca_signs_every_kind_of_key_and_ssh_keygen_reads_it() {
    for ca in [["-t", "ed25519"], ["-t", "ecdsa"], ["-t", "rsa"]] {
        let office = Office::new(&ca);
        let (issuer, verifier) = office.issuer(&office.path("audit"), CertificateAuthority::default()).await;
        let mut keys = vec![KEY.to_owned(), HARDWARE_KEY.to_owned()];
        for kind in ["ecdsa", "rsa"] {
            office.ssh_keygen(&["-q", "-N", "", "-t", kind, "-f", kind]);
            keys.push(std::fs::read_to_string(office.path(&format!("{kind}.pub"))).expect("just made"));
        }
        let alice = Identity::for_tests("alice@corp.example", &["payments", "a b", "ärzte"]);
        for key in keys {
            let issued = issue(&issuer, &alice, &key).await.unwrap_or_else(|error| panic!("{ca:?} {key}: {error}"));
            std::fs::write(office.path("id-cert.pub"), &issued.line).expect("written");
            let shown = office.ssh_keygen(&["-L", "-f", "id-cert.pub"]);
            assert!(shown.contains("user:alice@corp.example") && shown.contains("group:a b"), "{shown}");
            let certificate = Certificate::from_openssh(&issued.line).expect("its own form");
            let presented = Presented { peer: IpAddr::from([192, 0, 2, 7]), now: Timestamp::now() };
            let read = verifier.verify(&certificate, presented).unwrap_or_else(|refusal| panic!("{refusal}"));
            assert_eq!(
                (read.subject(), read.groups()),
                (alice.subject(), ["a b", "payments", "ärzte"].map(str::to_owned).as_slice())
            );
        }
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_issued() {
    let office = Office::new(&["-t", "ed25519"]);
    let (issuer, _) = office.issuer(Path::new("/dev/full"), CertificateAuthority::default()).await;
    let refused = issue(&issuer, &Identity::for_tests("alice", &[]), KEY).await.map(|issued| issued.line);
    assert_eq!(refused.map_err(|error| error.code()), Err("audit_unavailable"));
}

#[tokio::test]
async fn a_name_that_a_certificate_cannot_carry_gets_none() {
    let office = Office::new(&["-t", "ed25519"]);
    let (issuer, _) = office.issuer(&office.path("audit"), CertificateAuthority::default()).await;
    let crowd: Vec<_> = (0..300).map(|group| group.to_string()).collect();
    let crowd: Vec<_> = crowd.iter().map(String::as_str).collect();
    for (subject, groups) in
        [("", [].as_slice()), ("a\nb", &[]), (" a", &[]), ("a", &[""]), ("a", &["x\u{202e}y"]), ("a", &crowd)]
    {
        let refused = issue(&issuer, &Identity::for_tests(subject, groups), KEY).await.map(|issued| issued.line);
        assert_eq!(refused.map_err(|error| error.code()), Err("unnameable"), "{subject:?} {groups:?}");
    }
}

#[tokio::test]
async fn the_first_rule_that_names_a_group_counts_and_nobody_else_gets_a_certificate() {
    let office = Office::new(&["-t", "ed25519"]);
    let rules = vec![
        CertificateRule {
            groups: vec!["guests".to_owned()],
            lifetime: Some(Duration::from_secs(600)),
            extensions: Some(vec!["permit-pty".to_owned(), "level@example.com=low".to_owned()]),
            principals: Some(vec!["door".to_owned()]),
            bind_source_address: Some(true),
        },
        CertificateRule { groups: vec!["staff".to_owned()], ..CertificateRule::default() },
    ];
    let config = CertificateAuthority { rules, ..CertificateAuthority::default() };
    let (issuer, _) = office.issuer(&office.path("audit"), config).await;
    let issue = async |groups: &[&str]| issue(&issuer, &Identity::for_tests("alice", groups), KEY).await;
    let read = |issued: Issued| Certificate::from_openssh(&issued.line).expect("its own form");

    let guest = read(issue(&["staff", "guests"]).await.expect("the first rule"));
    assert_eq!(guest.valid_before() - guest.valid_after(), 600 + 60);
    assert_eq!(guest.valid_principals(), ["user:alice", "group:staff", "group:guests", "door"]);
    assert_eq!(guest.critical_options().get("source-address").map(String::as_str), Some("192.0.2.7"));
    let extensions: Vec<_> = guest.extensions().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(extensions, [("level@example.com", "low"), ("permit-pty", "")]);

    let staff = read(issue(&["staff"]).await.expect("the second rule"));
    assert_eq!(staff.valid_before() - staff.valid_after(), 8 * 3600 + 60);
    assert!(staff.critical_options().is_empty() && staff.extensions().contains_key("permit-port-forwarding"));
    assert_eq!(issue(&["others"]).await.map(|issued| issued.line).map_err(|error| error.code()), Err("no_rule"));
}

#[test]
fn keys_that_cannot_sign_or_are_not_safe_are_told_with_their_file() {
    let office = Office::new(&["-t", "ed25519"]);
    office.ssh_keygen(&["-q", "-N", "secret", "-t", "ed25519", "-f", "locked"]);
    office.ssh_keygen(&["-q", "-N", "", "-t", "ed25519", "-f", "open"]);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(office.path("open"), mode).expect("ours");
    std::fs::write(office.path("short"), "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwEAAQ==\n").expect("written");
    let agent = Path::new("/run/agent");
    for (keys, agent, told) in [
        ([].as_slice(), None, "no CA"),
        (&["ca.pub"], None, "cannot sign"),
        (&["ca"], Some(agent), "it is a private key"),
        (&["locked"], None, "passphrase"),
        (&["open"], None, "mode 644"),
        (&["ca", "short"], None, "too short"),
        (&["missing"], None, "missing"),
    ] {
        let files: Vec<_> = keys.iter().map(|name| office.path(name)).collect();
        let error = Keyring::load(&files, agent).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(told), "{keys:?}: {error}");
    }
    assert!(Keyring::load(&[office.path("ca"), office.path("open.pub")], None).is_ok());
    assert!(Keyring::load(&[office.path("ca.pub")], Some(agent)).is_ok());
}
