//! A CA of others, for real: step-ca signs, and its certificate is read as docs/certificates.md says.
//!
//! `make e2e-step-ca` builds it and says where it is; without, these tests say that they were skipped, and pass.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::house::{House, Plan, finish, finish_with, keygen, text};

/// A running step-ca with one provisioner, and the key that its tokens are signed with.
struct StepCa {
    process: Child,
    url: String,
    key: EncodingKey,
}

fn program() -> Option<PathBuf> {
    let program = std::env::var_os("PORTHOLE_TEST_STEP_CA").map(PathBuf::from);
    if program.is_none() {
        eprintln!("SKIPPED: step-ca is not there (make e2e-step-ca builds it, with Go)");
    }
    program
}

impl StepCa {
    /// One with its files in `folder`, where `user_ca` is the key that it signs with.
    fn start(program: &Path, folder: &Path) -> StepCa {
        let openssl = |arguments: &str| {
            let output = finish(Command::new("openssl").args(arguments.split(' ')).current_dir(folder));
            assert!(output.status.success(), "openssl {arguments}: {}", text(&output.stderr));
        };
        let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1";
        openssl(&format!("{request} -subj /CN=root -keyout root.key -out root.crt"));
        openssl(&format!(
            "{request} -subj /CN=intermediate -keyout intermediate.key -out intermediate.crt -CA root.crt -CAkey root.key \
             -addext basicConstraints=critical,CA:true,pathlen:0"
        ));
        keygen(folder, &["-q", "-t", "ecdsa", "-b", "256", "-N", "", "-f", "step_host_ca"]);
        keygen(folder, &["-q", "-t", "ecdsa", "-b", "256", "-m", "PKCS8", "-N", "", "-f", "provisioner"]);
        let pem = fs::read(folder.join("provisioner")).expect("just made");
        let key = EncodingKey::from_ec_pem(&pem).expect("PKCS8");
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("an EC key");
        public.common.key_id = Some("one".to_owned());
        let mut public = serde_json::to_value(public).expect("JSON");
        public["alg"] = "ES256".into();
        public["use"] = "sig".into();

        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let url = format!("https://127.0.0.1:{port}");
        let config = json!({
            "root": folder.join("root.crt"),
            "crt": folder.join("intermediate.crt"),
            "key": folder.join("intermediate.key"),
            "address": format!("127.0.0.1:{port}"),
            "dnsNames": ["127.0.0.1"],
            "ssh": { "hostKey": folder.join("step_host_ca"), "userKey": folder.join("user_ca") },
            "authority": { "provisioners": [
                { "type": "JWK", "name": "people", "key": public, "claims": { "enableSSHCA": true } },
            ] },
        });
        fs::write(folder.join("ca.json"), config.to_string()).expect("writable");
        let mut command = Command::new(program);
        command.arg(folder.join("ca.json")).env("STEPPATH", folder).stdin(Stdio::null());
        let log = fs::File::create(folder.join("step-ca.log")).expect("writable");
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        StepCa { process: command.spawn().expect("step-ca starts"), url, key }
    }

    /// What `step ssh certificate` does: a token of the provisioner's for a certificate of a public key.
    fn certify(&self, subject: &str, principals: &[&str], public_key: &str) -> Option<String> {
        let audience = format!("{}/1.0/ssh/sign", self.url);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let claims = json!({
            "iss": "people", "aud": audience, "sub": subject, "iat": now, "nbf": now, "exp": now + 300,
            "jti": format!("{subject}-{now}"),
            "step": { "ssh": { "certType": "user", "keyID": subject, "principals": principals } },
        });
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::ES256) };
        let token = encode(&header, &claims, &self.key).expect("signed");
        let blob = public_key.split(' ').nth(1).expect("type, blob, comment");
        let request = json!({ "publicKey": blob, "ott": token, "certType": "user", "principals": principals });
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--insecure", "--retry", "20", "--retry-connrefused", "--json", "@-", &audience]);
        let answer = finish_with(&mut curl, request.to_string().as_bytes());
        let answer: Value = serde_json::from_slice(&answer.stdout)
            .unwrap_or_else(|_| panic!("{}{}", text(&answer.stdout), text(&answer.stderr)));
        let blob = answer["crt"].as_str()?;
        STANDARD.decode(blob).expect("base64");
        Some(format!("ssh-ed25519-cert-v01@openssh.com {blob} {subject}\n"))
    }
}

impl Drop for StepCa {
    fn drop(&mut self) {
        // One that has ended by itself needs no end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_certificate_of_step_ca_is_its_subject_with_the_groups_among_its_principals() {
    let Some(program) = program() else { return };
    let house = House::build(Plan {
        config: "[certificate-authority]\nkeys = [\"own_ca\"]\n".to_owned(),
        before: Some(Box::new(|folder| {
            // The house trusts `user_ca`; in a company, what `step ssh config --roots` prints.
            keygen(folder, &["-q", "-t", "ed25519", "-N", "", "-f", "own_ca"]);
        })),
        ..Plan::default()
    });
    let ca = StepCa::start(&program, house.folder());
    let key = fs::read_to_string(house.file("id_ed25519.pub")).expect("there");
    let signed = ca.certify("alice@example.com", &["alice", "group:developers"], &key);
    let certificate = signed.unwrap_or_else(|| {
        panic!("step-ca refused:\n{}", fs::read_to_string(house.file("step-ca.log")).unwrap_or_default())
    });
    fs::write(house.file("id_ed25519-cert.pub"), certificate).expect("writable");
    println!("{}", crate::issuer::show(&house, "id_ed25519-cert.pub"));

    let output = house.ssh("demo.web", "echo in");
    assert_eq!(text(&output.stdout), "in\n", "{}\n{}", text(&output.stderr), house.log());
    let login = house.await_audit("login", |event| event["event"] == "login_accepted");
    assert_eq!(login["subject"], "alice@example.com");
    assert_eq!(login["groups"], json!(["developers"]));

    // What comes of it is the same person's.
    let issued = finish_with(house.client("ssh").args(["login@porthole", "cert"]), key.as_bytes());
    assert_eq!(issued.status.code(), Some(0), "{}", text(&issued.stderr));
    let event = house.await_audit("certificate", |event| event["event"] == "certificate_issued");
    assert_eq!(event["principals"], json!(["user:alice@example.com", "group:developers"]));
}
