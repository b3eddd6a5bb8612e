//! A connection to a port of the pod.

use bytes::Bytes;

use super::error::Lost;

/// A connection that stands.
pub struct Tunnel {}

pub struct TunnelReader {}

pub struct TunnelWriter {}

impl Tunnel {
    pub fn split(self) -> (TunnelReader, TunnelWriter) {
        todo!()
    }
}

impl TunnelReader {
    /// The pod's next bytes; none when the connection has ended.
    pub async fn next(&mut self) -> Option<Bytes> {
        todo!()
    }

    /// What Kubernetes said of the connection's end, if it was not an orderly one.
    pub fn error(&self) -> Option<&str> {
        todo!()
    }
}

impl TunnelWriter {
    pub async fn write(&mut self, _bytes: Bytes) -> Result<(), Lost> {
        todo!()
    }

    /// The client's end. The subresource cannot carry it: the pod's bytes go on until it ends or has been silent for a
    /// while.
    pub async fn close(&mut self) -> Result<(), Lost> {
        todo!()
    }
}
