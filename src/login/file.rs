//! Files replaced at one stroke: a program that reads one at any moment finds the old text or the new one, whole.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::LoginError;

/// Replaces `file`, or what it links to, by `bytes` in a file of `mode`.
pub(super) fn replace(file: &Path, bytes: &[u8], mode: u32) -> Result<(), LoginError> {
    // A configuration that is kept elsewhere and linked to stays a link.
    let file = &fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let failed = LoginError::file(file);
    let mut fresh = file.as_os_str().to_owned();
    fresh.push(format!(".porthole-{}", std::process::id()));
    let written = (OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh))
        .and_then(|mut open| open.write_all(bytes).and_then(|()| open.sync_all()))
        .and_then(|()| fs::rename(&fresh, file));
    written.map_err(|error| {
        // The half-written file is of no use to anybody.
        let _ = fs::remove_file(&fresh);
        failed(error)
    })
}
