//! Attach and exec: a process's streams over a WebSocket.
//!
//! Facts of a real cluster that are kept here: attach carries nothing that was written before it and never tells
//! the exit status; a terminal hears nothing of a client that goes; the stream ends when the output has, and
//! only then is the status said.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::output::read_frame;
use super::process::{Input, Output, Process, Streams};
use super::terminal::Terminal;
use super::websocket::{Protocol, Receiver, Sender};

const STDIN: u8 = 0;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5: the next byte is the channel that ends.
const CLOSE: u8 = 255;
/// How long a client has to answer our goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// A process's standard input, shared by those attached; `None` once it is closed.
pub(super) type Stdin = Arc<Mutex<Option<Input>>>;

/// What a client writes to.
pub(super) struct Upstream {
    pub stdin: Option<Stdin>,
    pub terminal: Option<Arc<Terminal>>,
    /// The input ends with this client's.
    pub once: bool,
}

/// Takes frames from the client until it goes.
async fn write_input(mut client: Receiver, upstream: Upstream, protocol: Protocol) {
    while let Some((channel, bytes)) = client.next().await {
        match (channel, bytes.as_ref()) {
            (STDIN, bytes) => {
                if let Some(stdin) = &upstream.stdin {
                    write(stdin, bytes).await;
                }
            }
            (RESIZE, bytes) => {
                if let Some(terminal) = &upstream.terminal {
                    resize(terminal, bytes);
                }
            }
            (CLOSE, [STDIN]) if protocol == Protocol::V5 && upstream.once => close(&upstream).await,
            _ => {}
        }
    }
    if upstream.once {
        close(&upstream).await;
    }
}

async fn write(stdin: &Stdin, bytes: &[u8]) {
    let mut stdin = stdin.lock().await;
    let written = match stdin.as_mut() {
        Some(Input::Pipe(pipe)) => pipe.write_all(bytes).await,
        Some(Input::Terminal(terminal)) => terminal.write_all(bytes).await,
        None => Ok(()),
    };
    if written.is_err() {
        // The process reads no more. What still comes is dropped, so that a resize behind it arrives.
        *stdin = None;
    }
}

async fn close(upstream: &Upstream) {
    if let Some(stdin) = &upstream.stdin {
        *stdin.lock().await = None;
    }
}

/// A message as `{"Width":80,"Height":24}`; what makes no sense is ignored, as a kubelet does.
fn resize(terminal: &Terminal, bytes: &[u8]) {
    let size: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let number = |name: &str| size.get(name).and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok());
    if let (Some(columns), Some(rows)) = (number("Width"), number("Height")) {
        // A terminal whose processes are gone has no size.
        let _ = terminal.resize(columns, rows);
    }
}

/// Passes frames to the client, then says how it ended. `false` if the client went first.
async fn write_output(
    mut client: Sender,
    mut frames: mpsc::Receiver<Bytes>,
    ending: impl Future<Output = Value>,
) -> bool {
    while let Some(frame) = frames.recv().await {
        if !client.send(frame).await {
            return false;
        }
    }
    let told = client.say(ERROR, &ending.await.to_string()).await;
    client.close().await;
    told
}

/// Serves one client until the output has ended or the client has gone.
async fn serve(
    sender: Sender,
    receiver: Receiver,
    protocol: Protocol,
    upstream: Upstream,
    frames: mpsc::Receiver<Bytes>,
    ending: impl Future<Output = Value> + Send + 'static,
) {
    let mut input = AbortOnDropHandle::new(tokio::spawn(write_input(receiver, upstream, protocol)));
    let mut output = AbortOnDropHandle::new(tokio::spawn(write_output(sender, frames, ending)));
    tokio::select! {
        // The client went; what it would have read is nobody's.
        _ = &mut input => {}
        _ = &mut output => {
            // The client answers the goodbye; one that does not is left.
            let _ = tokio::time::timeout(GOODBYE, &mut input).await;
        }
    }
}

pub(super) async fn attach(
    sender: Sender,
    receiver: Receiver,
    protocol: Protocol,
    upstream: Upstream,
    frames: mpsc::Receiver<Bytes>,
) {
    let ends = (upstream.once, upstream.stdin.clone());
    serve(sender, receiver, protocol, upstream, frames, async { success() }).await;
    if let (true, Some(stdin)) = ends {
        // The task that would have closed it may have been stopped while it waited for the process to read.
        *stdin.lock().await = None;
    }
}

pub(super) async fn exec(
    sender: Sender,
    receiver: Receiver,
    protocol: Protocol,
    process: Arc<Process>,
    streams: Streams,
    command: String,
) {
    let terminal = match &streams.stdout {
        Some(Output::Terminal(terminal)) => Some(terminal.clone()),
        _ => None,
    };
    let keeps = terminal.is_some();
    let (frames, receiving) = mpsc::channel(2);
    for (channel, stream) in [(1, streams.stdout), (2, streams.stderr)] {
        if let Some(stream) = stream {
            tokio::spawn(pass_on(channel, stream, frames.clone(), keeps));
        }
    }
    drop(frames);
    let upstream =
        Upstream { stdin: streams.stdin.map(|stdin| Arc::new(Mutex::new(Some(stdin)))), terminal, once: true };
    let watched = process.clone();
    let ending = async move { ended(watched.exited().await, protocol, &command) };
    serve(sender, receiver, protocol, upstream, receiving, ending).await;
}

/// One stream of an exec. When the client is gone a pipe is closed, and a terminal read on, so that its process
/// neither waits nor is hung up.
async fn pass_on(channel: u8, mut stream: Output, frames: mpsc::Sender<Bytes>, keeps: bool) {
    while let Some(frame) = read_frame(channel, &mut stream).await {
        if frames.send(frame).await.is_err() && !keeps {
            return;
        }
    }
}

fn success() -> Value {
    json!({ "metadata": {}, "status": "Success" })
}

fn ended(code: i32, protocol: Protocol, command: &str) -> Value {
    if code == 0 {
        return success();
    }
    // The newer protocol's stream passes through the API server, which words it again.
    let why = match protocol {
        Protocol::V4 => format!("error executing command [{command}], exit code {code}"),
        Protocol::V5 => format!("command terminated with exit code {code}"),
    };
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: {why}"),
        "reason": "NonZeroExitCode",
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
}

/// Says what went wrong after the upgrade, where it can no longer be refused.
pub(super) async fn fail(mut sender: Sender, mut receiver: Receiver, protocol: Protocol, why: &str) {
    let why = format!("Internal error occurred: {why}");
    let mut status = json!({ "status": "Failure", "message": why, "reason": "InternalError", "code": 500 });
    if protocol == Protocol::V5 {
        status["metadata"] = json!({});
        status["details"] = json!({ "causes": [{ "message": why }] });
        status["message"] = json!(format!("Internal error occurred: {why}"));
    }
    sender.say(ERROR, &status.to_string()).await;
    sender.close().await;
    // As in `serve`.
    let _ = tokio::time::timeout(GOODBYE, async { while receiver.next().await.is_some() {} }).await;
}
