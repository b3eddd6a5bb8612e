//! A stream of bytes in a WebSocket's binary messages, in either role.
//!
//! How the bytes are cut into messages means nothing. An empty message ends its sender's stream while the other direction
//! goes on, which a WebSocket has no words for; a Close ends both. Nothing is queued here: a message is read when the
//! last one is used up, and written when the one before has gone, so whoever does not read is waited for by TCP. Frames,
//! messages and what waits to be written are bounded, and a peer that says nothing is asked, and given up.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::listen::Fault;

/// Payload of one message that we send. An SSH packet is no longer.
const FRAME_MAX_BYTES: usize = 32 * 1024;
/// The longest message that we take, however it is cut into frames. Programs send what they have read at once, which is
/// 64 KiB at most in those that are known.
const MESSAGE_MAX_BYTES: usize = 256 * 1024;
/// What may wait for a socket that takes nothing: one message, and answers to pings. A peer that pings and does not read
/// its answers is stopped there.
const WRITE_BUFFER_MAX_BYTES: usize = 2 * FRAME_MAX_BYTES;
/// Times in a row that a peer may say nothing at all before it counts as gone.
const SILENT_PINGS: u32 = 3;
/// How long the other side's goodbye is awaited.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The stream.
pub struct Tunnel<T> {
    socket: WebSocketStream<T>,
    role: Role,
    /// What is left of the last message.
    message: Bytes,
    /// Nothing more will come.
    ended: bool,
    goodbye: Goodbye,
    pings: Interval,
    /// Since the last ping: something came.
    heard: bool,
    silent: u32,
}

/// How far the end of our own direction is.
enum Goodbye {
    Unsaid,
    /// It waits for its way out.
    Said,
    /// It is out; the other side's is awaited until then.
    Sent(Pin<Box<Sleep>>),
}

impl<T: AsyncRead + AsyncWrite + Unpin> Tunnel<T> {
    /// Over a connection that has just been upgraded, and whose peer is asked every `ping` whether it lives.
    pub async fn new(io: T, role: Role, ping: Duration) -> Tunnel<T> {
        let config = WebSocketConfig::default()
            .read_buffer_size(FRAME_MAX_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER_MAX_BYTES)
            .max_message_size(Some(MESSAGE_MAX_BYTES))
            .max_frame_size(Some(MESSAGE_MAX_BYTES));
        let mut pings = interval_at(Instant::now() + ping, ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Tunnel {
            socket: WebSocketStream::from_raw_socket(io, role, Some(config)).await,
            role,
            message: Bytes::new(),
            ended: false,
            goodbye: Goodbye::Unsaid,
            pings,
            heard: true,
            silent: 0,
        }
    }

    /// Says goodbye for both directions and waits a little for the answer. For a client, whose `shutdown` ends one
    /// direction only.
    pub async fn finish(mut self) {
        let goodbye = async {
            // A server that has said it first gets its answer all the same.
            let _ = self.socket.close(Some(normal())).await;
            while let Some(Ok(_)) = self.socket.next().await {}
        };
        // The goodbye is a courtesy.
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
    }

    /// The next bytes into `message`, or the end.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let message = match Pin::new(&mut self.socket).poll_next(context) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.fail(error))),
                Poll::Ready(None) => {
                    self.ended = true;
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => {
                    ready!(self.poll_pings(context))?;
                    return Poll::Pending;
                }
            };
            self.heard = true;
            match message {
                Message::Binary(bytes) => {
                    self.ended = bytes.is_empty();
                    self.message = bytes;
                    return Poll::Ready(Ok(()));
                }
                Message::Text(_) => return Poll::Ready(Err(self.refuse(Fault::WebSocketText))),
                Message::Close(said) => {
                    self.ended = true;
                    // The answer goes out now if at all: nobody has to write, or to end the stream, after its end.
                    let _ = Pin::new(&mut self.socket).poll_flush(context);
                    return Poll::Ready(orderly(said));
                }
                // A ping is answered by the socket itself.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Asks the peer whether it lives, when it is time. Ready only with an error.
    fn poll_pings(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.pings.poll_tick(context));
            self.silent = if self.heard { 0 } else { self.silent.saturating_add(1) };
            self.heard = false;
            if self.silent >= SILENT_PINGS {
                return Poll::Ready(Err(self.refuse(Fault::WebSocketSilent)));
            }
            // One that finds no room is not missed: what is before it asks the same.
            let _ = Pin::new(&mut self.socket).start_send(Message::Ping(Bytes::new()));
        }
    }

    /// What the socket's error means, with the goodbye that RFC 6455 section 7.4.1 has for it.
    fn fail(&mut self, error: Error) -> io::Error {
        self.ended = true;
        match error {
            Error::Io(error) => error,
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended without a goodbye")
            }
            Error::Capacity(_) => self.refuse(Fault::WebSocketTooLong),
            // Not UTF-8, which only text must be.
            Error::Utf8(_) => self.refuse(Fault::WebSocketText),
            _ => self.refuse(Fault::WebSocketProtocol),
        }
    }

    fn refuse(&mut self, fault: Fault) -> io::Error {
        self.ended = true;
        let code = match fault {
            Fault::WebSocketText => CloseCode::Unsupported,
            Fault::WebSocketTooLong => CloseCode::Size,
            Fault::WebSocketSilent => CloseCode::Away,
            Fault::WebSocketProtocol | Fault::ProxyHeaderUntrusted => CloseCode::Protocol,
        };
        let goodbye = CloseFrame { code, reason: fault.code().into() };
        // Written at once if at all; the error that follows ends the connection.
        let _ = Pin::new(&mut self.socket).start_send(Message::Close(Some(goodbye)));
        fault.into()
    }

    /// Waits for the other side's goodbye, for a while.
    fn poll_goodbye(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Goodbye::Sent(deadline) = &mut self.goodbye else { return Poll::Ready(()) };
        if deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        // What comes before it is nobody's any more.
        while let Some(Ok(_)) = ready!(Pin::new(&mut self.socket).poll_next(context)) {}
        Poll::Ready(())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.message.is_empty() && !self.ended {
            ready!(self.poll_message(context))?;
        }
        let part = self.message.len().min(buffer.remaining());
        buffer.put_slice(self.message.get(..part).unwrap_or_default());
        self.message.advance(part);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // Not `poll_ready`, which knows nothing of answers to pings that wait to go out.
        ready!(Pin::new(&mut self.socket).poll_flush(context)).map_err(unwritable)?;
        let part = bytes.get(..FRAME_MAX_BYTES).unwrap_or(bytes);
        // An empty message would be the end.
        if !part.is_empty() {
            let message = Message::Binary(Bytes::copy_from_slice(part));
            Pin::new(&mut self.socket).start_send(message).map_err(unwritable)?;
        }
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(unwritable)
    }

    /// Ends our direction. A server has nobody to hear after it, and says goodbye for both.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Goodbye::Unsaid = self.goodbye {
            ready!(Pin::new(&mut self.socket).poll_flush(context)).map_err(unwritable)?;
            let goodbye = match self.role {
                Role::Client => Message::Binary(Bytes::new()),
                Role::Server => Message::Close(Some(normal())),
            };
            self.goodbye = Goodbye::Said;
            // Where the other side has said it first, the socket has answered.
            let _ = Pin::new(&mut self.socket).start_send(goodbye);
        }
        if let Goodbye::Said = self.goodbye {
            ready!(Pin::new(&mut self.socket).poll_flush(context)).map_err(unwritable)?;
            self.goodbye = Goodbye::Sent(Box::pin(sleep(CLOSE_TIMEOUT)));
        }
        if self.role == Role::Server {
            ready!(self.poll_goodbye(context));
            self.ended = true;
        }
        Poll::Ready(Ok(()))
    }
}

fn normal() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: "".into() }
}

/// Whether the other side's goodbye is the stream's end, or tells of a failure.
fn orderly(said: Option<CloseFrame>) -> io::Result<()> {
    match said {
        None | Some(CloseFrame { code: CloseCode::Normal | CloseCode::Away | CloseCode::Status, .. }) => Ok(()),
        Some(frame) => {
            let text = format!("the other side closed the WebSocket with {}: {}", frame.code, frame.reason);
            Err(io::Error::new(io::ErrorKind::ConnectionReset, text))
        }
    }
}

/// A socket that takes no more.
fn unwritable(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::new(io::ErrorKind::BrokenPipe, error),
    }
}

#[cfg(test)]
mod tests;
