//! The server's own keys: a client that has seen them once must find them again, over restarts and replicas.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

/// A host key that cannot be used; the text names the file and says what would be right.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    #[error(
        "cannot read the host key {file}: {source}; make one with ssh-keygen -t ed25519 -N '' -f {file}, or set ssh.generate-host-key = true"
    )]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{file} is no OpenSSH private key without a passphrase: {source}")]
    Malformed { file: PathBuf, source: russh::keys::ssh_key::Error },
    #[error("{file} is encrypted: a server's key has no passphrase; remove it with ssh-keygen -p -N '' -f {file}")]
    Encrypted { file: PathBuf },
    #[error("{file} can be read by others (mode {mode:o}): run chmod go= {file}")]
    Exposed { file: PathBuf, mode: u32 },
    #[error("cannot make the host key {file}: {source}")]
    Unwritable { file: PathBuf, source: io::Error },
}

/// Reads the host keys; makes the first one where it is missing and `generate` says so.
pub fn load(files: &[PathBuf], generate: bool) -> Result<Vec<PrivateKey>, HostKeyError> {
    if generate && let Some(first) = files.first() {
        make_if_missing(first)?;
    }
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Result<PrivateKey, HostKeyError> {
    let unreadable = |source| HostKeyError::Unreadable { file: file.to_owned(), source };
    let text = fs::read_to_string(file).map_err(unreadable)?;
    let mode = fs::metadata(file).map_err(unreadable)?.permissions().mode() & 0o777;
    // A Secret is mounted 0640 or so with the pod's own group; the world must not read it.
    if mode & 0o007 != 0 {
        return Err(HostKeyError::Exposed { file: file.to_owned(), mode });
    }
    let key =
        PrivateKey::from_openssh(&text).map_err(|source| HostKeyError::Malformed { file: file.to_owned(), source })?;
    if key.is_encrypted() {
        return Err(HostKeyError::Encrypted { file: file.to_owned() });
    }
    Ok(key)
}

fn make_if_missing(file: &Path) -> Result<(), HostKeyError> {
    let unwritable = |source| HostKeyError::Unwritable { file: file.to_owned(), source };
    // `create_new` decides who makes it: whoever loses reads the winner's.
    let mut new = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(new) => new,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(unwritable(error)),
    };
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)
        .map_err(|error| unwritable(io::Error::other(error)))?;
    let text = key.to_openssh(LineEnding::LF).map_err(|error| unwritable(io::Error::other(error)))?;
    new.write_all(text.as_bytes()).and_then(|()| new.sync_all()).map_err(unwritable)?;
    tracing::warn!(file = %file.display(), fingerprint = %key.fingerprint(Default::default()), "made a new host key");
    Ok(())
}
