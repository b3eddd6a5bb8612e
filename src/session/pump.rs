//! Carries bytes between a client and a process, each direction at its own pace.
//!
//! The two directions share nothing: a client that does not read stops its process's output and nothing else, a
//! process that does not read stops its client's input and nothing else. The end of one is passed on without cutting
//! the other.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{ClientGone, Inbound, Outlet};
use crate::cluster::{Chunk, Input, Output};

/// Bytes carried, each way.
#[derive(Debug, Default)]
pub struct Counts {
    pub to_process: AtomicU64,
    pub to_client: AtomicU64,
}

/// Passes the client's bytes and its end on to the process. Returns when there is nothing more to pass, or the process
/// takes no more; neither ends the session.
pub async fn inward(from: &Inbound, to: &mut Input, counts: &Counts) {
    while let Some(bytes) = from.next().await {
        let len = bytes.len() as u64;
        if to.write(bytes).await.is_err() {
            return;
        }
        counts.to_process.fetch_add(len, Ordering::Relaxed);
    }
    // A process that is gone already needs no end of its input.
    let _ = to.close().await;
}

/// Passes the process's output on until it ends, or the client takes no more.
pub async fn outward(from: &mut Output, to: &impl Outlet, counts: &Counts) -> Result<(), ClientGone> {
    while let Some(chunk) = from.next().await {
        let (len, sent) = match chunk {
            Chunk::Stdout(bytes) => (bytes.len(), to.stdout(bytes).await),
            Chunk::Stderr(bytes) => (bytes.len(), to.stderr(bytes).await),
        };
        sent?;
        counts.to_client.fetch_add(len as u64, Ordering::Relaxed);
    }
    Ok(())
}
