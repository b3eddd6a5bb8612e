//! The CAs whose word counts, from files in `authorized_keys` form.
//!
//! Invariant: a key that is in here is strong enough to vouch for somebody. A line that cannot be read, or that
//! restricts its key in a way that is not honoured here, is an error: passing over it would widen or narrow the trust in
//! silence.

use std::collections::HashSet;
use std::path::Path;

use russh::keys::PublicKey;

use super::CertificateSetupError;
use super::algorithm::weakness_of_key;
use super::file;
use super::marks::KeyMarks;

/// The trusted CAs of one file, as their keys stand on the wire.
#[derive(Debug, Default)]
pub struct Authorities(HashSet<Vec<u8>>);

impl Authorities {
    pub(super) fn load(path: &Path) -> Result<Authorities, CertificateSetupError> {
        Authorities::parse(&file::read_text(path, file::AUTHORITIES_MAX_BYTES)?)
            .map_err(|problem| CertificateSetupError::unusable(path, problem))
    }

    /// Reads lines `[cert-authority] ALGORITHM KEY [COMMENT]`; the error names the line.
    pub fn parse(text: &str) -> Result<Authorities, String> {
        let mut keys = HashSet::new();
        for (number, line) in file::lines(text) {
            let line = match line.split_once([' ', '\t']) {
                Some(("cert-authority", key)) => key.trim_start(),
                _ => line,
            };
            let key = PublicKey::from_openssh(line).map_err(|_| {
                format!("line {number} is no public key: use the CA's .pub line, `ssh-ed25519 AAAA…`, without options")
            })?;
            if let Some(weakness) = weakness_of_key(key.key_data()) {
                return Err(format!("line {number} cannot be a trusted CA: {weakness}"));
            }
            keys.insert(KeyMarks::of(key.key_data()).blob().to_vec());
        }
        Ok(Authorities(keys))
    }

    pub(super) fn contains(&self, ca: &KeyMarks) -> bool {
        self.0.contains(ca.blob())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIILq1qB6rSvJmdGqgb1qvPqiuYnHxYWjNGWdqzYN0yHq";

    #[test]
    fn comments_blank_lines_and_the_option_of_authorized_keys_are_read() {
        let text = format!("# the old one\n\n{CA} ca@corp # 2025\r\n\tcert-authority  {CA}\n");
        let authorities = Authorities::parse(&text).expect("all known");
        assert_eq!(authorities.0.len(), 1);
        assert!(Authorities::parse("# none\n").expect("none is none").is_empty());
    }

    #[test]
    fn a_line_that_would_be_passed_over_is_an_error() {
        for line in [
            "nonsense".to_owned(),
            "ssh-ed25519 AAAA".to_owned(),
            format!("cert-authority,principals=\"a\" {CA}"),
            format!("from=\"10.0.0.0/8\" {CA}"),
            "ssh-dss AAAAB3NzaC1kc3MAAAABBwAAAAEHAAAAAQcAAAABBw==".to_owned(),
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwEAAQ==".to_owned(),
        ] {
            let error = Authorities::parse(&format!("{CA}\n{line}\n")).expect_err(&line);
            assert!(error.starts_with("line 2 "), "{line}: {error}");
        }
    }
}
