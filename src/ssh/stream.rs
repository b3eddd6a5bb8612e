//! The connection's stream with a login deadline, an end to writes that nobody takes, and a cut.
//!
//! russh waits for its peer without a limit before login, and while a write does not get through it runs no timer of
//! its own. Both end here, by an error from the stream, which is what russh answers to in every state.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::config;

/// What the stream and the connection know of each other.
#[derive(Debug, Clone)]
pub struct Login {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Whether somebody has logged in, and how many channels are open.
    accepted: watch::Sender<bool>,
    channels: watch::Sender<usize>,
    over: AtomicBool,
    /// A later end of the time to log in, while a person is asked elsewhere.
    extended: watch::Sender<Option<Instant>>,
    cut: CancellationToken,
}

/// A stream that ends when it should.
pub struct Guarded<T> {
    io: T,
    login: Login,
    deadline: Option<Pin<Box<Sleep>>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    stall_limit: Duration,
}

impl Login {
    pub fn accept(&self) {
        self.shared.accepted.send_replace(true);
    }

    /// Gives a person who is asked elsewhere so long from now to log in; never less than they had.
    pub fn extend(&self, patience: Duration) {
        self.shared.extended.send_replace(Some(Instant::now() + patience));
    }

    /// Ends the stream, after a while in which the peer may go by itself.
    pub async fn cut_after(&self, patience: Duration) {
        tokio::time::sleep(patience).await;
        self.shared.cut.cancel();
    }

    /// Whether the deadline passed before anybody logged in.
    pub fn is_over(&self) -> bool {
        self.shared.over.load(Ordering::Relaxed)
    }

    pub fn channel_opened(&self) {
        self.shared.channels.send_modify(|open| *open += 1);
    }

    pub fn channel_closed(&self) {
        self.shared.channels.send_modify(|open| *open -= 1);
    }

    /// Channels that are being served.
    pub fn channels(&self) -> usize {
        *self.shared.channels.borrow()
    }

    /// Waits until no channel is open.
    pub async fn idle(&self) {
        // The sender lives as long as `self`.
        let _ = self.shared.channels.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Whether somebody has logged in.
    pub fn is_accepted(&self) -> bool {
        *self.shared.accepted.borrow()
    }
}

impl<T> Guarded<T> {
    /// Guards `io`: the login deadline runs from now, and `cut` ends it at any time.
    pub fn new(io: T, settings: &config::Ssh, cut: CancellationToken) -> (Guarded<T>, Login) {
        let shared = Shared {
            accepted: watch::Sender::new(false),
            channels: watch::Sender::new(0),
            over: AtomicBool::new(false),
            extended: watch::Sender::new(None),
            cut: cut.clone(),
        };
        let login = Login { shared: Arc::new(shared) };
        let unanswered = u32::try_from(settings.keepalive_max).unwrap_or(u32::MAX).saturating_add(1);
        let guarded = Guarded {
            io,
            login: login.clone(),
            deadline: Some(Box::pin(tokio::time::sleep(settings.login_deadline))),
            cut: Box::pin(cut.cancelled_owned()),
            stalled: None,
            stall_limit: settings.keepalive_interval.saturating_mul(unanswered),
        };
        (guarded, login)
    }

    /// An error once the stream must end.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Result<(), io::Error> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "ended by porthole"));
        }
        if let Some(deadline) = &mut self.deadline {
            let extended = *self.login.shared.extended.borrow();
            if let Some(later) = extended.filter(|later| *later > deadline.deadline()) {
                deadline.as_mut().reset(later);
            }
            if self.login.is_accepted() {
                self.deadline = None;
            } else if deadline.as_mut().poll(context).is_ready() {
                self.login.shared.over.store(true, Ordering::Relaxed);
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody logged in before the deadline"));
            }
        }
        Ok(())
    }

    /// Puts the limit on a write that waits.
    fn poll_stall<R>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.stall_limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_end(context)?;
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.poll_stall(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.poll_stall(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
