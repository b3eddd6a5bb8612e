//! A process in the pod: its streams, its end, and the power to end it.
//!
//! Guards: exactness. The first byte of output is the program's first, the last its last, and a status is told only if
//! the wrapper or Kubernetes said it: a stream that broke is `Lost`, never a success.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource as _;
use kube::api::AttachParams;
use rand::RngExt as _;
use serde_json::json;
use tokio::sync::watch;

use super::api::{ApiServer, is_passing};
use super::cache::{Follow, Sight};
use super::container::Running;
use super::error::{Lost, Refused, StartError};
use super::hangup::{self, Place};
use super::marker::{Markers, Piece};
use super::pod::State;
use super::script::{COMMAND_MAX_BYTES, GO, Order};
use super::stream::{self, Came, StreamEnd, StreamReceiver, StreamSender};
use crate::audit::SessionId;
use crate::authorize::Grant;
use crate::config;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
/// v5: the byte that follows is the channel that has ended.
const CLOSE: u8 = 255;
/// A terminal's end of input (VEOF): attach has no other for it, and its own would end the output.
const CTRL_D: &[u8] = &[0x04];
/// How long bytes that may be the beginning of a marker are kept back. The wrapper says its markers in one write.
const HOLD: Duration = Duration::from_millis(100);
/// Where the API server cannot pass the end of stdin on: this long without output and the stream is closed.
const V4_SILENCE: Duration = Duration::from_secs(5);
/// The kubelet reports the end of a container within a second or two, where nothing is wrong.
const STATUS_TIMEOUT: Duration = Duration::from_secs(20);
/// Between tries to attach.
const ATTACH_PAUSE: Duration = Duration::from_millis(200);

/// What to start.
pub struct Launch<'a> {
    pub session: &'a SessionId,
    pub profile_name: &'a str,
    pub profile: &'a config::Profile,
    pub program: Program,
    /// Variables that the client asked for, already filtered; `TERM` among them where there is a terminal.
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

/// The process's stdin. Dropping it does not end it.
pub struct Input {
    stream: StreamSender,
    ending: InputEnd,
    ended: Arc<watch::Sender<bool>>,
}

/// How the end of stdin is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputEnd {
    /// By a message of v5.
    Message,
    /// By Ctrl-D.
    Terminal,
    /// Not at all, while the output is to go on.
    Impossible,
}

/// The process's stdout and stderr. Dropping it closes the stream.
pub struct Output {
    stream: StreamReceiver,
    markers: Markers,
    status: Option<u32>,
    /// What the API server said at the end.
    said: Option<Bytes>,
    finish: watch::Sender<Option<Finish>>,
    /// Whether the input has ended where that cannot be told; none where it can.
    input_ended: Option<watch::Receiver<bool>>,
}

/// Everything but the bytes. Clones act on the same process.
#[derive(Clone)]
pub struct Control {
    api: ApiServer,
    place: Arc<Place>,
    follow: Follow,
    stream: StreamSender,
    finish: watch::Receiver<Option<Finish>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    Stdout(Bytes),
    Stderr(Bytes),
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

/// How the output ended.
#[derive(Debug, Clone)]
enum Finish {
    /// The wrapper said the status.
    Told(u32),
    /// The stream ended as it should, but the wrapper said nothing: something killed it.
    Untold,
    Broken(String),
}

/// Attaches to a container that runs, hands it its order, and returns when it has begun.
pub(super) async fn attach(
    api: &ApiServer,
    grant: &Grant,
    launch: Launch<'_>,
    running: Running,
    deadline: Duration,
) -> Result<Process, StartError> {
    let container = running.name.clone();
    let begun = begin(api, grant, launch, running);
    let begun = tokio::time::timeout(deadline, begun).await.unwrap_or_else(|_| {
        let person = format!("the debug container did not answer within {deadline:?}: try again");
        Err(StartError::new("timeout", person))
    });
    begun.map_err(|error| error.in_container(&container))
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

async fn begin(api: &ApiServer, grant: &Grant, launch: Launch<'_>, running: Running) -> Result<Process, StartError> {
    let terminal = launch.terminal.is_some();
    let connection = connect(api, grant, &running, terminal).await?;
    let ending = match terminal {
        true => InputEnd::Terminal,
        false if connection.supports_stream_close() => InputEnd::Message,
        false => InputEnd::Impossible,
    };
    let (stream, receiver) = stream::carry(connection).await;

    let secret = secret();
    let size = launch.terminal.as_ref().map(|sizes| *sizes.borrow());
    if let Some(size) = size {
        stream.send_latest(RESIZE, &resize(size));
    }
    let order = Order {
        secret: &secret,
        program: &launch.program,
        shell: launch.profile.shell.as_deref(),
        size,
        image: &launch.profile.image,
        profile_name: launch.profile_name,
        session: &launch.session.to_string(),
    };
    let (finish, finished) = watch::channel(None);
    let (ended, ended_seen) = watch::channel(false);
    let mut output = Output {
        stream: receiver,
        markers: Markers::new(&secret),
        status: None,
        said: None,
        finish,
        input_ended: (ending == InputEnd::Impossible).then_some(ended_seen),
    };
    let lost = |lost: Lost| {
        StartError::new("lost", "the connection to the pod was lost: try again").detailed(lost.to_string())
    };
    // Both at once: a terminal echoes what it is sent, and stops taking when nobody takes the echo.
    let send = async {
        stream.send(STDIN, order.lines().into()).await.map_err(lost)?;
        std::future::pending::<Result<u32, StartError>>().await
    };
    let wrapper = tokio::select! {
        wrapper = output.begin() => wrapper?,
        failed = send => failed?,
    };
    if !terminal {
        stream.send(STDIN, Bytes::from_static(GO)).await.map_err(lost)?;
    }
    let target = grant.target();
    let place = Place {
        namespace: target.namespace().to_owned(),
        pod: target.pod().to_owned(),
        container: running.name.clone(),
        wrapper,
    };
    let control = Control {
        api: api.clone(),
        place: Arc::new(place),
        follow: running.follow,
        stream: stream.clone(),
        finish: finished,
    };
    // It may have changed since.
    if let Some(now) = launch.terminal.as_ref().map(|sizes| *sizes.borrow()).filter(|now| Some(*now) != size) {
        control.resize(now);
    }
    let input = Input { stream, ending, ended: Arc::new(ended) };
    Ok(Process { input, output, control, container: running.name, image: launch.profile.image.clone(), terminal })
}

async fn connect(
    api: &ApiServer,
    grant: &Grant,
    running: &Running,
    terminal: bool,
) -> Result<kube::client::Connection, StartError> {
    let target = grant.target();
    let parameters = AttachParams::default().container(&running.name).stdin(true).stderr(!terminal).tty(terminal);
    let url = Pod::url_path(&(), Some(target.namespace()));
    loop {
        let request = kube::core::Request::new(&url).attach(target.pod(), &parameters).map_err(|error| {
            StartError::new("rejected", "porthole cannot ask for this container").detailed(error.to_string())
        })?;
        match api.client().connect(request).await {
            Ok(connection) => return Ok(connection),
            // The kubelet says so also of a container that it has only just started.
            Err(error) if is_passing(&error) || is_early(&error) => {
                if let State::Terminated { .. } = running.follow.sight().pod().state(&running.name) {
                    return Err(Refused::new(&error, "attaching to the debug container").into());
                }
                tokio::time::sleep(ATTACH_PAUSE).await;
            }
            Err(error) => return Err(Refused::new(&error, "attaching to the debug container").into()),
        }
    }
}

fn is_early(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 500 && status.message.contains("not found in pod"))
}

/// 128 bits in the alphabet of names.
fn secret() -> String {
    let mut rng = rand::rng();
    (0..26).map(|_| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(rng.random::<u8>() & 31)])).collect()
}

fn resize(size: WindowSize) -> Vec<u8> {
    json!({"Width": size.columns, "Height": size.rows}).to_string().into_bytes()
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

impl Output {
    /// The next piece; none when the output has ended, and `Control::exit` will say how. Safe to be given up while it
    /// waits.
    pub async fn next(&mut self) -> Option<Chunk> {
        if self.finish.borrow().is_some() {
            return None;
        }
        loop {
            match self.markers.next() {
                Some(Piece::Data(bytes)) => return Some(Chunk::Stdout(bytes)),
                // Nobody but the wrapper knows the secret, so this is no data, wherever it stands. A process that it
                // leaves behind may write on.
                Some(Piece::Marker(status)) => self.status = Some(status),
                None => match self.receive().await {
                    Some(Came::Message { channel: STDOUT, bytes }) => self.markers.push(bytes),
                    Some(Came::Message { channel: STDERR, bytes }) if !bytes.is_empty() => {
                        return Some(Chunk::Stderr(bytes));
                    }
                    Some(Came::Message { channel: STATUS, bytes }) => self.said = Some(bytes),
                    Some(Came::Message { .. }) => {}
                    Some(Came::End(end)) => match self.markers.release() {
                        // The end comes again.
                        Some(bytes) => return Some(Chunk::Stdout(bytes)),
                        None => {
                            self.finish.send_replace(Some(self.finish(end)));
                            return None;
                        }
                    },
                    None => return self.markers.release().map(Chunk::Stdout),
                },
            }
        }
    }

    /// The next message; none if what is held has been held long enough.
    async fn receive(&mut self) -> Option<Came> {
        if self.markers.holds() {
            return tokio::time::timeout(HOLD, self.stream.next()).await.ok();
        }
        let Some(input_ended) = &mut self.input_ended else { return Some(self.stream.next().await) };
        let silence = async {
            let _ = input_ended.wait_for(|ended| *ended).await;
            tokio::time::sleep(V4_SILENCE).await;
        };
        tokio::select! {
            came = self.stream.next() => Some(came),
            () = silence => {
                let why = "this api server cannot pass on the end of stdin (it speaks only v4.channel.k8s.io)";
                Some(Came::End(StreamEnd::Broken(why.to_owned())))
            }
        }
    }

    /// Reads up to the wrapper's first word, its process id. What comes before is a terminal's echo.
    async fn begin(&mut self) -> Result<u32, StartError> {
        // A shell that fails says why on stderr, and there is little of it.
        let mut complaint = Vec::new();
        loop {
            match self.markers.next() {
                Some(Piece::Marker(wrapper)) => return Ok(wrapper),
                Some(Piece::Data(_)) => {}
                None => match self.stream.next().await {
                    Came::Message { channel: STDOUT, bytes } => self.markers.push(bytes),
                    Came::Message { channel: STDERR, bytes } if complaint.len() < 1024 => {
                        complaint.extend_from_slice(&bytes)
                    }
                    Came::Message { .. } => {}
                    Came::End(end) => {
                        let complaint = String::from_utf8_lossy(&complaint).into_owned();
                        let person = "the debug container ended before it could be used: try again";
                        let detail = format!("the wrapper did not begin: {end:?}: {complaint}");
                        return Err(StartError::new("container_ended", person).detailed(detail));
                    }
                },
            }
        }
    }

    fn finish(&self, end: StreamEnd) -> Finish {
        match (self.status, end) {
            (Some(status), _) => Finish::Told(status),
            (None, StreamEnd::Broken(why)) => Finish::Broken(why),
            (None, StreamEnd::Closed) => match &self.said {
                Some(said) if !is_success(said) => Finish::Broken(String::from_utf8_lossy(said).into_owned()),
                _ => Finish::Untold,
            },
        }
    }
}

fn is_success(status: &[u8]) -> bool {
    serde_json::from_slice::<kube::core::Status>(status).is_ok_and(|status| status.is_success())
}

impl Control {
    /// Never waits; of several sizes the last one wins.
    pub fn resize(&self, size: WindowSize) {
        self.stream.send_latest(RESIZE, &resize(size));
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
