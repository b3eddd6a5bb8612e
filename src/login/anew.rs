//! The key without its certificate, for an `ssh` that is to log in anew.
//!
//! `ssh` takes a certificate from beside a key and from wherever a configuration names one, and has no option that takes
//! one away again: `CertificateFile=none` only adds a file that is not there. To move the certificate away for a while
//! would lose it where that is interrupted, and hide it from every other `ssh` meanwhile. So this `ssh` finds the key by a
//! link, which has no certificate beside it, and reads a copy of the configuration without the lines that name the two.
//!
//! Invariant: nothing of the person's is moved or changed. What an interruption leaves is a folder with a link and a copy.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use rand::RngExt as _;

use super::LoginError;
use super::key::{Key, with_ending};

/// Where `ssh` finds what holds for every person of a machine.
const OF_THE_MACHINE: &str = "/etc/ssh/ssh_config";

/// Runs `act` with the key's link, and the configuration that it is to be read with; none where `ssh` finds that by itself.
pub(super) fn without_certificate<T>(
    key: &Key,
    config: Option<&Path>,
    act: impl FnOnce(&Path, Option<&Path>) -> Result<T, LoginError>,
) -> Result<T, LoginError> {
    let name = format!("porthole-login-{:016x}", rand::rng().random::<u64>());
    let folder = std::env::temp_dir().join(name);
    fs::DirBuilder::new().mode(0o700).create(&folder).map_err(LoginError::file(&folder))?;
    let done = link(&folder, key).and_then(|link| {
        let copy = copy(&link, key, config)?;
        act(&link, copy.as_deref().or(config))
    });
    // One that stays is in nobody's way.
    let _ = fs::remove_dir_all(&folder);
    done
}

fn link(folder: &Path, key: &Key) -> Result<PathBuf, LoginError> {
    // By its own name, since ssh may ask for its passphrase.
    let link = folder.join(key.file().file_name().unwrap_or(OsStr::new("key")));
    symlink(key.file(), &link).map_err(LoginError::file(&link))?;
    let public = with_ending(&link, ".pub");
    fs::write(&public, key.public()).map_err(LoginError::file(&public))?;
    Ok(link)
}

/// The copy of the configuration; none where that names neither the key nor the certificate. What it includes is not looked
/// into: a certificate that is named there logs in again, and what comes of it is no worse than what is there.
fn copy(link: &Path, key: &Key, config: Option<&Path>) -> Result<Option<PathBuf>, LoginError> {
    let home = super::home().ok();
    let file = config.map(Path::to_owned).or_else(|| Some(home.as_ref()?.join(".ssh/config")));
    // Of one that is not there nothing can be left out, and ssh says itself what it cannot read.
    let before = file.and_then(|file| fs::read(file).ok()).unwrap_or_default();
    let mut after = without(&before, &[key.file().to_owned(), key.certificate_file()], home.as_deref());
    if after == before {
        return Ok(None);
    }
    if config.is_none() {
        // With a configuration on its command line, ssh reads no other.
        after.extend_from_slice(format!("\nMatch all\nInclude {OF_THE_MACHINE}\n").as_bytes());
    }
    let copy = with_ending(link, ".ssh_config");
    fs::write(&copy, after).map_err(LoginError::file(&copy))?;
    Ok(Some(copy))
}

/// A configuration without the lines that name one of `files`.
fn without(config: &[u8], files: &[PathBuf; 2], home: Option<&Path>) -> Vec<u8> {
    let lines = config.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !names(&String::from_utf8_lossy(line), files, home)).collect::<Vec<_>>().concat()
}

/// Whether a line is about one of `files`, by ssh_config(5): `Keyword value` or `Keyword=value`, the value in quotes or not.
fn names(line: &str, files: &[PathBuf; 2], home: Option<&Path>) -> bool {
    let between = |c: char| c.is_ascii_whitespace() || c == '=';
    let Some((keyword, value)) = line.trim().split_once(between) else { return false };
    if !["IdentityFile", "CertificateFile"].into_iter().any(|known| known.eq_ignore_ascii_case(keyword)) {
        return false;
    }
    let value = value.trim_start_matches(between);
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split_ascii_whitespace().next(),
    };
    let value = value.unwrap_or_default();
    let below_home = ["~/", "%d/", "${HOME}/"].into_iter().find_map(|start| value.strip_prefix(start));
    let path = match (below_home, home) {
        (Some(rest), Some(home)) => home.join(rest.replace("%%", "%")),
        _ => PathBuf::from(value.replace("%%", "%")),
    };
    files.contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_and_its_certificate_are_left_out_however_they_are_spelled_and_all_else_stays() {
        let files = [PathBuf::from("/home/mia/.ssh/a%b c"), PathBuf::from("/home/mia/.ssh/k-cert.pub")];
        let left_out = |line: &str| {
            let config = [b"Host h\n\xff\n".as_slice(), line.as_bytes(), b"\nPort 22"].concat();
            let after = without(&config, &files, Some(Path::new("/home/mia")));
            assert!(after == config || after == b"Host h\n\xff\nPort 22", "{}", String::from_utf8_lossy(&after));
            after != config
        };
        for line in [
            "IdentityFile \"/home/mia/.ssh/a%%b c\"",
            "    identityfile = \"~/.ssh/a%%b c\"",
            "\tCertificateFile\t%d/.ssh/k-cert.pub\r",
            "CERTIFICATEFILE=${HOME}/.ssh/k-cert.pub # mine",
        ] {
            assert!(left_out(line), "{line}");
        }
        for line in [
            "IdentityFile ~/.ssh/k",
            "CertificateFile /home/noa/.ssh/k-cert.pub",
            "#CertificateFile ~/.ssh/k-cert.pub",
            "IdentityAgent ~/.ssh/k-cert.pub",
            "IdentityFile",
            "IdentityFile \"",
            "",
        ] {
            assert!(!left_out(line), "{line}");
        }
    }
}
