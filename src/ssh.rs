//! The SSH server: from a peer's bytes to sessions.
//!
//! Every use of russh's protocol is in here. One connection is one task of russh's, and each channel a task of ours;
//! callbacks answer and return, work is done in the channel's task. russh has no login deadline, no limits and, on its
//! own, a flow control that deadlocks: `stream`, `limits` and `flow` are there for that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::Disconnect;
use russh::server::RunningSession;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::{Audit, ConnectionId, Event};
use crate::auth::binding::Bindings;
use crate::auth::certificate::Verifier;
use crate::auth::device::Devices;
use crate::auth::standing::Standing;
use crate::config;
use crate::listen::Incoming;
use crate::session::Sessions;

mod algorithms;
mod channel;
mod flow;
mod forward;
mod handler;
mod host_key;
mod limits;
mod login;
mod observed;
mod stream;

pub use host_key::HostKeyError;
pub use observed::Observer;

use handler::Connection;
use limits::Limits;
use login::Greetings;
use stream::{Guarded, Login};

/// How long a client may take over the last lines of a connection that is being ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a login is judged by.
pub struct Credentials {
    pub verifier: Arc<Verifier>,
    pub bindings: Arc<Bindings>,
    pub standing: Standing,
    /// None where people cannot log in without a credential.
    pub devices: Option<Devices>,
}

/// The server's part that all connections share.
pub struct SshServer {
    russh: Arc<russh::server::Config>,
    settings: config::Ssh,
    credentials: Credentials,
    greetings: Greetings,
    sessions: Arc<Sessions>,
    audit: Arc<Audit>,
    limits: Arc<Limits>,
    connections: TaskTracker,
    /// Cancelled when nothing new may begin.
    draining: CancellationToken,
    /// Cancelled when what is left must end.
    ended: CancellationToken,
}

impl SshServer {
    /// Reads or makes the host keys; no other I/O.
    pub fn new(
        settings: &config::Ssh,
        credentials: Credentials,
        sessions: Arc<Sessions>,
        audit: Arc<Audit>,
    ) -> Result<SshServer, HostKeyError> {
        let keys = host_key::load(&settings.host_keys, settings.generate_host_key)?;
        Ok(SshServer {
            russh: Arc::new(algorithms::config(settings, keys, credentials.devices.is_some())),
            settings: settings.clone(),
            greetings: Greetings::new(credentials.devices.as_ref().map(|_| credentials.bindings.lifetime())),
            credentials,
            sessions,
            audit,
            limits: Arc::new(Limits::new(settings)),
            connections: TaskTracker::new(),
            draining: CancellationToken::new(),
            ended: CancellationToken::new(),
        })
    }

    /// Serves one connection in a task of its own, or closes it at once where there are too many.
    pub fn accept(self: &Arc<Self>, incoming: Incoming) {
        let server = Arc::clone(self);
        self.connections.spawn(async move { server.serve(incoming).await });
    }

    async fn serve(self: Arc<Self>, incoming: Incoming) {
        let (id, peer) = (incoming.id.clone(), incoming.peer);
        let started = Instant::now();
        let closed = |reason: &str| Event::ConnectionClosed {
            peer,
            reason: reason.to_owned(),
            seconds: started.elapsed().as_secs_f64(),
        };
        let (gateway, gateway_reference) =
            incoming.gateway.as_ref().map(|gateway| (gateway.address, gateway.reference.clone())).unzip();
        let opened = Event::ConnectionOpened { peer, gateway, gateway_reference: gateway_reference.flatten() };
        if let Err(error) = self.audit.record(&id, None, &opened).await {
            tracing::error!(%peer, %error, "connection refused: the audit trail cannot be written");
            return;
        }
        let reason = match self.limits.admit(peer.ip()) {
            Ok(place) => self.converse(incoming, place).await,
            Err(reason) => {
                tracing::warn!(%peer, reason, "connection closed before its first byte");
                reason
            }
        };
        if let Err(error) = self.audit.record(&id, None, &closed(reason)).await {
            tracing::error!(connection = %id, %error, "an event is missing from the audit trail");
        }
    }

    /// Speaks SSH until the connection ends, and tells what is left to tell; returns why it did.
    async fn converse(self: &Arc<Self>, incoming: Incoming, place: limits::Place) -> &'static str {
        let Incoming { id, io, peer, identity, .. } = incoming;
        let gone = CancellationToken::new();
        let _gone = gone.clone().drop_guard();
        let cut = CancellationToken::new();
        let displaced = place.displaced();
        let (stream, login) = Guarded::new(io, &self.settings, cut.clone());
        let (connection, mut leftover) =
            Connection::new(Arc::clone(self), id.clone(), peer, gone.clone(), login.clone(), place, identity);

        let running = tokio::select! {
            running = russh::server::run_stream(Arc::clone(&self.russh), stream, connection) => Ok(running),
            () = self.ended.cancelled() => Err("shutdown"),
            () = displaced.cancelled() => Err("displaced"),
        };
        let reason = match running {
            Ok(Ok(running)) => self.attend(running, &id, &login, &displaced, &gone, &cut).await,
            Ok(Err(error)) => {
                tracing::debug!(connection = %id, %peer, %error, "no SSH client");
                if login.is_over() { "login_deadline" } else { error.fault().unwrap_or("no_ssh") }
            }
            Err(reason) => reason,
        };
        // russh has dropped the connection's state by now, and what it had still to tell came here.
        if let Ok(gatekeeper) = leftover.try_recv() {
            gatekeeper.finish().await;
        }
        reason
    }

    /// Returns when a connection has ended, which it sees to where another has its place or nothing may go on.
    async fn attend(
        &self,
        mut running: RunningSession<Connection>,
        id: &ConnectionId,
        login: &Login,
        displaced: &CancellationToken,
        gone: &CancellationToken,
        cut: &CancellationToken,
    ) -> &'static str {
        let handle = running.handle();
        let drained = async {
            self.draining.cancelled().await;
            // A connection without a session has nothing to finish.
            tokio::select! {
                () = login.idle() => {}
                () = self.ended.cancelled() => {}
            }
        };
        tokio::select! {
            result = &mut running => return match result {
                Ok(()) => "client_left",
                Err(_) if login.is_over() => "login_deadline",
                Err(error) => {
                    tracing::debug!(connection = %id, %error, "connection ended");
                    error.reason()
                }
            },
            () = displaced.cancelled() => {
                cut.cancel();
                let _ = running.await;
                return "displaced";
            }
            () = drained => gone.cancel(),
        }
        // A client whose session has just ended leaves by itself, and a disconnect before that would overtake the exit
        // status: OpenSSH would then report its own 255.
        if tokio::time::timeout(FAREWELL, &mut running).await.is_ok() {
            return "shutdown";
        }
        let farewell = async {
            // Fails only where the connection has ended already.
            let _ = handle.disconnect(Disconnect::ByApplication, "porthole is restarting".into(), "".into()).await;
            let _ = (&mut running).await;
        };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            cut.cancel();
            let _ = running.await;
        }
        "shutdown"
    }

    /// Ends what is there: nothing new is taken, idle connections close, sessions get `deadline` to finish, and
    /// then a line. Returns when no task and no container is left.
    pub async fn drain(&self, deadline: Duration) {
        self.draining.cancel();
        self.connections.close();
        if tokio::time::timeout(deadline, self.connections.wait()).await.is_err() {
            self.sessions.close();
            // The lines of the sessions go out before their connections end.
            let _ = tokio::time::timeout(FAREWELL, self.connections.wait()).await;
            self.ended.cancel();
            self.connections.wait().await;
        }
        self.sessions.finish().await;
    }
}
