//! The block for a host in the person's `ssh_config`: written between two marks, the rest kept byte for byte.
//!
//! It goes to the end of the file, where it begins a `Host` of its own and nothing comes under it by accident. ssh takes the
//! first value that it finds, so what the person wrote above it wins.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::key::Key;
use super::{LoginError, file};

/// A configuration that is larger is none that a person wrote.
const CONFIG_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// What is written for one host.
#[derive(Debug)]
pub(super) struct Block {
    begin: String,
    end: String,
    text: String,
}

impl Block {
    pub(super) fn new(host: &str, port: Option<u16>, key: &Key) -> Block {
        let begin = format!("# >>> porthole {host}: written by `porthole login`, a change here is lost");
        let end = format!("# <<< porthole {host}");
        let port = port.map(|port| format!("    Port {port}\n")).unwrap_or_default();
        let text = format!(
            "{begin}\nHost {host}\n{port}    IdentityFile {}\n    CertificateFile {}\n    IdentitiesOnly yes\n{end}\n",
            quoted(key.file()),
            quoted(&key.certificate_file()),
        );
        Block { begin, end, text }
    }

    /// Writes it into `file`, with mode 0600; false where it is there already, word for word.
    pub(super) fn write(&self, file: &Path) -> Result<bool, LoginError> {
        let before = match fs::metadata(file) {
            Ok(known) if known.len() > CONFIG_MAX_BYTES => {
                return Err(LoginError::Config {
                    file: file.to_owned(),
                    problem: "it is too large to be changed here",
                });
            }
            _ => match fs::read(file) {
                Ok(before) => before,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(LoginError::file(file)(error)),
            },
        };
        let after = self.put(&before).map_err(|problem| LoginError::Config { file: file.to_owned(), problem })?;
        if after == before {
            return Ok(false);
        }
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(LoginError::file(folder))?;
        }
        file::replace(file, &after, 0o600)?;
        Ok(true)
    }

    /// `before` with the block in it: in place of the one that is there, or at the end.
    fn put(&self, before: &[u8]) -> Result<Vec<u8>, &'static str> {
        let lines: Vec<&[u8]> = before.split_inclusive(|byte| *byte == b'\n').collect();
        let is = |line: &[u8], mark: &str| line.trim_ascii_end() == mark.as_bytes();
        let Some(first) = lines.iter().position(|line| is(line, &self.begin)) else {
            if lines.iter().any(|line| is(line, &self.end)) {
                return Err("the block's first line is missing: remove the rest of it");
            }
            let mut after = before.to_vec();
            if !after.is_empty() {
                let ended = after.ends_with(b"\n");
                after.extend_from_slice(if ended { b"\n" } else { b"\n\n" });
            }
            after.extend_from_slice(self.text.as_bytes());
            return Ok(after);
        };
        let (above, rest) = lines.split_at(first);
        let Some(length) = rest.iter().position(|line| is(line, &self.end)) else {
            return Err("the block's last line is missing: remove what is left of it");
        };
        let below = rest.get(length + 1..).unwrap_or_default();
        Ok([above.concat(), self.text.clone().into_bytes(), below.concat()].concat())
    }
}

/// A path as ssh_config takes it: in quotes, `%` doubled, since it stands for a token.
pub(super) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(key: &str) -> Block {
        let (begin, end) = ("# >>> porthole h".to_owned(), "# <<< porthole h".to_owned());
        let text = format!("{begin}\nHost h\n    IdentityFile {key}\n{end}\n");
        Block { begin, end, text }
    }

    #[test]
    fn everything_else_stays_byte_for_byte_and_a_second_time_changes_nothing() {
        for before in [
            b"".as_slice(),
            b"Host *\n",
            b"Host *",
            b"\xff\xfe not text\r\n\r\n\tHost x\r\n",
            b"# >>> porthole other\nHost other\n# <<< porthole other\n\n\n",
        ] {
            let once = block("a").put(before).expect("no block is there");
            assert!(once.starts_with(before) && once.ends_with(block("a").text.as_bytes()));
            assert_eq!(block("a").put(&once).expect("one is there"), once);
            let below = [once.as_slice(), b"\nHost below\n\tUser \xff"].concat();
            let changed = block("b").put(&below).expect("one is there");
            assert_eq!(block("a").put(&changed).expect("one is there"), below);
            assert_ne!(changed, below);
        }
    }

    #[test]
    fn a_block_that_lost_a_mark_is_left_alone() {
        let whole = block("a").put(b"Host *\n").expect("none is there");
        let text = String::from_utf8(whole).expect("text");
        assert!(block("a").put(text.replace("# <<< porthole h\n", "").as_bytes()).is_err());
        assert!(block("a").put(text.replace("# >>> porthole h\n", "").as_bytes()).is_err());
    }
}
