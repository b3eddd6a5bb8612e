//! Plain TCP, from clients and from load balancers that say for whom.
//!
//! Whether a peer must announce its client or may not is decided by its address alone. A load balancer that opens a
//! connection, says nothing of a client and leaves has looked whether somebody is here, which is told to nobody: it does so
//! every few seconds, for ever. One that stays is served as its own client.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::proxy_protocol::{self, Header, HeaderError};
use super::unannounced::Unannounced;
use super::{Gateway, Incoming};
use crate::audit::{Audit, ConnectionId, Event};
use crate::config;

/// How long to wait after an error of `accept` that is not one connection's: most often there are no file descriptors
/// left, and some must be closed first.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Connections whose header is awaited. A load balancer sends it at once, so few are at any time.
const MOST_AWAITED_HEADERS: usize = 512;

/// A bound listener.
pub struct Tcp {
    listener: TcpListener,
    rules: Arc<Rules>,
}

/// What holds for every connection.
struct Rules {
    announced_from: Vec<IpNet>,
    deadline: Duration,
    audit: Arc<Audit>,
}

impl Tcp {
    pub async fn bind(settings: &config::Listen, audit: Arc<Audit>) -> io::Result<Tcp> {
        let rules = Rules {
            announced_from: settings.proxy_protocol_from.clone(),
            deadline: settings.proxy_protocol_deadline,
            audit,
        };
        Ok(Tcp { listener: TcpListener::bind(settings.address).await?, rules: Arc::new(rules) })
    }

    /// The address with its true port, where 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Takes connections until `stop`. What has not said whose it is by then is dropped.
    pub async fn run(self, arrivals: mpsc::Sender<Incoming>, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(MOST_AWAITED_HEADERS));
        loop {
            let (io, peer) = tokio::select! {
                accepted = accept(&self.listener) => accepted,
                () = stop.cancelled() => return,
            };
            let trusted = self.rules.announced_from.iter().any(|network| network.contains(&peer.ip()));
            if !trusted {
                // Fails where the server takes nothing any more.
                let _ = arrivals.send(unannounced(io, peer, None)).await;
                continue;
            }
            let (rules, seat) = (Arc::clone(&self.rules), Arc::clone(&room).try_acquire_owned());
            let (arrivals, stop) = (arrivals.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = rules.announce(io, peer, seat.ok(), &arrivals) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

impl Rules {
    /// Reads the header that must come first, and hands the connection on as its client's.
    async fn announce(
        &self,
        mut io: TcpStream,
        gateway: SocketAddr,
        seat: Option<OwnedSemaphorePermit>,
        arrivals: &mpsc::Sender<Incoming>,
    ) {
        if seat.is_none() {
            return self.refuse(gateway, "too_many_connections", "too many of its connections await a header").await;
        }
        match timeout(self.deadline, proxy_protocol::read(&mut io)).await.unwrap_or(Err(HeaderError::Late)) {
            // What HAProxy says in version 1, which has no word for a check, is that it speaks for itself.
            Ok(Header::Client { source, .. }) if source == gateway => self.own(io, gateway, arrivals).await,
            Ok(Header::Client { source, reference }) => {
                let gateway = Gateway { address: gateway, reference };
                // Fails where the server takes nothing any more.
                let _ = arrivals.send(unannounced(io, source, Some(gateway))).await;
            }
            Ok(Header::Own) => self.own(io, gateway, arrivals).await,
            Ok(Header::HealthCheck) => health_check(gateway),
            Err(error) => self.refuse(gateway, error.code(), &error.to_string()).await,
        }
    }

    /// Hands on a connection without a client's address, as from whoever has connected (HAProxy's `doc/proxy-protocol.txt`
    /// has it so). Most are checks that leave at once, so it is nobody's before its first byte; one that says nothing for
    /// long waits for the server's banner.
    async fn own(&self, io: TcpStream, peer: SocketAddr, arrivals: &mpsc::Sender<Incoming>) {
        if let Ok(Ok(0) | Err(_)) = timeout(self.deadline, io.peek(&mut [0])).await {
            return health_check(peer);
        }
        // Fails where the server takes nothing any more.
        let _ = arrivals.send(unannounced(io, peer, None)).await;
    }

    async fn refuse(&self, peer: SocketAddr, code: &'static str, detail: &str) {
        let refused = Event::ConnectionRefused { peer, code, detail: detail.to_owned() };
        tracing::debug!(%peer, code, "connection refused");
        if let Err(error) = self.audit.record(&ConnectionId::random(), None, &refused).await {
            tracing::error!(%peer, %error, "a refused connection is missing from the audit trail");
        }
    }
}

fn health_check(gateway: SocketAddr) {
    tracing::debug!(%gateway, "a load balancer looked whether somebody is here");
}

/// The next connection. Errors are the machine's, not the caller's: they are logged and waited out.
pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((io, peer)) => {
                // Keystrokes are small packets; a socket that refuses the option is closed already.
                let _ = io.set_nodelay(true);
                // A socket for both families shows IPv4 peers as `::ffff:10.0.0.1`, which no rule names so.
                return (io, SocketAddr::new(peer.ip().to_canonical(), peer.port()));
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

fn unannounced(io: TcpStream, peer: SocketAddr, gateway: Option<Gateway>) -> Incoming {
    Incoming { id: ConnectionId::random(), io: Box::new(Unannounced::new(io)), peer, gateway, identity: None }
}
