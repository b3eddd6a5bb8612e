//! `GET /ssh`: SSH in a WebSocket, for a person whom a gateway has brought.
//!
//! The handshake is RFC 6455's, by hand, since everything before it is HTTP's. Whoever comes is proved by then, so SSH's
//! `none` is enough afterwards. No browser may come: a page of anybody's could open a WebSocket with what the gateway knows
//! of its visitor, and speak SSH as them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, Request, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::Incoming;
use super::http::{Brought, Entrance, Refusal};
use crate::audit::Event;

pub mod tunnel;

use tunnel::Tunnel;

/// The longest `Origin` that the audit trail repeats, in characters.
const ORIGIN_SHOWN_CHARS: usize = 256;

/// What the route needs.
#[derive(Clone)]
struct Door {
    entrance: Arc<Entrance>,
    arrivals: mpsc::Sender<Incoming>,
}

impl FromRef<Door> for Arc<Entrance> {
    fn from_ref(door: &Door) -> Arc<Entrance> {
        Arc::clone(&door.entrance)
    }
}

/// The route; who comes by it arrives at `arrivals`.
pub fn route(entrance: Arc<Entrance>, arrivals: mpsc::Sender<Incoming>) -> Router {
    let path = entrance.settings().path.clone();
    Router::new().route(&path, get(enter)).with_state(Door { entrance, arrivals })
}

async fn enter(State(door): State<Door>, brought: Brought, request: Request) -> Result<Response, Refusal> {
    if let Some(origin) = request.headers().get(header::ORIGIN) {
        let shown: String = String::from_utf8_lossy(origin.as_bytes()).chars().take(ORIGIN_SHOWN_CHARS).collect();
        let refused = Event::LoginRefused {
            peer: brought.peer,
            login: String::new(),
            method: "token",
            code: "browser_refused",
            detail: format!("a page of {shown} asked, in the browser of {}", brought.identity.subject()),
        };
        door.entrance.record_refusal(&brought.connection, &refused).await;
        let line = "a browser cannot speak ssh here: use ssh with porthole connect";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "browser_refused", line));
    }
    let accept = accept_key(request.headers())?;
    let ping = door.entrance.settings().ping_interval;
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => {
                let io = Tunnel::new(TokioIo::new(upgraded), Role::Server, ping).await;
                let Brought { connection, identity, peer, gateway } = brought;
                let incoming = Incoming {
                    id: connection,
                    io: Box::new(io),
                    peer,
                    gateway: Some(gateway),
                    identity: Some(identity),
                };
                // Fails where the server takes nothing any more.
                let _ = door.arrivals.send(incoming).await;
            }
            Err(error) => tracing::debug!(peer = %brought.peer, %error, "a client left before its WebSocket was open"),
        }
    });
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// The answer to a client's key, if its request is a WebSocket's (RFC 6455 section 4.2.1).
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let says = |name, word: &str| {
        let mut words =
            headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
        words.any(|said| said.trim().eq_ignore_ascii_case(word))
    };
    let upgrade = || {
        let line = "this address speaks WebSocket: use ssh with porthole connect, or any WebSocket client";
        Refusal::new(StatusCode::UPGRADE_REQUIRED, "no_websocket", line)
    };
    if !says(header::CONNECTION, "upgrade") || !says(header::UPGRADE, "websocket") {
        return Err(upgrade().with(header::UPGRADE, HeaderValue::from_static("websocket")));
    }
    if !says(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(upgrade().with(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(upgrade)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| upgrade())
}
