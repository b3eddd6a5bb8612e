//! Where connections come from: bytes from a peer whose true address we know.
//!
//! Plain TCP, TCP behind a load balancer, a WebSocket through a gateway: they differ here, and nowhere after. A listener
//! hands on what is ready to speak SSH, and no sooner, so what a gateway says of its client is settled by then.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::audit::ConnectionId;
use crate::auth::Identity;

pub mod certificate;
pub mod http;
pub mod proxy_protocol;
pub mod tcp;
mod unannounced;
pub mod websocket;

/// A connection that has just come in.
pub struct Incoming {
    pub id: ConnectionId,
    pub io: Box<dyn Stream>,
    /// The client's own address, whoever stands between.
    pub peer: SocketAddr,
    pub gateway: Option<Gateway>,
    /// Who it is, where that is proved already.
    pub identity: Option<Identity>,
}

/// Who stands between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    pub address: SocketAddr,
    /// What it calls the connection, so that its log and the audit trail can be laid side by side.
    pub reference: Option<String>,
}

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A peer that broke the rules of its transport; it travels inside the stream's `io::Error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("a PROXY protocol header came from a peer that may not send one (listen.proxy-protocol-from)")]
    ProxyHeaderUntrusted,
    #[error("a text message came, and SSH is carried in binary ones")]
    WebSocketText,
    #[error("a message is longer than what is taken")]
    WebSocketTooLong,
    #[error("a frame breaks the rules of RFC 6455")]
    WebSocketProtocol,
    #[error("the peer answers no ping")]
    WebSocketSilent,
}

impl Fault {
    /// The fault behind a stream's error, if that is what it is.
    pub fn of(error: &io::Error) -> Option<Fault> {
        error.get_ref()?.downcast_ref().copied()
    }

    /// The audit trail's word for it.
    pub fn code(self) -> &'static str {
        match self {
            Fault::ProxyHeaderUntrusted => "proxy_header_untrusted",
            Fault::WebSocketText => "websocket_text",
            Fault::WebSocketTooLong => "websocket_too_long",
            Fault::WebSocketProtocol => "websocket_protocol",
            Fault::WebSocketSilent => "websocket_silent",
        }
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }
}
