//! The key that is certified: the person's own, or one that is made for a host and nothing else.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::{LoginError, tools};
use crate::auth::certificate::Label;

/// A private key's file, and its public half.
#[derive(Debug)]
pub(super) struct Key {
    file: PathBuf,
    public: String,
}

impl Key {
    /// A key that the person names.
    pub(super) fn given(file: &Path) -> Result<Key, LoginError> {
        if !file.exists() {
            return Err(LoginError::NoKey { file: file.to_owned() });
        }
        // The configuration must find it from anywhere.
        let file = std::path::absolute(file).map_err(LoginError::file(file))?;
        Key::read(file)
    }

    /// The key for `host` in `folder`, made at the first use.
    pub(super) fn own(folder: &Path, host: &str) -> Result<Key, LoginError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(LoginError::file(folder))?;
        let file = folder.join(host);
        if !file.exists() {
            tools::make_key(&file, host)?;
        }
        Key::read(file)
    }

    fn read(file: PathBuf) -> Result<Key, LoginError> {
        let beside = with_ending(&file, ".pub");
        let public = match fs::read_to_string(&beside) {
            Ok(public) => public,
            Err(_) => tools::public_half(&file)?,
        };
        Ok(Key { file, public })
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The line of its `.pub` file.
    pub(super) fn public(&self) -> &str {
        &self.public
    }

    /// Where `ssh` and `ssh-add` look for its certificate.
    pub(super) fn certificate_file(&self) -> PathBuf {
        with_ending(&self.file, "-cert.pub")
    }

    /// The certificate that is there, if it is this key's.
    pub(super) fn certificate(&self) -> Option<Label> {
        let line = fs::read_to_string(self.certificate_file()).ok()?;
        Label::read(&line, &self.public).ok()
    }
}

/// A path with something behind its name.
pub(super) fn with_ending(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
