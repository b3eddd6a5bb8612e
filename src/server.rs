//! The one place that knows every part: builds them from the configuration, runs them, and ends them in order.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::Audit;
use crate::auth::binding::{BindingStore, Bindings, Known, Memory};
use crate::auth::certificate::Verifier;
use crate::auth::device::Devices;
use crate::auth::issuer::{self, Issuer};
use crate::auth::standing::Standing;
use crate::auth::token::Tokens;
use crate::authorize::{self, Gate};
use crate::cluster::{ApiServer, Cluster};
use crate::config::{self, Config};
use crate::listen::http::{Entrance, Http};
use crate::listen::tcp::Tcp;
use crate::listen::{Incoming, certificate, websocket};
use crate::recording::Recorder;
use crate::session::Sessions;
use crate::ssh::{Credentials, SshServer};

/// Connections that have come in and are not served yet. Serving one is to start a task, so none waits long.
const ARRIVALS: usize = 16;

/// A server that is ready to take connections.
pub struct Server {
    config: Config,
    tcp: Tcp,
    http: Option<Http>,
    ssh: Arc<SshServer>,
    audit: Arc<Audit>,
    arrivals: mpsc::Sender<Incoming>,
    arrived: mpsc::Receiver<Incoming>,
}

impl Server {
    /// Builds every part; returns when the cluster's state is known and the ports are bound.
    pub async fn start(config: Config) -> anyhow::Result<Server> {
        // What needs no network comes first: a wrong file is told at once.
        let keyring = issuer::open_keyring(&config.certificate_authority)?;
        let tokens = Arc::new(Tokens::new(&config.issuers)?);
        let verifier = Verifier::open(&config.certificate, keyring.clone())?;
        let verifier = Arc::new(verifier.believing(tokens.in_certificates(&config)));
        let devices = Devices::new(&config, Arc::clone(&tokens))?;
        let api = ApiServer::open(&config.cluster).await?;
        let authorizer = authorize::open(&config, Some(&api.reviewer()))?;
        let audit = Arc::new(Audit::open(&config.audit).await?);
        let recorder = Recorder::open(&config.recording).await?;
        let gate = Gate::new(Arc::new(authorizer), config.authorize.deadline, recorder.is_some(), Arc::clone(&audit));
        let issuer = keyring.map(|keyring| {
            let (verifier, audit) = (Arc::clone(&verifier), Arc::clone(&audit));
            Arc::new(Issuer::new(&config.certificate_authority, &config.certificate, keyring, verifier, audit))
        });
        let cluster = Cluster::connect(api, &config.cluster, config.session.start_deadline).await?;
        let known = Arc::<Known>::default();
        let store: Box<dyn BindingStore> = match config.device.bindings {
            config::BindingStore::Memory => Box::new(Memory),
            config::BindingStore::Cluster => {
                let namespace = config.device.bindings_namespace.as_deref();
                Box::new(cluster.bindings(namespace, Arc::clone(&known), config.session.start_deadline).await?)
            }
        };
        let provider = config.device.issuer.as_ref().and_then(|name| config.issuers.get(name));
        let ends_sessions = provider.is_some_and(|provider| provider.end_session_at_expiry);
        let (provider, lifetime) = (provider.map(|provider| provider.url.clone()), config.device.binding_lifetime);
        let bindings = Arc::new(Bindings::new(known, store, lifetime, provider, ends_sessions));
        let standing = Standing::new(Arc::clone(&verifier), Arc::clone(&bindings));
        let (trail, stands, certifies) = (Arc::clone(&audit), standing.clone(), issuer.clone());
        let sessions = Arc::new(Sessions::new(cluster, gate, trail, stands, recorder, certifies, &config));
        let credentials = Credentials { verifier, bindings, devices, standing };
        let ssh = Arc::new(SshServer::new(&config.ssh, credentials, sessions, Arc::clone(&audit))?);
        let address = config.listen.address;
        let tcp = Tcp::bind(&config.listen, Arc::clone(&audit))
            .await
            .with_context(|| format!("cannot listen on {address} (listen.address)"))?;
        let (arrivals, arrived) = mpsc::channel(ARRIVALS);
        let http = match config.http.address {
            Some(address) => {
                let entrance = Arc::new(Entrance::new(&config.http, tokens, Arc::clone(&audit))?);
                let mut routes = websocket::route(Arc::clone(&entrance), arrivals.clone());
                if let Some(issuer) = issuer {
                    routes = routes.merge(certificate::route(entrance, issuer));
                }
                let http = Http::bind(address, &config.http, routes).await?;
                tracing::info!(address = %http.address()?, "listening for gateways");
                Some(http)
            }
            None => None,
        };
        Ok(Server { config, tcp, http, ssh, audit, arrivals, arrived })
    }

    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.tcp.address()
    }

    /// The trail, whose file is to be opened again after a rotation.
    pub fn audit(&self) -> Arc<Audit> {
        Arc::clone(&self.audit)
    }

    /// Takes connections until `stop`, then lets what is there finish.
    pub async fn run(self, stop: CancellationToken) {
        let Server { config, tcp, http, ssh, arrivals, mut arrived, .. } = self;
        let listeners = TaskTracker::new();
        listeners.spawn(tcp.run(arrivals, stop.clone()));
        if let Some(http) = http {
            listeners.spawn(http.run(stop.clone()));
        }
        listeners.close();
        loop {
            tokio::select! {
                Some(incoming) = arrived.recv() => ssh.accept(incoming),
                () = stop.cancelled() => break,
            }
        }
        // What comes in from now on is dropped, and so closed.
        drop(arrived);
        tracing::info!(deadline = ?config.ssh.drain_deadline, "stopping: sessions may finish");
        tokio::join!(ssh.drain(config.ssh.drain_deadline), listeners.wait());
        tracing::info!("stopped");
    }
}
