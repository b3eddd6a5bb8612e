//! The emulated cluster: what all its parts share.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Isolation;
use super::fault::Faults;
use super::output::Taps;
use super::process::{Launcher, Process, Sandbox};
use super::resource::Kind;
use super::store::{Key, Store};
use super::stream::Stdin;
use super::terminal::Terminal;

pub(super) const NODE: &str = "playground";
pub(super) const NODE_ADDRESS: &str = "172.18.0.2";

pub(super) struct Cluster {
    pub store: Store,
    pub launcher: Launcher,
    pub faults: Faults,
    /// Cancelled when the emulator stops.
    pub stopping: CancellationToken,
    pub tasks: TaskTracker,
    pods: Mutex<HashMap<String, Arc<Pod>>>,
    addresses: AtomicU32,
}

/// A pod on the node.
pub(super) struct Pod {
    pub key: Key,
    pub uid: String,
    pub address: Ipv4Addr,
    pub sandbox: OnceLock<Sandbox>,
    /// Told when the specification has a container more.
    pub wake: Notify,
    /// The seconds that containers have to end, once the pod is to go.
    pub stop: watch::Sender<Option<u64>>,
    containers: Mutex<HashMap<String, Arc<Container>>>,
}

/// A container that runs or ran.
pub(super) struct Container {
    pub process: Process,
    pub taps: Arc<Taps>,
    pub stdin: Option<Stdin>,
    pub stdin_once: bool,
    pub terminal: Option<Arc<Terminal>>,
    pub built_in: bool,
    pub running: AtomicBool,
    /// Cancelled when the container is gone, for what was executed in it.
    pub gone: CancellationToken,
    /// What an exec in it starts with.
    pub run: super::control::Run,
}

impl Cluster {
    pub(super) fn new(launcher: Launcher) -> Cluster {
        Cluster {
            store: Store::new(),
            launcher,
            faults: Faults::default(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            pods: Mutex::default(),
            addresses: AtomicU32::new(0),
        }
    }

    /// An address for a pod: its own where it has a network of its own, else one of the host's loopback.
    pub(super) fn next_address(&self) -> Ipv4Addr {
        let next = self.addresses.fetch_add(1, Ordering::Relaxed);
        let [_, _, high, low] = (next + 2).to_be_bytes();
        match self.launcher.isolation {
            Isolation::Namespaces => Ipv4Addr::new(10, 244, high, low),
            // Ports of other pods of other emulators on this machine would collide at the same addresses.
            Isolation::None => {
                let [_, _, _, process] = std::process::id().to_be_bytes();
                Ipv4Addr::new(127, 64 + process % 128, high.wrapping_add(1), low)
            }
        }
    }

    pub(super) fn add_pod(&self, object: &Value, address: Ipv4Addr) -> Arc<Pod> {
        let uid = super::store::text(object, "/metadata/uid").to_owned();
        let pod = Arc::new(Pod {
            key: Key::of(Kind::Pod, object),
            uid: uid.clone(),
            address,
            sandbox: OnceLock::new(),
            wake: Notify::new(),
            stop: watch::Sender::new(None),
            containers: Mutex::default(),
        });
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, pod.clone());
        pod
    }

    pub(super) fn pod(&self, uid: &str) -> Option<Arc<Pod>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    pub(super) fn remove_pod(&self, uid: &str) {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    pub(super) fn all_pods(&self) -> Vec<Arc<Pod>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Pod {
    pub(super) fn container(&self, name: &str) -> Option<Arc<Container>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) fn running(&self, name: &str) -> Option<Arc<Container>> {
        self.container(name).filter(|container| container.running.load(Ordering::SeqCst))
    }

    pub(super) fn add_container(&self, name: &str, container: Arc<Container>) {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), container);
    }

    pub(super) fn containers(&self) -> Vec<Arc<Container>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Asks for the end of the pod; the shorter grace counts.
    pub(super) fn end(&self, grace_seconds: u64) {
        self.stop.send_if_modified(|stop| {
            let shorter = stop.is_none_or(|before| grace_seconds < before);
            if shorter {
                *stop = Some(grace_seconds);
            }
            shorter
        });
    }

    pub(super) fn ending(&self) -> bool {
        self.stop.borrow().is_some()
    }
}
