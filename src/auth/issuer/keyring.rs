//! The CA's keys: one that signs, here or in an agent, and all that are believed.
//!
//! Invariant: the key that signs is among those that are believed. A private key leaves its file for this process's memory
//! and nothing else; in an agent it stays where it is.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use russh::keys::agent::client::AgentClient;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_key::Signature;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PublicKey};

use super::IssueError;
use super::draft::Draft;
use crate::auth::certificate::{Authorities, CertificateSetupError};

/// A CA's private key is a few kilobytes.
const KEY_MAX_BYTES: u64 = 64 * 1024;
/// Hardware may take a second or two for a signature.
const AGENT_DEADLINE: Duration = Duration::from_secs(10);
const PRIVATE_KEY: &str = "-----BEGIN ";

/// The CA's keys as the files say.
pub struct Keyring {
    signer: Signer,
    authorities: Authorities,
}

enum Signer {
    Key(Box<PrivateKey>),
    Agent { socket: PathBuf, key: Box<PublicKey> },
}

enum Entry {
    Private(Box<PrivateKey>),
    Public(Box<PublicKey>),
}

impl Keyring {
    /// Reads every key; the first one must be able to sign, by itself or by the agent at `agent`.
    pub(super) fn load(files: &[PathBuf], agent: Option<&Path>) -> Result<Keyring, CertificateSetupError> {
        let mut signer = None;
        let mut lines = String::new();
        for file in files {
            let entry = read(file)?;
            let public = entry.public();
            let line = public.to_openssh().map_err(|error| CertificateSetupError::of_key(file, error.to_string()))?;
            // One by one, so that a weak key is told with its own file.
            Authorities::parse(&line).map_err(|problem| {
                let problem = problem.split_once(": ").map_or(problem.as_str(), |(_, weakness)| weakness);
                CertificateSetupError::of_key(file, problem)
            })?;
            lines += &line;
            lines.push('\n');
            if signer.is_none() {
                signer =
                    Some(Signer::new(entry, agent).map_err(|problem| CertificateSetupError::of_key(file, problem))?);
            }
        }
        let authorities = Authorities::parse(&lines)
            .map_err(|problem| CertificateSetupError::of_key(Path::new("certificate-authority.keys"), problem))?;
        let Some(signer) = signer else {
            return Err(CertificateSetupError::NoAuthority { files: files.to_vec() });
        };
        Ok(Keyring { signer, authorities })
    }

    /// The public halves, all of them.
    pub(in crate::auth) fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// Signs; waits for an agent no longer than a person would.
    pub(super) async fn sign(&self, draft: Draft) -> Result<Certificate, IssueError> {
        let failed = |detail: String| IssueError::Signing { detail };
        let unsigned = draft.lay_out(self.signer.public().key_data()).map_err(|error| failed(error.to_string()))?;
        let signature = match &self.signer {
            Signer::Key(key) => key.try_sign(unsigned.bytes()).map_err(|error| failed(error.to_string()))?,
            Signer::Agent { socket, key } => {
                let asked = ask(socket, key, unsigned.bytes());
                let answer = tokio::time::timeout(AGENT_DEADLINE, asked).await;
                let late = || format!("the agent at {} does not answer", socket.display());
                answer.map_err(|_| failed(late()))?.map_err(failed)?
            }
        };
        unsigned.complete(&signature).map_err(|error| failed(error.to_string()))
    }
}

impl Signer {
    fn new(entry: Entry, agent: Option<&Path>) -> Result<Signer, &'static str> {
        match (entry, agent) {
            (Entry::Private(key), None) => Ok(Signer::Key(key)),
            (Entry::Public(key), Some(socket)) => Ok(Signer::Agent { socket: socket.to_owned(), key }),
            (Entry::Public(_), None) => {
                Err("it is a public key, which cannot sign: name the private one first, or set agent-socket")
            }
            (Entry::Private(_), Some(_)) => {
                Err("it is a private key, and agent-socket is set: name the public key that the agent holds")
            }
        }
    }

    fn public(&self) -> &PublicKey {
        match self {
            Signer::Key(key) => key.public_key(),
            Signer::Agent { key, .. } => key,
        }
    }
}

impl Entry {
    fn public(&self) -> &PublicKey {
        match self {
            Entry::Private(key) => key.public_key(),
            Entry::Public(key) => key,
        }
    }
}

fn read(file: &Path) -> Result<Entry, CertificateSetupError> {
    use std::io::Read as _;
    let unreadable = |source| CertificateSetupError::Unreadable { file: file.to_owned(), source };
    let wrong = |problem: &str| CertificateSetupError::of_key(file, problem);
    let opened = File::open(file).map_err(unreadable)?;
    let mode = opened.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    let mut text = String::new();
    opened.take(KEY_MAX_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    if !text.starts_with(PRIVATE_KEY) {
        let key = PublicKey::from_openssh(text.trim())
            .map_err(|_| wrong("it is neither an OpenSSH private key nor a public one"))?;
        return Ok(Entry::Public(Box::new(key)));
    }
    // A Secret is mounted 0640 or so with the pod's own group; the world must not read it.
    if mode & 0o007 != 0 {
        return Err(wrong(&format!("it can be read by others (mode {mode:o}): run chmod go= on it")));
    }
    let key = PrivateKey::from_openssh(&text).map_err(|_| wrong("it is no OpenSSH private key"))?;
    if key.is_encrypted() {
        return Err(wrong("it has a passphrase: remove it with ssh-keygen -p, or let an ssh-agent hold the key"));
    }
    Ok(Entry::Private(Box::new(key)))
}

async fn ask(socket: &Path, key: &PublicKey, bytes: &[u8]) -> Result<Signature, String> {
    let told = |what: &str, error: &dyn std::fmt::Display| format!("the agent at {} {what}: {error}", socket.display());
    let mut agent = AgentClient::connect_uds(socket).await.map_err(|error| told("cannot be reached", &error))?;
    let hash = matches!(key.algorithm(), Algorithm::Rsa { .. }).then_some(HashAlg::Sha512);
    let signed = agent.sign_request_signature(key, hash, bytes).await;
    signed.map_err(|error| told("does not sign, perhaps since it does not hold the key", &error))
}
