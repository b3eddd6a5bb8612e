//! The WebSocket of a subresource: the upgrade, Kubernetes' subprotocols, and the two halves.
//!
//! A frame is a channel's number and bytes. Each half has its own task, and neither waits for the other, so
//! bulk in both directions cannot lock itself up.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::cluster::Cluster;
use super::listener::Connection;
use super::status::Refusal;

/// The longest frame that a client may send, in bytes. Clients send some tens of kilobytes.
const LONGEST_FRAME: usize = 4 * 1024 * 1024;
/// What waits to be written before a write waits, in bytes.
const WRITE_BUFFER: usize = 128 * 1024;

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    V4,
    /// With a frame that ends a channel.
    V5,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::V4 => "v4.channel.k8s.io",
            Protocol::V5 => "v5.channel.k8s.io",
        }
    }

    /// The first of ours that the client offers, in our order.
    fn choose(headers: &HeaderMap, ours: &[Protocol]) -> Option<Protocol> {
        let offered: Vec<&str> = headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        ours.iter().copied().find(|ours| offered.contains(&ours.name()))
    }
}

/// Answers an upgrade and serves the WebSocket in a task of its own.
pub(super) fn upgrade<F>(
    cluster: &Cluster,
    request: Request<Body>,
    ours: &[Protocol],
    serve: impl FnOnce(Protocol, Sender, Receiver) -> F + Send + 'static,
) -> Result<Response, Refusal>
where
    F: Future<Output = ()> + Send + 'static,
{
    let headers = request.headers();
    let asks = headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| asks);
    let key = key.ok_or_else(|| Refusal::bad_request("Upgrade request required"))?;
    let Some(protocol) = Protocol::choose(headers, ours) else {
        // As a WebSocket server says it whose client wants what it does not know.
        return Ok(StatusCode::FORBIDDEN.into_response());
    };
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(Refusal::internal)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol.name()));
    let cut = request.extensions().get::<Connection>().map(|connection| connection.cut.clone()).unwrap_or_default();
    let stopping = cluster.stopping.clone();
    let upgraded = hyper::upgrade::on(request);
    cluster.tasks.spawn(async move {
        // It fails when the client is gone already.
        let Ok(upgraded) = upgraded.await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(LONGEST_FRAME))
            .max_frame_size(Some(LONGEST_FRAME))
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER);
        let socket = Socket::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let (sink, stream) = socket.split();
        tokio::select! {
            () = serve(protocol, Sender(sink), Receiver(stream)) => {}
            () = cut.cancelled() => {}
            () = stopping.cancelled() => {}
        }
    });
    Ok(response)
}

pub(super) struct Sender(SplitSink<Socket, Message>);

impl Sender {
    /// Sends a frame; `false` when the client is gone.
    pub(super) async fn send(&mut self, frame: Bytes) -> bool {
        self.0.send(Message::Binary(frame)).await.is_ok()
    }

    /// Sends a channel's number and text.
    pub(super) async fn say(&mut self, channel: u8, text: &str) -> bool {
        let mut frame = vec![channel];
        frame.extend(text.as_bytes());
        self.send(frame.into()).await
    }

    pub(super) async fn close(mut self) {
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // A client that is gone needs no goodbye.
        let _ = self.0.send(Message::Close(Some(normal))).await;
    }
}

pub(super) struct Receiver(SplitStream<Socket>);

impl Receiver {
    /// The next frame as its channel and bytes; `None` when the client is gone or says goodbye.
    pub(super) async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            match self.0.next().await?.ok()? {
                Message::Binary(mut frame) if !frame.is_empty() => {
                    let rest = frame.split_off(1);
                    return Some((*frame.first()?, rest));
                }
                Message::Text(text) => {
                    let mut frame = Bytes::from(text);
                    if !frame.is_empty() {
                        let rest = frame.split_off(1);
                        return Some((*frame.first()?, rest));
                    }
                }
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }
}
