//! A process in the pod.

use bytes::Bytes;
use tokio::sync::watch;

use super::error::Lost;
use crate::audit::SessionId;
use crate::config;

/// What to start.
pub struct Launch<'a> {
    pub session: &'a SessionId,
    pub profile_name: &'a str,
    pub profile: &'a config::Profile,
    pub program: Program,
    /// Variables that the client asked for, already filtered; `TERM` among them where there is a terminal.
    pub env: Vec<(String, String)>,
    /// The terminal's size as it changes; none runs without a terminal.
    pub terminal: Option<watch::Receiver<WindowSize>>,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A login shell.
    Shell,
    /// A command line, for the shell.
    Command(String),
    /// The image's sftp-server.
    Sftp,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    pub columns: u16,
    pub rows: u16,
}

/// A process that runs, and all that it says from its first byte on.
pub struct Process {
    pub input: Input,
    pub output: Output,
    pub control: Control,
    /// The ephemeral container's name.
    pub container: String,
    pub image: String,
    pub terminal: bool,
}

/// The process's stdin.
pub struct Input {}

/// The process's stdout and stderr.
pub struct Output {}

/// Everything but the bytes. Clones act on the same process.
#[derive(Clone)]
pub struct Control {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    Stdout(Bytes),
    Stderr(Bytes),
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Exited { status: u32 },
    /// What became of it is not known; never a success.
    Lost { detail: String },
}

impl Input {
    pub async fn write(&mut self, _bytes: Bytes) -> Result<(), Lost> {
        todo!()
    }

    /// The end of stdin; the output goes on.
    pub async fn close(&mut self) -> Result<(), Lost> {
        todo!()
    }
}

impl Output {
    /// The next piece; none when the output has ended, and `Control::exit` will say how.
    pub async fn next(&mut self) -> Option<Chunk> {
        todo!()
    }
}

impl Control {
    /// Never waits; of several sizes the last one wins.
    pub fn resize(&self, _size: WindowSize) {
        todo!()
    }

    /// Sends a signal by its SSH name (`INT`, `TERM`, …) to the program.
    pub async fn signal(&self, _name: &str) -> Result<(), Lost> {
        todo!()
    }

    /// How the process ended; to be asked when the output has.
    pub async fn exit(&self) -> End {
        todo!()
    }

    /// The client is gone: ends the process and whatever it left in its container, and returns when the container has
    /// terminated, or after a bounded time with an error in the log.
    pub async fn end(self) {
        todo!()
    }
}
