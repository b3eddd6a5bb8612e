//! Reading the files that trust rests on: bounded, and a text file never half-written.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::CertificateSetupError;

/// A thousand CAs; more is a mistake in the configuration.
pub(super) const AUTHORITIES_MAX_BYTES: u64 = 1024 * 1024;
/// Three million serials as a plain list; a denser list is shorter as a KRL.
pub(super) const REVOCATION_LIST_MAX_BYTES: u64 = 32 * 1024 * 1024;

/// Reads a file of at most `max` bytes.
pub(super) fn read(path: &Path, max: u64) -> Result<Vec<u8>, CertificateSetupError> {
    let unreadable = |source| CertificateSetupError::Unreadable { file: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > max {
        return Err(CertificateSetupError::unusable(path, format_args!("it is larger than {max} bytes")));
    }
    Ok(bytes)
}

/// Reads a text file. An empty one is an error: it is what a file looks like that is just being written, and to believe
/// it would end sessions, or let somebody in who is revoked.
pub(super) fn read_text(path: &Path, max: u64) -> Result<String, CertificateSetupError> {
    let unusable = |problem| CertificateSetupError::unusable(path, problem);
    let text = String::from_utf8(read(path, max)?).map_err(|_| unusable("it is not text: use lines in UTF-8"))?;
    if text.is_empty() {
        return Err(unusable("it is empty: where nothing is meant, write a line that begins with #"));
    }
    Ok(text)
}

/// The lines that say something, trimmed, with their numbers from 1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}
