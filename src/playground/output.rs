//! A container's output: into its log, and to whoever is attached.
//!
//! There is one reader for each stream, which waits for the slowest of those attached: their back-pressure is the
//! process's. With nobody attached it only logs, so a process never waits for no one; and what it wrote then is
//! in no attachment, as on a real cluster.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};

use super::process::Output;

/// What one frame carries, in bytes, behind its channel's number.
pub(super) const FRAME: usize = 32 * 1024;
/// What a log keeps, in bytes. A real node keeps 10 MiB in a file; this one is in memory.
const LOG: usize = 1024 * 1024;
/// The same, once the container has ended.
const LOG_AFTER_END: usize = 64 * 1024;
/// Frames on their way to an attached client, beyond the one that is being written.
const AHEAD: usize = 2;

pub(super) struct Taps {
    inner: Mutex<Inner>,
    ended: watch::Sender<usize>,
}

struct Inner {
    log: VecDeque<Bytes>,
    logged: usize,
    listeners: Vec<Listener>,
    /// Streams that still may say something.
    open: usize,
}

#[derive(Clone)]
struct Listener {
    channels: (bool, bool),
    frames: mpsc::Sender<Bytes>,
}

impl Taps {
    /// Reads the streams until they end.
    pub(super) fn open(stdout: Option<Output>, stderr: Option<Output>) -> Arc<Taps> {
        let streams: Vec<_> = [(1, stdout), (2, stderr)].into_iter().filter_map(|(n, s)| Some((n, s?))).collect();
        let inner = Inner { log: VecDeque::new(), logged: 0, listeners: Vec::new(), open: streams.len() };
        let taps = Arc::new(Taps { inner: Mutex::new(inner), ended: watch::Sender::new(streams.len()) });
        for (channel, stream) in streams {
            tokio::spawn(taps.clone().read(channel, stream));
        }
        taps
    }

    /// What is written from now on, as frames; they end with the output. `None` if it has ended.
    pub(super) fn attach(&self, stdout: bool, stderr: bool) -> Option<mpsc::Receiver<Bytes>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.open == 0 {
            return None;
        }
        let (frames, receiver) = mpsc::channel(AHEAD);
        inner.listeners.push(Listener { channels: (stdout, stderr), frames });
        Some(receiver)
    }

    pub(super) fn log(&self) -> Vec<u8> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.log.iter().flat_map(|bytes| bytes.iter().skip(1)).copied().collect()
    }

    /// Forgets most of the log, since containers that ended stay with their pod.
    pub(super) fn shorten(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.forget(LOG_AFTER_END);
    }

    /// When no stream can say anything more.
    pub(super) async fn ended(&self) {
        // The sender is ours, so this cannot fail.
        let _ = self.ended.subscribe().wait_for(|open| *open == 0).await;
    }

    async fn read(self: Arc<Taps>, channel: u8, mut stream: Output) {
        while let Some(frame) = read_frame(channel, &mut stream).await {
            let listeners = {
                let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                inner.remember(frame.clone());
                inner.listeners.clone()
            };
            let mut gone = false;
            for listener in &listeners {
                let wanted = if channel == 1 { listener.channels.0 } else { listener.channels.1 };
                gone |= wanted && listener.frames.send(frame.clone()).await.is_err();
            }
            if gone {
                let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                inner.listeners.retain(|listener| !listener.frames.is_closed());
            }
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.open -= 1;
        if inner.open == 0 {
            inner.listeners.clear();
        }
        self.ended.send_replace(inner.open);
    }
}

impl Inner {
    fn remember(&mut self, frame: Bytes) {
        self.logged += frame.len();
        self.log.push_back(frame);
        self.forget(LOG);
    }

    fn forget(&mut self, most: usize) {
        while self.logged > most {
            let Some(oldest) = self.log.pop_front() else { break };
            self.logged -= oldest.len();
        }
    }
}

/// The next piece of a stream, behind its channel's number; `None` at its end.
pub(super) async fn read_frame(channel: u8, stream: &mut Output) -> Option<Bytes> {
    let mut frame = BytesMut::zeroed(FRAME + 1);
    if let Some(first) = frame.first_mut() {
        *first = channel;
    }
    let room = frame.get_mut(1..)?;
    let read = match stream {
        Output::Pipe(pipe) => pipe.read(room).await,
        Output::Terminal(terminal) => terminal.read(room).await,
    };
    // A stream that fails has ended.
    let read = read.ok().filter(|read| *read > 0)?;
    frame.truncate(read + 1);
    // A keystroke's echo should not hold 32 KiB.
    Some(if read < FRAME / 4 { Bytes::copy_from_slice(&frame) } else { frame.freeze() })
}
