//! What a client asks a channel to do, and which action of the authorizer that is.
//!
//! `scp` and `rsync` arrive as commands. A command counts as `files` only where it is nothing but such a call
//! (`transfer`). Everything else is `exec`, which asks for more rights: doubt goes that way.

use super::transfer;
use crate::authorize::{Action, FileAccess, SFTP};
use crate::cluster::{Program, WindowSize};

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Request {
    pub what: What,
    /// Variables that the configuration lets a client set.
    pub env: Vec<(String, String)>,
    /// The terminal's name and size where the client asked for one.
    pub terminal: Option<Terminal>,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Shell,
    Command(String),
    Sftp,
}

/// A terminal as `pty-req` describes it (RFC 4254 section 6.2).
#[derive(Debug, Clone)]
pub struct Terminal {
    pub name: String,
    pub size: WindowSize,
}

impl What {
    /// The question for the authorizer.
    pub fn action(&self) -> Action {
        match self {
            What::Shell => Action::Shell,
            What::Sftp => Action::Files { command: SFTP.to_owned(), access: FileAccess::Write },
            What::Command(command) => match transfer::access(command) {
                Some(access) => Action::Files { command: command.clone(), access },
                None => Action::Exec { command: command.clone() },
            },
        }
    }

    /// What runs for it; `read_only` as the grant asks.
    pub fn program(&self, read_only: bool) -> Program {
        match self {
            What::Shell => Program::Shell,
            What::Sftp => Program::Sftp { read_only },
            What::Command(command) => Program::Command(command.clone()),
        }
    }
}
