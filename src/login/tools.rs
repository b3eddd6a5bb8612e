//! OpenSSH's own programs, run for what they do best.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::SignedDuration;

use super::block::quoted;
use super::key::Key;
use super::{LoginError, anew};

/// A certificate of 256 principals is below this.
const CERTIFICATE_MAX_BYTES: u64 = 256 * 1024;

/// How `ssh` is called.
#[derive(Debug)]
pub(super) struct Tools<'a> {
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
    pub(super) config: Option<&'a Path>,
}

/// What may log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Whatever the person's configuration and keys have, the certificate that is there included.
    AsConfigured,
    /// The same without the certificate that is there, wherever it lies.
    Anew,
}

impl Tools<'_> {
    /// Asks for a certificate; none where `ssh` failed, which has told the person why.
    pub(super) fn certify(&self, key: &Key, attempt: Attempt) -> Result<Option<String>, LoginError> {
        match attempt {
            Attempt::AsConfigured => {
                let mut ssh = self.ssh(self.config);
                let certificate = key.certificate_file();
                if certificate.exists() {
                    // Where a configuration names any certificate, ssh looks for no other beside a key.
                    ssh.arg("-o").arg(format!("CertificateFile={}", quoted(&certificate)));
                }
                self.converse(ssh, key.file(), key)
            }
            Attempt::Anew => anew::without_certificate(key, self.config, |link, config| {
                let mut ssh = self.ssh(config);
                // An agent may hold it too.
                ssh.args(["-o", "IdentitiesOnly=yes"]);
                self.converse(ssh, link, key)
            }),
        }
    }

    fn ssh(&self, config: Option<&Path>) -> Command {
        let mut ssh = Command::new("ssh");
        // What the configuration says for sessions in pods is not meant for this.
        ssh.args(["-T", "-x", "-a", "-o", "ClearAllForwardings=yes", "-o", "ControlPath=none"]);
        ssh.args(["-o", "RemoteCommand=none"]);
        if let Some(config) = config {
            ssh.arg("-F").arg(config);
        }
        if let Some(port) = self.port {
            ssh.args(["-p", &port.to_string()]);
        }
        ssh
    }

    /// Gives `ssh` the public key, and takes what it prints; `identity` is where it finds the private one.
    fn converse(&self, mut ssh: Command, identity: &Path, key: &Key) -> Result<Option<String>, LoginError> {
        let failed = |source| LoginError::Program { program: "ssh", source };
        ssh.arg("-i").arg(identity).arg(format!("login@{}", self.host)).arg("cert");
        let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        // Its end tells that the key is whole. `ssh` that has ended before takes nothing, and says why itself.
        let _ = ssh.stdin.take().map(|mut input| input.write_all(key.public().as_bytes()));
        let mut line = String::new();
        let output = ssh.stdout.take();
        let read = output.map_or(Ok(0), |output| output.take(CERTIFICATE_MAX_BYTES).read_to_string(&mut line));
        let status = ssh.wait().map_err(failed)?;
        read.map_err(failed)?;
        Ok(Some(line).filter(|_| status.success()))
    }
}

/// Makes an Ed25519 key without a passphrase: it is worth as much as the certificate, which ends by itself.
pub(super) fn make_key(file: &Path, host: &str) -> Result<(), LoginError> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", &format!("porthole {host}"), "-f"]).arg(file);
    run("ssh-keygen", &mut keygen).map(drop)
}

/// The public half of a private key; asks for its passphrase where it has one.
pub(super) fn public_half(file: &Path) -> Result<String, LoginError> {
    run("ssh-keygen", Command::new("ssh-keygen").arg("-y").arg("-f").arg(file))
}

/// Puts the key and the certificate beside it into the agent, which forgets both when the certificate ends.
pub(super) fn into_agent(key: &Key, lifetime: SignedDuration) -> Result<(), LoginError> {
    let seconds = lifetime.as_secs().max(1).to_string();
    run("ssh-add", Command::new("ssh-add").args(["-q", "-t", &seconds]).arg(key.file())).map(drop)
}

/// Whether the agent holds the plain key.
pub(super) fn agent_holds(key: &Key) -> Result<bool, LoginError> {
    let listed = Command::new("ssh-add").arg("-L").stderr(Stdio::null()).output();
    let listed = listed.map_err(|source| LoginError::Program { program: "ssh-add", source })?;
    // Without any key in it, it fails.
    let wanted = key.public().split_ascii_whitespace().nth(1);
    let listed = String::from_utf8_lossy(&listed.stdout);
    Ok(listed.lines().any(|line| wanted.is_some() && line.split_ascii_whitespace().nth(1) == wanted))
}

/// Runs a program that may ask the person something, and returns what it printed.
fn run(program: &'static str, command: &mut Command) -> Result<String, LoginError> {
    let output = command.stdin(Stdio::inherit()).output();
    let output = output.map_err(|source| LoginError::Program { program, source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LoginError::Tool { program, said });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
