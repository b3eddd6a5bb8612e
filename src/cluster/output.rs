//! What a process says: stdout and stderr, without the wrapper's own words.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::error::StartError;
use super::marker::{Markers, Piece};
use super::stream::{Came, StreamEnd, StreamReceiver};

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
/// How long bytes that may be the beginning of a marker are kept back. The wrapper says its markers in one write.
const HOLD: Duration = Duration::from_millis(100);
/// Where the API server cannot pass the end of stdin on: this long without output and the stream is closed.
const V4_SILENCE: Duration = Duration::from_secs(5);

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

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    Stdout(Bytes),
    Stderr(Bytes),
}

/// How the output ended.
#[derive(Debug, Clone)]
pub(super) enum Finish {
    /// The wrapper said the status.
    Told(u32),
    /// The stream ended as it should, but the wrapper said nothing: something killed it.
    Untold,
    Broken(String),
}

impl Output {
    /// `input_ended` is for where the end of stdin cannot be told: it becomes true when it should have been.
    pub(super) fn new(
        stream: StreamReceiver,
        secret: &str,
        finish: watch::Sender<Option<Finish>>,
        input_ended: Option<watch::Receiver<bool>>,
    ) -> Output {
        Output { stream, markers: Markers::new(secret), status: None, said: None, finish, input_ended }
    }

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
    pub(super) async fn begin(&mut self) -> Result<u32, StartError> {
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
