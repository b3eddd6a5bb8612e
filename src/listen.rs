//! Where connections come from: bytes from a peer whose address we know.

use std::net::SocketAddr;

pub mod tcp;

/// A connection that has just come in.
pub struct Incoming<T> {
    pub io: T,
    pub peer: SocketAddr,
}
