//! The playground: an emulator of the part of the Kubernetes API that Porthole uses, whose containers are
//! processes of this machine. A newcomer tries Porthole on it with one command, and the tests run on it.
//!
//! Porthole reaches it as it reaches any cluster, by a kubeconfig, and nothing in Porthole knows that it is not
//! one: where the emulator and a real cluster differ, the emulator is wrong. Whoever has its token runs commands
//! as the user who started it, so it listens where it is told, on loopback, and the token is in a file that only
//! that user reads.
//!
//! `api` is the API server's front, `store` its memory, `controller` and `kubelet` do what their namesakes do,
//! `stream` and `forward` carry bytes, `process` starts what `container` then becomes. Beside the cluster, `provider` is
//! the company's identity provider.

mod access;
mod api;
mod cluster;
mod container;
mod control;
mod controller;
mod discovery;
mod ephemeral;
mod event;
mod fault;
mod fixtures;
mod forward;
mod image;
mod kit;
mod kubelet;
mod list;
mod listener;
mod output;
mod patch;
mod pod_status;
mod pod_stream;
mod process;
mod provider;
mod resource;
mod security;
mod selector;
mod status;
mod store;
mod stream;
mod terminal;
mod websocket;

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use api::Door;
use cluster::Cluster;
use process::Launcher;

pub use container::container_main;
pub use kit::{Kit, greeting};
pub use provider::Provider;

/// How to start an emulator.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory for its state. Made if it is not there; what an earlier emulator left in it goes.
    pub root: PathBuf,
    /// Where the API listens; an address of this machine's loopback.
    pub listen: SocketAddr,
    /// What separates the containers: as `probe` finds, or less.
    pub isolation: Isolation,
    /// The program whose hidden subcommand `playground-container` calls [`container_main`]: this one, but in a test.
    pub program: PathBuf,
}

/// What separates containers from each other and from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// Namespaces for network, processes, mounts; and of users, if we are not root.
    Namespaces,
    /// Nothing: containers are plain processes.
    None,
}

/// Finds out what this machine allows, by trying it with `program` (see [`Options::program`]).
#[must_use]
pub fn probe(program: &Path) -> Isolation {
    match process::probe(program) {
        Ok(true) => Isolation::Namespaces,
        Ok(false) => Isolation::None,
        Err(error) => {
            tracing::warn!(%error, "namespaces could not be tried; containers will be plain processes");
            Isolation::None
        }
    }
}

/// A cluster that runs. Its containers end with it, whether it is stopped, dropped or killed.
pub struct Emulator {
    cluster: Arc<Cluster>,
    address: SocketAddr,
    kubeconfig: PathBuf,
    root: PathBuf,
}

impl Emulator {
    /// Starts the API and the places in it. The pods start on their own from then on.
    ///
    /// # Errors
    ///
    /// If the state directory, the program or the address cannot be used.
    pub async fn start(options: Options) -> io::Result<Emulator> {
        let Options { root, listen, isolation, program } = options;
        if !listen.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the playground listens on loopback only"));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        let root = root.canonicalize()?;
        for left in ["pods", "mnt"] {
            match fs::remove_dir_all(root.join(left)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => fs::create_dir(root.join(left))?,
            }
        }
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let token = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        let kubeconfig = root.join("kubeconfig");
        write_kubeconfig(&kubeconfig, address, &token)?;
        let cluster = Arc::new(Cluster::new(Launcher::new(&program, isolation, root.clone())?));
        let door = Arc::new(Door { cluster: cluster.clone(), token });
        cluster.tasks.spawn(listener::accept(listener, door));
        let emulator = Emulator { cluster, address, kubeconfig, root };
        fixtures::create(&emulator.cluster).map_err(|refusal| io::Error::other(refusal.status().to_string()))?;
        Ok(emulator)
    }

    /// A file for any Kubernetes client; it holds the token.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when every place is as it will be: its pods ready, or stuck for good on an image.
    pub async fn settled(&self) {
        let mut changes = self.cluster.store.changes();
        loop {
            changes.mark_unchanged();
            let (_, pods) = self.cluster.store.list(resource::Kind::Pod, None);
            if pods.iter().all(|pod| is_settled(pod)) || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Kills all containers, and returns when nothing is left of them.
    pub async fn stop(self) {
        self.cluster.stopping.cancel();
        self.cluster.tasks.close();
        self.cluster.tasks.wait().await;
        for left in ["pods", "mnt"] {
            // What stays goes with the next start.
            let _ = fs::remove_dir_all(self.root.join(left));
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.cluster.stopping.cancel();
    }
}

fn is_settled(pod: &serde_json::Value) -> bool {
    let ready = |condition: &serde_json::Value| {
        store::text(condition, "/type") == "Ready" && store::text(condition, "/status") == "True"
    };
    let stuck = |container: &serde_json::Value| store::text(container, "/state/waiting/reason").contains("ImagePull");
    store::items(pod, "/status/conditions").iter().any(ready)
        || store::items(pod, "/status/containerStatuses").iter().any(stuck)
}

fn write_kubeconfig(path: &Path, address: SocketAddr, token: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    write!(
        file,
        "apiVersion: v1
kind: Config
clusters:
- name: playground
  cluster:
    server: http://{address}
users:
- name: playground
  user:
    token: {token}
contexts:
- name: playground
  context:
    cluster: playground
    user: playground
    namespace: demo
current-context: playground
"
    )
}
