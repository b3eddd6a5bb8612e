//! A WebSocket of Kubernetes' streaming subprotocols: binary messages whose first byte is a channel.
//!
//! kube makes the connection (TLS, credentials, the upgrade) and its own loop is left aside: there, one direction that
//! waits stops the other, resizes and pings with it. Here each direction is a task, and they share nothing but the
//! socket. Nothing is unbounded: a few messages each way, then the sender waits, and the pod with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use kube::client::Connection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::Lost;

/// Payload of one message that we send; the API server and the kubelet copy in pieces of this size.
const FRAME_MAX_BYTES: usize = 32 * 1024;
/// The longest message that we take. Kubernetes sends 32 KiB and a byte.
const MESSAGE_MAX_BYTES: usize = 1024 * 1024;
/// Messages on their way to the reader, and to the socket.
const QUEUE_MESSAGES: usize = 8;
/// Keeps load balancers from taking a silent session for a dead one.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Pings in a row after which a peer that says nothing at all counts as gone.
const SILENT_PINGS: u32 = 3;
/// For the goodbye, which is a courtesy.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends messages on the stream's channels. Dropping it ends nothing.
#[derive(Debug, Clone)]
pub(super) struct StreamSender {
    queue: mpsc::Sender<Bytes>,
    /// The message of which only the last one counts (a terminal's size).
    latest: watch::Sender<Bytes>,
    hang_up: CancellationToken,
}

/// Takes messages from the stream. Dropping it closes the stream.
#[derive(Debug)]
pub(super) struct StreamReceiver {
    queue: mpsc::Receiver<Came>,
    _hang_up: DropGuard,
}

/// What comes.
#[derive(Debug)]
pub(super) enum Came {
    Message {
        channel: u8,
        bytes: Bytes,
    },
    /// The stream is over; nothing follows.
    End(StreamEnd),
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// The other side said goodbye.
    Closed,
    /// It broke, or we hung up.
    Broken(String),
}

/// What the two tasks tell each other.
#[derive(Debug, Default)]
struct Pulse {
    /// Messages received, of any kind.
    received: AtomicU64,
    /// The number of the last ping that was answered.
    ponged: AtomicU64,
    /// The reader waits for its consumer, and so hears no pong.
    waits: AtomicBool,
}

/// Starts to carry messages over an upgraded connection.
pub(super) async fn carry(connection: Connection) -> (StreamSender, StreamReceiver) {
    // kube's socket has buffers of 128 KiB and messages of 64 MiB. Nothing has been read through it yet, so it can be
    // taken off.
    let config = WebSocketConfig::default()
        .read_buffer_size(FRAME_MAX_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_MAX_BYTES))
        .max_frame_size(Some(MESSAGE_MAX_BYTES));
    let io = connection.into_stream().into_inner();
    carry_over(WebSocketStream::from_raw_socket(io, Role::Client, Some(config)).await, PING_INTERVAL)
}

fn carry_over<S>(socket: WebSocketStream<S>, ping: Duration) -> (StreamSender, StreamReceiver)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, source) = socket.split();
    let (to_socket, from_us) = mpsc::channel(QUEUE_MESSAGES);
    let (to_us, from_socket) = mpsc::channel(QUEUE_MESSAGES);
    let (latest, latest_seen) = watch::channel(Bytes::new());
    let hang_up = CancellationToken::new();
    let pulse = Arc::new(Pulse::default());
    tokio::spawn(read(source, to_us, Arc::clone(&pulse), hang_up.clone()));
    tokio::spawn(write(sink, from_us, latest_seen, (pulse, ping), hang_up.clone()));
    let sender = StreamSender { queue: to_socket, latest, hang_up: hang_up.clone() };
    (sender, StreamReceiver { queue: from_socket, _hang_up: hang_up.drop_guard() })
}

impl StreamSender {
    /// Sends bytes on a channel, in as many messages as they need. Waits while the other side takes nothing.
    pub async fn send(&self, channel: u8, mut bytes: Bytes) -> Result<(), Lost> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(FRAME_MAX_BYTES));
            self.send_message(message(channel, &part)).await?;
        }
        Ok(())
    }

    /// Sends one whole message.
    pub async fn send_message(&self, message: Bytes) -> Result<(), Lost> {
        let gone = || Lost("the stream has ended".to_owned());
        tokio::select! {
            biased;
            () = self.hang_up.cancelled() => Err(gone()),
            sent = self.queue.send(message) => sent.map_err(|_| gone()),
        }
    }

    /// Sends one message on a channel as soon as may be; of several only the last need arrive. Never waits.
    pub fn send_latest(&self, channel: u8, bytes: &[u8]) {
        self.latest.send_replace(message(channel, bytes));
    }

    /// Closes the stream in both directions.
    pub fn hang_up(&self) {
        self.hang_up.cancel();
    }
}

impl StreamReceiver {
    /// The next message, or the end; after the end, the end again.
    pub async fn next(&mut self) -> Came {
        self.queue.recv().await.unwrap_or_else(|| Came::End(StreamEnd::Broken("the stream was closed here".to_owned())))
    }
}

fn message(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.extend_from_slice(bytes);
    message.freeze()
}

async fn read<S>(
    mut source: SplitStream<WebSocketStream<S>>,
    queue: mpsc::Sender<Came>,
    pulse: Arc<Pulse>,
    hang_up: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let end = tokio::select! {
        end = read_all(&mut source, &queue, &pulse) => end,
        () = hang_up.cancelled() => StreamEnd::Broken("the stream was closed here".to_owned()),
    };
    // The writer has nobody to write to any more, and whoever waits to be taken is told. What was read before stays in the
    // queue for its consumer; without one, nobody needs to learn the end.
    hang_up.cancel();
    let _ = queue.send(Came::End(end)).await;
}

async fn read_all<S>(
    source: &mut SplitStream<WebSocketStream<S>>,
    queue: &mpsc::Sender<Came>,
    pulse: &Pulse,
) -> StreamEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = match source.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return StreamEnd::Broken(error.to_string()),
            None => return StreamEnd::Broken("the connection ended without a goodbye".to_owned()),
        };
        pulse.received.fetch_add(1, Ordering::Relaxed);
        match message {
            Message::Binary(mut bytes) if !bytes.is_empty() => {
                let channel = bytes.split_to(1)[0];
                pulse.waits.store(true, Ordering::Relaxed);
                let sent = queue.send(Came::Message { channel, bytes }).await;
                pulse.waits.store(false, Ordering::Relaxed);
                if sent.is_err() {
                    return StreamEnd::Broken("nobody reads the stream".to_owned());
                }
            }
            Message::Close(frame) => match frame {
                // Kubernetes' orderly end; another code, or none, is a proxy's or a failing server's.
                Some(frame) if frame.code == CloseCode::Normal => return StreamEnd::Closed,
                Some(frame) => return StreamEnd::Broken(format!("closed with {}: {}", frame.code, frame.reason)),
                None => return StreamEnd::Broken("closed without a code".to_owned()),
            },
            Message::Pong(number) => {
                if let Ok(number) = <[u8; 8]>::try_from(number.as_ref()) {
                    pulse.ponged.store(u64::from_be_bytes(number), Ordering::Relaxed);
                }
            }
            // Pings are answered by the socket itself.
            _ => {}
        }
    }
}

async fn write<S>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut queue: mpsc::Receiver<Bytes>,
    mut latest: watch::Receiver<Bytes>,
    (pulse, ping): (Arc<Pulse>, Duration),
    hang_up: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let silent = tokio::select! {
        silent = write_all(&mut sink, &mut queue, &mut latest, (&pulse, ping)) => silent,
        () = hang_up.cancelled() => true,
    };
    if silent {
        hang_up.cancel();
    }
    // A socket that takes nothing more may still have something to read, so the reader goes on alone.
    let _ = timeout(CLOSE_TIMEOUT, sink.send(Message::Close(None))).await;
    let _ = timeout(CLOSE_TIMEOUT, sink.close()).await;
}

/// Returns false when the socket takes no more, and true when the peer has been silent for too long.
async fn write_all<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    queue: &mut mpsc::Receiver<Bytes>,
    latest: &mut watch::Receiver<Bytes>,
    (pulse, ping): (&Pulse, Duration),
) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut ticks = interval_at(tokio::time::Instant::now() + ping, ping);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut senders, mut sizes) = (true, true);
    let (mut pings, mut unheard, mut heard) = (0_u64, 0, 0);
    // The API server answers no ping while it waits for a process that does not read. So silence means something only
    // once a ping that went out behind all data has been answered.
    let mut proof = 0;
    loop {
        let message = tokio::select! {
            biased;
            changed = latest.changed(), if sizes => match changed {
                Ok(()) => Message::Binary(latest.borrow_and_update().clone()),
                Err(_) => { sizes = false; continue }
            },
            message = queue.recv(), if senders => match message {
                Some(bytes) => { proof = pings + 1; Message::Binary(bytes) }
                // Nobody will send any more, but the other direction goes on.
                None => { senders = false; continue }
            },
            _ = ticks.tick() => {
                let received = pulse.received.load(Ordering::Relaxed);
                let counts = !pulse.waits.load(Ordering::Relaxed) && pulse.ponged.load(Ordering::Relaxed) >= proof;
                unheard = if received == heard && counts { unheard + 1 } else { 0 };
                heard = received;
                if unheard > SILENT_PINGS {
                    tracing::debug!("a stream to a pod has gone silent");
                    return true;
                }
                pings += 1;
                Message::Ping(Bytes::copy_from_slice(&pings.to_be_bytes()))
            }
        };
        if sink.send(message).await.is_err() {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::DuplexStream;

    use super::*;

    const PING: Duration = Duration::from_millis(20);

    async fn pair() -> (StreamSender, StreamReceiver, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (sender, receiver) = carry_over(WebSocketStream::from_raw_socket(ours, Role::Client, None).await, PING);
        (sender, receiver, WebSocketStream::from_raw_socket(theirs, Role::Server, None).await)
    }

    async fn end(receiver: &mut StreamReceiver) -> (usize, StreamEnd) {
        let mut bytes_read = 0;
        loop {
            match receiver.next().await {
                Came::Message { bytes, .. } => bytes_read += bytes.len(),
                Came::End(end) => return (bytes_read, end),
            }
        }
    }

    #[tokio::test]
    async fn a_peer_that_answers_pings_lives_and_one_that_does_not_is_gone() {
        let (_sender, mut receiver, mut server) = pair().await;
        let began = Instant::now();
        // Answers ten pings (to read is to answer), and then nothing more.
        let served = tokio::spawn(async move {
            for _ in 0..10 {
                assert!(matches!(server.next().await, Some(Ok(Message::Ping(_)))));
                server.flush().await.expect("the client is there");
            }
            server
        });
        let (_, end) = timeout(Duration::from_secs(10), end(&mut receiver)).await.expect("it is noticed");
        assert!(matches!(end, StreamEnd::Broken(_)), "{end:?}");
        assert!(began.elapsed() > PING * 12, "{:?}", began.elapsed());
        drop(served.await);
    }

    #[tokio::test]
    async fn a_process_that_does_not_read_is_not_a_peer_that_is_gone() {
        let (sender, mut receiver, server) = pair().await;
        sender.send(0, Bytes::from_static(b"nobody reads this")).await.expect("the stream is open");
        let waited = timeout(PING * 20, receiver.next()).await;
        assert!(waited.is_err(), "the stream ended: {waited:?}");
        drop(server);
    }

    #[tokio::test]
    async fn what_was_sent_before_the_end_arrives_whoever_is_slow() {
        let (sender, mut receiver, mut server) = pair().await;
        let served = tokio::spawn(async move {
            for _ in 0..100 {
                server.send(Message::Binary(message(1, &[7; 30_000]))).await.expect("the client reads");
            }
            let goodbye =
                tokio_tungstenite::tungstenite::protocol::CloseFrame { code: CloseCode::Normal, reason: "".into() };
            server.close(Some(goodbye)).await.expect("the client is there");
        });
        tokio::task::yield_now().await;
        assert_eq!(end(&mut receiver).await, (3_000_000, StreamEnd::Closed));
        assert!(sender.send(0, Bytes::from_static(b"late")).await.is_err());
        served.await.expect("the server sent it all");
    }

    #[tokio::test]
    async fn a_connection_cut_off_is_broken() {
        let (_sender, mut receiver, mut server) = pair().await;
        server.send(Message::Binary(message(1, b"half"))).await.expect("the client reads");
        drop(server);
        let (bytes, end) = end(&mut receiver).await;
        assert_eq!(bytes, 4);
        assert!(matches!(end, StreamEnd::Broken(_)), "{end:?}");
    }

    #[tokio::test]
    async fn a_hang_up_ends_it_also_while_nothing_moves() {
        let (sender, mut receiver, server) = pair().await;
        // Fills everything on the way.
        let blocked = tokio::spawn({
            let sender = sender.clone();
            async move { sender.send(0, vec![0; 8 << 20].into()).await }
        });
        tokio::task::yield_now().await;
        sender.hang_up();
        assert!(blocked.await.expect("it ends").is_err());
        assert!(matches!(end(&mut receiver).await, (0, StreamEnd::Broken(_))));
        drop(server);
    }
}
