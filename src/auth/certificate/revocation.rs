//! Lists of what is revoked: OpenSSH's binary lists, and a plain text file for the operator in a hurry.
//!
//! Invariant: a line that is not understood is an error, never skipped; a file of zero bytes is an error too, since
//! it is what a half-written file looks like, and it would revoke nothing.

use std::path::{Path, PathBuf};

use super::CertificateSetupError;
use super::file;
use super::krl::Krl;
use super::marks::Marks;

/// A revocation list of either form.
#[derive(Debug)]
pub enum RevocationList {
    Krl { file: PathBuf, krl: Krl },
    Plain { file: PathBuf, plain: Plain },
}

/// The text file: `serial: N`, `serial: N-M`, `id: KEY-ID`, and comments. Its lines count for every trusted CA.
#[derive(Debug, Default)]
pub struct Plain {
    serials: Vec<(u64, u64)>,
    key_ids: Vec<String>,
}

impl RevocationList {
    pub(super) fn load_krl(path: &Path) -> Result<RevocationList, CertificateSetupError> {
        let krl = Krl::parse(&file::read(path, file::REVOCATION_LIST_MAX_BYTES)?)
            .map_err(|error| CertificateSetupError::unusable(path, error))?;
        Ok(RevocationList::Krl { file: path.to_owned(), krl })
    }

    pub(super) fn load_plain(path: &Path) -> Result<RevocationList, CertificateSetupError> {
        let plain = Plain::parse(&file::read_text(path, file::REVOCATION_LIST_MAX_BYTES)?)
            .map_err(|error| CertificateSetupError::unusable(path, error))?;
        Ok(RevocationList::Plain { file: path.to_owned(), plain })
    }

    /// Why the certificate is revoked, with the list that says so; none if it is not.
    pub(super) fn revokes(&self, marks: &Marks) -> Option<String> {
        let (reason, file) = match self {
            RevocationList::Krl { file, krl } => (krl.revokes(marks)?, file),
            RevocationList::Plain { file, plain } => (plain.revokes(marks)?, file),
        };
        Some(format!("{reason} by {}", file.display()))
    }
}

impl Plain {
    /// Reads the text; the error names the line.
    pub fn parse(text: &str) -> Result<Plain, String> {
        let mut plain = Plain::default();
        for (number, line) in file::lines(text) {
            let wrong = || {
                format!(
                    "line {number} is no revocation: use `serial: 7`, `serial: 7-9` or `id: KEY-ID`, and # for a comment"
                )
            };
            let (kind, value) = line.split_once(':').ok_or_else(wrong)?;
            match (kind.trim_end(), value.trim()) {
                ("serial", serials) => plain.serials.push(serial_range(serials).ok_or_else(wrong)?),
                ("id", "") => return Err(wrong()),
                ("id", key_id) => plain.key_ids.push(key_id.to_owned()),
                _ => return Err(wrong()),
            }
        }
        Ok(plain)
    }

    /// Unlike a KRL's, a plain `serial: 0` counts: it revokes all certificates that the CA did not number.
    fn revokes(&self, marks: &Marks) -> Option<&'static str> {
        if self.key_ids.contains(&marks.key_id) {
            return Some("its key id is revoked");
        }
        let listed = self.serials.iter().any(|(first, last)| (*first..=*last).contains(&marks.serial));
        listed.then_some("its serial is revoked")
    }
}

/// `N` or `N-M`, decimal, in order.
fn serial_range(text: &str) -> Option<(u64, u64)> {
    // `u64::from_str` takes a plus sign; a serial has none.
    let serial = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (serial(first.trim())?, serial(last.trim())?),
        None => (serial(text)?, serial(text)?),
    };
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_plain_file_is_understood_or_an_error() {
        let plain =
            Plain::parse("# lost laptops\n\n serial: 7\nserial:10 - 12\r\nid: alice@laptop #2\n").expect("all known");
        assert_eq!(plain.serials, [(7, 7), (10, 12)]);
        assert_eq!(plain.key_ids, ["alice@laptop #2"]);
        for line in [
            "serial:",
            "serial: x",
            "serial: +7",
            "serial: -7",
            "serial: 7-",
            "serial: 9-7",
            "serial: 7 # why",
            "serial: 18446744073709551616",
            "id:",
            "alice",
            "key: ssh-ed25519 AAAA",
            "Serial: 7",
        ] {
            let error = Plain::parse(&format!("# one\n{line}\n")).expect_err(line);
            assert!(error.starts_with("line 2 "), "{line}: {error}");
        }
    }
}
