//! Plain TCP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::Incoming;

/// How long to wait after an error of `accept` that is not one connection's: most often there are no file descriptors
/// left, and some must be closed first.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// A bound listener.
pub struct Tcp {
    listener: TcpListener,
}

impl Tcp {
    pub async fn bind(address: SocketAddr) -> io::Result<Tcp> {
        Ok(Tcp { listener: TcpListener::bind(address).await? })
    }

    /// The address with its true port, where 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection. Errors are the machine's, not the caller's: they are logged and waited out.
    pub async fn next(&self) -> Incoming<TcpStream> {
        loop {
            match self.listener.accept().await {
                Ok((io, peer)) => {
                    // Keystrokes are small packets; a socket that refuses the option is closed already.
                    let _ = io.set_nodelay(true);
                    return Incoming { io, peer };
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }
}
