//! The one line that a client sends: a public key to be certified.
//!
//! It comes from whoever logged in, in any size and form. What is no plain, strong public key is told what it is
//! instead, since the commonest mistakes are the wrong file.

use russh::keys::PublicKey;

use crate::auth::certificate::weakness_of_key;

/// An RSA key of 16384 bits is 2.8 KiB in base64; the rest is for the comment.
pub const PUBLIC_KEY_MAX_BYTES: usize = 8 * 1024;
/// A comment goes into the person's own file only, and is cut there.
const COMMENT_MAX_CHARS: usize = 128;

/// Why what came is no key that is certified. The texts are for the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    #[error("no key came: give your public key on standard input, as in cert < ~/.ssh/id_ed25519.pub")]
    Nothing,
    #[error("what came is longer than any public key: give the one line of your .pub file")]
    TooLong,
    #[error("that is a private key, which nobody else may see: give the .pub file, and make a new key")]
    Private,
    #[error("that is a certificate: give the .pub file of your key itself")]
    Certificate,
    #[error("that is more than one line: give one public key")]
    ManyLines,
    #[error("that is no public key: give the one line of your .pub file, as in ssh-ed25519 AAAA… you@laptop")]
    Malformed,
    #[error("this key is not certified: {weakness}")]
    Weak { weakness: String },
}

/// Reads `ALGORITHM KEY [COMMENT]`, strong enough to be certified.
pub fn parse(bytes: &[u8]) -> Result<PublicKey, PublicKeyError> {
    if bytes.len() > PUBLIC_KEY_MAX_BYTES {
        return Err(PublicKeyError::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| PublicKeyError::Malformed)?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.next().ok_or(PublicKeyError::Nothing)?;
    if line.starts_with("-----BEGIN ") && line.contains("PRIVATE KEY") {
        return Err(PublicKeyError::Private);
    }
    if lines.next().is_some() {
        return Err(PublicKeyError::ManyLines);
    }
    let algorithm = line.split_ascii_whitespace().next().unwrap_or_default();
    if algorithm.contains("-cert-v01@") {
        return Err(PublicKeyError::Certificate);
    }
    if line.contains(char::is_control) {
        return Err(PublicKeyError::Malformed);
    }
    let mut key = PublicKey::from_openssh(line).map_err(|_| PublicKeyError::Malformed)?;
    if let Some(weakness) = weakness_of_key(key.key_data()) {
        return Err(PublicKeyError::Weak { weakness });
    }
    let comment: String = key.comment().as_str_lossy().chars().take(COMMENT_MAX_CHARS).collect();
    key.set_comment(comment);
    Ok(key)
}
