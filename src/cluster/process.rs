//! A process in the pod: its streams, its end, and the power to end it.
//!
//! Guards: exactness. The first byte of output is the program's first, the last its last, and a status is told only if
//! the wrapper or Kubernetes said it: a stream that broke is `Lost`, never a success.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::watch;

use super::api::ApiServer;
use super::cache::{Follow, Sight};
use super::error::{Lost, StartError};
use super::hangup::{self, Place};
use super::output::{Finish, Output};
use super::pod::State;
use super::script::COMMAND_MAX_BYTES;
use super::stream::StreamSender;
use crate::audit::SessionId;
use crate::config;

pub(super) const STDIN: u8 = 0;
const RESIZE: u8 = 4;
/// v5: the byte that follows is the channel that has ended.
const CLOSE: u8 = 255;
/// A terminal's end of input (VEOF): attach has no other for it, and its own would end the output.
const CTRL_D: &[u8] = &[0x04];
/// The kubelet reports the end of a container within a second or two, where nothing is wrong. Where the stream has ended and
/// the container has not (its runtime was restarted), the person waits for this.
const STATUS_TIMEOUT: Duration = Duration::from_secs(8);
/// What to start.
pub struct Launch<'a> {
    pub session: &'a SessionId,
    pub profile_name: &'a str,
    pub profile: &'a config::Profile,
    pub program: Program,
    /// Variables of the client, already filtered; `TERM` among them where there is a terminal.
    pub env: Vec<(String, String)>,
    /// The terminal's size as it changes until the process runs (`Control::resize` is for later); none runs without a
    /// terminal.
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
    Sftp {
        /// It changes nothing.
        read_only: bool,
    },
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

/// The process's stdin. Dropping it does not end it.
pub struct Input {
    pub(super) stream: StreamSender,
    pub(super) ending: InputEnd,
    pub(super) ended: watch::Sender<bool>,
}

/// How the end of stdin is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputEnd {
    /// By a message of v5.
    Message,
    /// By Ctrl-D.
    Terminal,
    /// Not at all, while the output is to go on.
    Impossible,
}

/// Everything but the bytes. Clones act on the same process.
#[derive(Clone)]
pub struct Control {
    pub(super) api: ApiServer,
    pub(super) place: Arc<Place>,
    pub(super) follow: Follow,
    pub(super) stream: StreamSender,
    pub(super) finish: watch::Receiver<Option<Finish>>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Exited {
        status: u32,
    },
    /// What became of it is not known; never a success.
    Lost {
        detail: String,
    },
}

/// What can be refused before anything is started.
pub(super) fn check(program: &Program) -> Result<(), StartError> {
    let Program::Command(command) = program else { return Ok(()) };
    if command.contains('\0') {
        return Err(StartError::new("bad_command", "the command has a zero byte in it, which no program can be given"));
    }
    if command.len() > COMMAND_MAX_BYTES {
        let person = format!("the command is longer than {COMMAND_MAX_BYTES} bytes: put it into a file, and run that");
        return Err(StartError::new("bad_command", person));
    }
    Ok(())
}

/// Sends a terminal's size. Never waits; of several the last one wins.
pub(super) fn send_size(stream: &StreamSender, size: WindowSize) {
    let message = json!({"Width": size.columns, "Height": size.rows}).to_string();
    stream.send_latest(RESIZE, message.as_bytes());
}

impl Input {
    /// Writes to stdin; waits while the process takes nothing.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Lost> {
        self.stream.send(STDIN, bytes).await
    }

    /// The end of stdin; the output goes on. In a terminal it is Ctrl-D.
    ///
    /// An API server that speaks only v4 (before Kubernetes 1.30) cannot pass it on: the output then ends when it has been
    /// silent for a few seconds, and the process counts as lost unless it has ended by itself.
    pub async fn close(&mut self) -> Result<(), Lost> {
        match self.ending {
            InputEnd::Message => self.stream.send_message(Bytes::from_static(&[CLOSE, STDIN])).await,
            InputEnd::Terminal => self.stream.send(STDIN, Bytes::from_static(CTRL_D)).await,
            InputEnd::Impossible => {
                self.ended.send_replace(true);
                Ok(())
            }
        }
    }
}

impl Control {
    /// Never waits; of several sizes the last one wins.
    pub fn resize(&self, size: WindowSize) {
        send_size(&self.stream, size);
    }

    /// Sends a signal by its SSH name (`INT`, `TERM`, …; RFC 4254 section 6.10) to the program.
    pub async fn signal(&self, name: &str) -> Result<(), Lost> {
        hangup::signal(&self.api, &self.place, name).await
    }

    /// How the process ended; to be asked when the output has, and waits for that.
    pub async fn exit(&self) -> End {
        let mut finish = self.finish.clone();
        let finish = finish.wait_for(Option::is_some).await.ok().and_then(|finish| finish.clone());
        match finish {
            Some(Finish::Told(status)) => End::Exited { status },
            Some(Finish::Broken(why)) => End::Lost { detail: why },
            Some(Finish::Untold) => self.status().await,
            None => End::Lost { detail: "its output was not read to the end".to_owned() },
        }
    }

    /// The client is gone: ends the process and whatever it left in its container, and returns when the container has
    /// terminated, or, with false and an error in the log, after a bounded time.
    pub async fn end(self) -> bool {
        self.stream.hang_up();
        hangup::end(&self.api, &self.place, self.follow).await
    }

    /// The container's state as the watch last told it.
    #[cfg(test)]
    pub(super) fn state(&self) -> State {
        self.follow.sight().pod().state(&self.place.container).clone()
    }

    /// What Kubernetes says of a container whose wrapper could not say it.
    async fn status(&self) -> End {
        let mut follow = self.follow.clone();
        let name = &self.place.container;
        let said = follow.until(|sight| match (sight.pod().state(name), sight) {
            (State::Terminated { status, reason, .. }, _) => Some(match u32::try_from(*status) {
                // The wrapper ends with the program's status and says it before. Only a signal keeps it from that; any
                // other end without a word means that the stream is not whole.
                Ok(status @ 128..) => End::Exited { status },
                _ => End::Lost { detail: format!("the end of the output is missing ({reason}, status {status})") },
            }),
            (_, Sight::Gone(_)) => Some(End::Lost { detail: "the pod is gone".to_owned() }),
            _ => None,
        });
        let late = || End::Lost { detail: format!("the stream ended, and no status came within {STATUS_TIMEOUT:?}") };
        tokio::time::timeout(STATUS_TIMEOUT, said).await.unwrap_or_else(|_| late())
    }
}
