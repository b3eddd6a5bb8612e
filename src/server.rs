//! The one place that knows every part: builds them from the configuration, runs them, and ends them in order.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::auth::certificate::Verifier;
use crate::authorize::Gate;
use crate::authorize::policy::PolicyFile;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::listen::tcp::Tcp;
use crate::session::Sessions;
use crate::ssh::SshServer;

/// A server that is ready to take connections.
pub struct Server {
    config: Config,
    listener: Tcp,
    ssh: Arc<SshServer>,
    audit: Arc<Audit>,
}

impl Server {
    /// Builds every part; returns when the cluster's state is known and the port is bound.
    pub async fn start(config: Config) -> anyhow::Result<Server> {
        // What needs no network comes first: a wrong file is told at once.
        let verifier = Verifier::open(&config.certificate)?;
        let policy = PolicyFile::open(&config.authorize.policy_file)?;
        let audit = Arc::new(Audit::open(&config.audit).await?);
        let gate = Gate::new(Arc::new(policy), config.authorize.deadline, Arc::clone(&audit));
        let cluster = Cluster::connect(&config.cluster, config.session.start_deadline).await?;
        let sessions = Arc::new(Sessions::new(cluster, gate, Arc::clone(&audit), &config));
        let ssh = Arc::new(SshServer::new(&config.ssh, verifier, sessions, Arc::clone(&audit))?);
        let address = config.listen.address;
        let listener =
            Tcp::bind(address).await.with_context(|| format!("cannot listen on {address} (listen.address)"))?;
        Ok(Server { config, listener, ssh, audit })
    }

    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.address()
    }

    /// The trail, whose file is to be opened again after a rotation.
    pub fn audit(&self) -> Arc<Audit> {
        Arc::clone(&self.audit)
    }

    /// Takes connections until `stop`, then lets what is there finish.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                incoming = self.listener.next() => self.ssh.accept(incoming.io, incoming.peer),
                () = stop.cancelled() => break,
            }
        }
        drop(self.listener);
        tracing::info!(deadline = ?self.config.ssh.drain_deadline, "stopping: sessions may finish");
        self.ssh.drain(self.config.ssh.drain_deadline).await;
        tracing::info!("stopped");
    }
}
