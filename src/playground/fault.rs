//! Faults that tests and demonstrations ask for, under `/playground/` of the same door.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

/// The longest latency that may be asked for.
const LONGEST_LATENCY_MILLISECONDS: u64 = 120_000;

#[derive(Default)]
pub(super) struct Faults {
    latency_milliseconds: AtomicU64,
    quota: AtomicBool,
    down: AtomicBool,
    refusing: AtomicBool,
    connections: Mutex<CancellationToken>,
}

/// The body of `POST /playground/faults`: what is named changes, the rest stays.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Wish {
    /// Every answer waits this long.
    latency_milliseconds: Option<u64>,
    /// Ephemeral containers are refused as an exceeded quota does.
    quota_exceeded: Option<bool>,
    /// The node is not ready, and so are its pods.
    pub node_down: Option<bool>,
    /// New connections are closed at once, as if nobody listened.
    refuse_connections: Option<bool>,
    /// All connections are dropped now, streams included, but for the one that asks.
    #[serde(default)]
    drop_connections: bool,
    /// Watchers must list again.
    #[serde(default)]
    pub forget_history: bool,
}

impl Faults {
    pub(super) fn grant(&self, wish: &Wish) {
        if let Some(latency) = wish.latency_milliseconds {
            self.latency_milliseconds.store(latency.min(LONGEST_LATENCY_MILLISECONDS), Ordering::SeqCst);
        }
        for (wish, fault) in [
            (wish.quota_exceeded, &self.quota),
            (wish.node_down, &self.down),
            (wish.refuse_connections, &self.refusing),
        ] {
            if let Some(wish) = wish {
                fault.store(wish, Ordering::SeqCst);
            }
        }
        if wish.drop_connections {
            let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *connections).cancel();
        }
    }

    pub(super) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency_milliseconds.load(Ordering::SeqCst))
    }

    pub(super) fn quota_exceeded(&self) -> bool {
        self.quota.load(Ordering::SeqCst)
    }

    pub(super) fn node_down(&self) -> bool {
        self.down.load(Ordering::SeqCst)
    }

    pub(super) fn refusing(&self) -> bool {
        self.refusing.load(Ordering::SeqCst)
    }

    /// Cancelled when the connections of now are dropped.
    pub(super) fn connections(&self) -> CancellationToken {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
