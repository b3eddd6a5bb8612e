//! The HTTP listener: what gateways bring, each request from an origin that is known and within its limits.
//!
//! A connection carries one request, has a deadline for it, and counts against a limit until it is answered: the gateways'
//! own, or everybody else's, so that strangers keep no gateway out. One that becomes a WebSocket counts as an SSH
//! connection from then on. Whatever path a gateway puts before a route's own is left
//! aside. What the routes are is not known here: they are given.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, StatusCode, Uri};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Stream;
use super::tcp::accept;
use crate::config;

mod brought;
mod client_address;
mod refusal;
mod rooms;
mod tls;

pub use brought::{Brought, Entrance, EntranceError};
pub use refusal::Refusal;
pub use tls::TlsSetupError;

use rooms::{Rooms, Seat};
use tls::Tls;

/// A bound listener with its routes.
pub struct Http {
    listener: TcpListener,
    serving: Arc<Serving>,
}

/// What every connection needs.
struct Serving {
    routes: Router,
    tls: Option<Tls>,
    rooms: Rooms,
    deadline: Duration,
    max_header_bytes: usize,
}

/// Where a request comes from, as far as its connection proves it. Every request carries one.
#[derive(Debug, Clone, Copy)]
struct Origin {
    address: SocketAddr,
    /// It has shown a certificate of `http.client-ca`.
    certified: bool,
}

/// Why the listener cannot run.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    #[error("cannot listen on {address} (http.address): {source}")]
    Address { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
}

impl Http {
    /// Binds the port and reads the certificates. Needs a tokio runtime.
    pub async fn bind(address: SocketAddr, settings: &config::Http, routes: Router) -> Result<Http, HttpSetupError> {
        let tls = Tls::open(settings)?;
        let listener =
            TcpListener::bind(address).await.map_err(|source| HttpSetupError::Address { address, source })?;
        let (deadline, max_header_bytes) = (settings.request_deadline, settings.max_request_header);
        let rooms = Rooms::new(settings.trusted_networks.clone(), settings.max_connections);
        let serving = Serving { routes, tls, rooms, deadline, max_header_bytes };
        Ok(Http { listener, serving: Arc::new(serving) })
    }

    /// The address with its true port, where 0 was asked for.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers requests until `stop`, and then those that have begun.
    pub async fn run(self, stop: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let (io, address) = tokio::select! {
                accepted = accept(&self.listener) => accepted,
                () = stop.cancelled() => break,
            };
            let displaced = CancellationToken::new();
            let Some(seat) = self.serving.rooms.seat(address.ip(), displaced.clone()) else {
                tracing::warn!(peer = %address, "too many HTTP connections: one is closed before its first byte");
                continue;
            };
            let (serving, stop) = (Arc::clone(&self.serving), stop.clone());
            connections.spawn(async move {
                tokio::select! {
                    served = timeout(serving.deadline, serving.serve(io, address, seat, stop)) => {
                        if served.is_err() {
                            tracing::debug!(peer = %address, "an HTTP request was not there, or not answered, in time");
                        }
                    }
                    () = displaced.cancelled() => {
                        tracing::debug!(peer = %address, "an HTTP connection without a request made room for another");
                    }
                }
            });
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }
}

impl Serving {
    /// Serves one connection, which holds its seat until it is answered.
    async fn serve(&self, io: TcpStream, address: SocketAddr, seat: Seat, stop: CancellationToken) {
        let Some(tls) = &self.tls else {
            return self.answer(io, Origin { address, certified: false }, stop).await;
        };
        let io = match TlsAcceptor::from(tls.current()).accept(io).await {
            Ok(io) => io,
            Err(error) => return tracing::debug!(peer = %address, %error, "no TLS client"),
        };
        // There only if the client's CA has signed it: rustls refuses others.
        let certified = io.get_ref().1.peer_certificates().is_some();
        let Some(_seat) = self.rooms.keep(seat, certified) else {
            return tracing::warn!(peer = %address, "too many HTTP connections: one is closed unanswered");
        };
        self.answer(io, Origin { address, certified }, stop).await;
    }

    async fn answer(&self, io: impl Stream + 'static, origin: Origin, stop: CancellationToken) {
        let routes = self.routes.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let routes = routes.clone();
            async move { Ok::<_, Infallible>(route(routes, request.map(Body::new), origin).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.deadline)
            .max_buf_size(self.max_header_bytes)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        tokio::pin!(connection);
        let served = tokio::select! {
            served = &mut connection => served,
            () = stop.cancelled() => {
                // One without a request ends here, one with a request when it is answered.
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(peer = %origin.address, %error, "an HTTP connection ended early");
        }
    }
}

async fn route(routes: Router, mut request: Request<Body>, origin: Origin) -> Response {
    request.extensions_mut().insert(origin);
    *request.uri_mut() = without_prefix(request.uri());
    let answered = TowerToHyperService::new(routes).call(request).await;
    let mut response = answered.unwrap_or_else(|never| match never {});
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // So that the deadline of the connection is the request's.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// `/any/prefix/ssh?query` as `/ssh?query`: what stands before is the gateway's.
fn without_prefix(uri: &Uri) -> Uri {
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    let path = match uri.query() {
        Some(query) => format!("/{last}?{query}"),
        None => format!("/{last}"),
    };
    // A part of what was a path is one.
    PathAndQuery::try_from(path).map_or_else(|_| uri.clone(), Uri::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_gateways() {
        for (came, routed) in [
            ("/ssh", "/ssh"),
            ("/a/b/ssh?x=/y", "/ssh?x=/y"),
            ("http://porthole/a/ssh", "/ssh"),
            ("/ssh/", "/"),
            ("/", "/"),
        ] {
            assert_eq!(without_prefix(&came.parse().expect("a URI")).to_string(), routed, "{came}");
        }
    }
}
