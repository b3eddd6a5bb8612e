//! Certificates as companies make them: `ssh-keygen` signs, revokes, and is asked what it thinks.

mod acceptance;
mod krl_format;
mod reload;
mod revocation;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::{Timestamp, ToSpan as _};
use russh::keys::{Certificate, PrivateKey};
use tempfile::TempDir;

use super::*;

/// A desk with two CAs, one of them trusted, and a person's key, in a folder of its own.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk { folder: tempfile::tempdir().expect("a temporary folder") };
        for name in ["ca", "other_ca", "alice"] {
            desk.make_key(name, &["-t", "ed25519"]);
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn make_key(&self, name: &str, kind: &[&str]) {
        let path = self.path(name);
        let path = path.to_str().expect("a path in ASCII");
        self.ssh_keygen(&[&["-q", "-N", "", "-C", name, "-f", path], kind].concat());
    }

    fn private_key(&self, name: &str) -> PrivateKey {
        PrivateKey::read_openssh_file(self.path(name)).expect("a key that ssh-keygen made")
    }

    /// Signs the public key `key` by `ca` with `arguments`, and gives the certificate's file.
    fn sign_file(&self, ca: &str, key: &str, arguments: &[&str]) -> PathBuf {
        self.ssh_keygen(&[&["-q", "-s", ca], arguments, &[&format!("{key}.pub")]].concat());
        // Each certificate keeps its own file, so that two of one key can be told apart.
        let count = std::fs::read_dir(self.folder.path()).expect("the folder").count();
        let kept = self.path(&format!("{key}-{count}-cert.pub"));
        std::fs::rename(self.path(&format!("{key}-cert.pub")), &kept).expect("the certificate");
        kept
    }

    fn sign(&self, ca: &str, key: &str, arguments: &[&str]) -> Certificate {
        read(&self.sign_file(ca, key, arguments))
    }

    /// A certificate of alice's that is believed, with `arguments` added.
    fn sign_alice(&self, arguments: &[&str]) -> Certificate {
        self.sign("ca", "alice", &[ALICE, arguments].concat())
    }

    /// Runs `ssh-keygen` in the folder, in UTC; it must be there and succeed.
    fn ssh_keygen(&self, arguments: &[&str]) -> Output {
        let output = self.try_ssh_keygen(arguments);
        assert!(output.status.success(), "ssh-keygen {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn try_ssh_keygen(&self, arguments: &[&str]) -> Output {
        (Command::new("ssh-keygen").args(arguments).current_dir(self.folder.path()).env("TZ", "UTC").output())
            .expect("these tests need OpenSSH's ssh-keygen in the PATH")
    }

    fn config(&self) -> config::Certificate {
        config::Certificate { trusted_ca_files: vec![self.path("ca.pub")], ..config::Certificate::default() }
    }

    fn verifier(&self) -> Verifier {
        open_verifier(&self.config())
    }

    /// Replaces a file at one stroke, as `mv` does.
    fn replace(&self, name: &str, text: &str) {
        let fresh = self.path("fresh");
        std::fs::write(&fresh, text).expect("a new file");
        std::fs::rename(&fresh, self.path(name)).expect("in its place");
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect(name)
    }
}

/// Alice, serial 7, with a group.
const ALICE: &[&str] = &["-I", "alice", "-z", "7", "-n", "alice,group:payments"];

fn open_verifier(config: &config::Certificate) -> Verifier {
    Verifier::open(config, None).unwrap_or_else(|error| panic!("{error}"))
}

fn read(path: &Path) -> Certificate {
    Certificate::read_file(path).expect("a certificate that ssh-keygen made")
}

fn presented() -> Presented {
    Presented { peer: IpAddr::from([192, 0, 2, 7]), now: Timestamp::now() }
}

/// The code of the refusal, or `believed`.
fn outcome(verifier: &Verifier, certificate: &Certificate, presented: Presented) -> &'static str {
    verifier.verify(certificate, presented).map_or_else(|refusal| refusal.code(), |_| "believed")
}
