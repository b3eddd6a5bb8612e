//! What a client asks a channel to do, and which action of the authorizer that is.
//!
//! `scp` and `rsync` arrive as commands. A command counts as `files` only where it is nothing but such a call: no
//! character that a shell could take for more, and the flags that make it the far end of a transfer. Everything else
//! is `exec`, which asks for more rights: doubt goes that way.

use crate::authorize::Action;
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
            What::Sftp => Action::Files { command: "sftp".to_owned() },
            What::Command(command) if is_file_transfer(command) => Action::Files { command: command.clone() },
            What::Command(command) => Action::Exec { command: command.clone() },
        }
    }

    pub fn program(&self) -> Program {
        match self {
            What::Shell => Program::Shell,
            What::Sftp => Program::Sftp,
            What::Command(command) => Program::Command(command.clone()),
        }
    }
}

fn is_file_transfer(command: &str) -> bool {
    if !is_plain(command) {
        return false;
    }
    let mut words = command.split_ascii_whitespace();
    match words.next() {
        // The far end of a copy has -t or -f among its flags, before any path; the flags that take a value (-S, -o,
        // -F, -c …) belong to the near end and could name a program.
        Some("scp") => {
            let flags: Vec<_> = words.take_while(|word| word.starts_with('-') && *word != "--").collect();
            flags.iter().all(|flag| flag[1..].bytes().all(|letter| b"tfrpdvq".contains(&letter)))
                && flags.iter().any(|flag| flag[1..].contains(['t', 'f']))
        }
        // `--daemon` and `--config` would read a file that can name commands.
        Some("rsync") => {
            words.next() == Some("--server")
                && !words.any(|word| {
                    ["--daemon", "--config", "--dparam", "--rsync-path", "--rsh", "--copy-as", "--log-file"]
                        .iter()
                        .any(|flag| word.starts_with(flag))
                })
        }
        _ => false,
    }
}

/// Only characters that a shell takes as they are, or expands to file names; `\` with one after it is that one.
fn is_plain(command: &str) -> bool {
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        let fine = match character {
            '\\' => characters.next().is_some_and(|escaped| !escaped.is_control()),
            // At a word's start `~` is a home folder; elsewhere it is itself.
            ' ' | '_' | '.' | '/' | '@' | '%' | '+' | '=' | ':' | ',' | '-' | '~' | '*' | '?' | '[' | ']' => true,
            other => other.is_alphanumeric(),
        };
        if !fine {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_far_end_of_a_transfer_counts_as_files() {
        for command in [
            "scp -t /tmp/x",
            "scp -r -p -d -t /tmp",
            "scp -v -f -- /var/log/*.log",
            "rsync --server -logDtpre.iLsfxCIvu . /srv/",
            "rsync --server --sender -vlogDtpre.iLsfxC . a\\ b",
        ] {
            assert!(matches!(What::Command(command.into()).action(), Action::Files { .. }), "{command}");
        }
        for command in [
            "scp -t /tmp; sh",
            "scp -t $(id)",
            "scp -t `id`",
            "scp -t x\nid",
            "scp -S /bin/sh -t x",
            "scp -oProxyCommand=id -t x",
            "scp a host:b",
            "scp /tmp/x -t",
            "rsync --server --daemon .",
            "rsync --server --config=/tmp/x .",
            "rsync -e sh a b:c",
            "FOO=1 scp -t x",
            "/bin/scp -t x",
            "scp -t \"x\"",
            "scp -t x\\",
            "scp",
            "",
        ] {
            assert!(matches!(What::Command(command.into()).action(), Action::Exec { .. }), "{command}");
        }
    }
}
