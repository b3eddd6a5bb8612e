//! russh's callbacks for one connection: each answers at once and leaves the work to the channel's task.
//!
//! The callbacks run in the connection's own loop, so one that waits for a pod would stop all its channels. What they
//! may wait for is the audit trail, and (in `flow`) a moment for a client that sends into a full queue.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use russh::keys::ssh_key::Certificate;
use russh::keys::{Algorithm, HashAlg};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Pty, Sig};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::SshServer;
use super::channel::SessionChannel;
use super::flow;
use super::forward::{Destination, ForwardChannel, Opening, prohibited};
use super::limits::{ChannelPlace, Place};
use super::login::{Gatekeeper, Welcome};
use super::stream::Login;
use crate::audit::{ConnectionId, SessionId};
use crate::auth::Identity;
use crate::listen::Fault;
use crate::session::{Caller, Inbound, What};

/// One connection's state.
pub struct Connection {
    server: Arc<SshServer>,
    id: ConnectionId,
    gone: CancellationToken,
    login: Login,
    /// Before the login; goes to whoever settles it at the connection's end.
    gatekeeper: Option<Gatekeeper>,
    leftover: mpsc::Sender<Gatekeeper>,
    /// After the login.
    welcome: Option<Welcome>,
    channels: HashMap<ChannelId, Open>,
    /// Channels that were ever opened; numbers the sessions.
    count: u32,
}

enum Open {
    Session(SessionChannel),
    Forward(ForwardChannel),
}

/// Why a connection must end at once.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error(transparent)]
    Protocol(#[from] russh::Error),
    #[error(transparent)]
    Overrun(#[from] flow::Overrun),
}

impl ConnectionError {
    /// The audit trail's word for it.
    pub fn reason(&self) -> &'static str {
        if let Some(fault) = self.fault() {
            return fault;
        }
        match self {
            ConnectionError::Protocol(russh::Error::KeepaliveTimeout) => "client_silent",
            ConnectionError::Protocol(russh::Error::IO(_) | russh::Error::Disconnect | russh::Error::HUP) => {
                "client_left"
            }
            ConnectionError::Protocol(russh::Error::NoCommonAlgo { .. }) => "no_common_algorithm",
            ConnectionError::Protocol(_) => "protocol_error",
            ConnectionError::Overrun(_) => "window_overrun",
        }
    }

    /// The same for a peer that broke the rules of its transport.
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            ConnectionError::Protocol(russh::Error::IO(error)) => Fault::of(error).map(Fault::code),
            _ => None,
        }
    }
}

impl Open {
    fn inbound(&self) -> &Inbound {
        match self {
            Open::Session(session) => &session.inbound,
            Open::Forward(forward) => &forward.inbound,
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Open::Session(session) => session.is_over(),
            Open::Forward(forward) => forward.is_over(),
        }
    }
}

impl Connection {
    /// The connection, and where its gatekeeper can be had once it has ended without a login.
    pub fn new(
        server: Arc<SshServer>,
        id: ConnectionId,
        peer: SocketAddr,
        gone: CancellationToken,
        login: Login,
        place: Place,
        identity: Option<Identity>,
    ) -> (Connection, mpsc::Receiver<Gatekeeper>) {
        let mut gatekeeper = Gatekeeper::new(Arc::clone(&server), id.clone(), peer, login.clone(), place);
        gatekeeper.know(identity);
        let (leftover, settled) = mpsc::channel(1);
        let connection = Connection {
            server,
            id,
            gone,
            login,
            gatekeeper: Some(gatekeeper),
            leftover,
            welcome: None,
            channels: HashMap::new(),
            count: 0,
        };
        (connection, settled)
    }

    /// Takes a place for one more channel, or says why there is none.
    fn admit(&mut self) -> Result<(Arc<Caller>, SessionId, ChannelPlace), ChannelOpenFailure> {
        let Some(Welcome { caller, .. }) = &self.welcome else { return Err(prohibited("log in first".to_owned())) };
        if self.server.draining.is_cancelled() {
            return Err(prohibited("porthole is restarting: log in again".to_owned()));
        }
        // A channel that we have closed first is told to nobody: russh drops the client's answer.
        self.channels.retain(|_, open| !open.is_over());
        let few = self.channels.len() < self.server.settings.max_channels_per_connection;
        let place = self.server.limits.channel(caller.identity.subject()).filter(|_| few);
        let Some(place) = place else { return Err(ChannelOpenFailure::ResourceShortage) };
        self.count = self.count.saturating_add(1);
        Ok((Arc::clone(caller), self.id.session(self.count), place))
    }

    /// Keeps who was let in, and says what the client is to hear.
    fn admitted(&mut self, outcome: Result<Welcome, Auth>) -> Auth {
        match outcome {
            Ok(welcome) => {
                self.welcome = Some(welcome);
                Auth::Accept
            }
            Err(answer) => answer,
        }
    }

    fn session(&mut self, channel: ChannelId) -> Option<&mut SessionChannel> {
        match self.channels.get_mut(&channel) {
            Some(Open::Session(session)) => Some(session),
            _ => None,
        }
    }

    fn start(&mut self, channel: ChannelId, what: What) -> bool {
        let Some(Welcome { caller, .. }) = &self.welcome else { return false };
        let caller = Arc::clone(caller);
        let (sessions, login) = (Arc::clone(&self.server.sessions), self.login.clone());
        let draining = self.server.draining.clone();
        let Some(unwanted) = self.gatekeeper.as_ref().map(|gatekeeper| gatekeeper.observed().unwanted()) else {
            return false;
        };
        self.session(channel).is_some_and(|session| session.start(what, &caller, &sessions, &login, unwanted, draining))
    }
}

impl Drop for Connection {
    /// Hands on what is still to be told, which takes waiting, and so cannot be done here.
    fn drop(&mut self) {
        self.gone.cancel();
        if let Some(gatekeeper) = self.gatekeeper.take() {
            // There is room for the only one; without a receiver the server is ending.
            let _ = self.leftover.try_send(gatekeeper);
        }
    }
}

/// The part of a new channel that is kept: its messages come through `Handler::data` (see `flow`).
fn writer(channel: Channel<Msg>) -> ChannelWriteHalf<Msg> {
    channel.split().1
}

fn answer(channel: ChannelId, session: &mut Session, success: bool) -> Result<(), ConnectionError> {
    let answered = if success { session.channel_success(channel) } else { session.channel_failure(channel) };
    answered.map_err(ConnectionError::from)
}

impl Handler for Connection {
    type Error = ConnectionError;

    async fn authentication_banner(&mut self) -> Result<Option<String>, ConnectionError> {
        let Some(gatekeeper) = &self.gatekeeper else { return Ok(None) };
        gatekeeper.watch();
        Ok(gatekeeper.greeting())
    }

    async fn auth_none(&mut self, user: &str) -> Result<Auth, ConnectionError> {
        let Some(gatekeeper) = &mut self.gatekeeper else { return Ok(Auth::reject()) };
        let answer = gatekeeper.none(user).await;
        Ok(self.admitted(answer))
    }

    async fn auth_password(&mut self, user: &str, _: &str) -> Result<Auth, ConnectionError> {
        Ok(match &mut self.gatekeeper {
            Some(gatekeeper) => gatekeeper.password(user).await,
            None => Auth::reject(),
        })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, ConnectionError> {
        let Some(gatekeeper) = &mut self.gatekeeper else { return Ok(Auth::reject()) };
        let outcome = gatekeeper.keyboard_interactive(user, response).await;
        Ok(self.admitted(outcome))
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, ConnectionError> {
        // A signature with SHA-1 proves nothing, and nobody tells `auth_openssh_certificate` which one it was.
        let weak = matches!(offer.algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa);
        Ok(match &mut self.gatekeeper {
            Some(gatekeeper) if weak => gatekeeper.weak_signature(user).await,
            Some(gatekeeper) => gatekeeper.offered(user).await,
            None => Auth::reject(),
        })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, ConnectionError> {
        let fingerprint = key.public_key.fingerprint(HashAlg::Sha256).to_string();
        let Some(gatekeeper) = &mut self.gatekeeper else { return Ok(Auth::reject()) };
        let outcome = gatekeeper.key(user, fingerprint).await;
        Ok(self.admitted(outcome))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, ConnectionError> {
        let Some(gatekeeper) = &mut self.gatekeeper else { return Ok(Auth::reject()) };
        let outcome = gatekeeper.certificate(user, certificate).await;
        Ok(self.admitted(outcome))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), ConnectionError> {
        match self.admit() {
            Ok((_, id, place)) => {
                let key = channel.id();
                let session = SessionChannel::new(id, writer(channel), place, self.gone.child_token());
                self.channels.insert(key, Open::Session(session));
                reply.accept().await;
            }
            Err(failure) => reply.reject(failure).await,
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), ConnectionError> {
        match self.admit() {
            Ok((caller, id, place)) => {
                let key = channel.id();
                let opening = Opening {
                    id,
                    destination: Destination { host: host.to_owned(), port },
                    writer: writer(channel),
                    reply,
                    place,
                    gone: self.gone.child_token(),
                };
                let forward = ForwardChannel::start(opening, &caller, &self.server.sessions, &self.login);
                self.channels.insert(key, Open::Forward(forward));
            }
            Err(failure) => reply.reject(failure).await,
        }
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), ConnectionError> {
        reply.reject(prohibited("unix sockets in the pod cannot be reached yet".to_owned())).await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), ConnectionError> {
        let permitted = self.welcome.as_ref().is_some_and(|welcome| welcome.caller.identity.rights().pty);
        let granted = match self.session(channel).filter(|_| permitted) {
            Some(open) => {
                open.terminal(term, columns, rows);
                true
            }
            None => false,
        };
        answer(channel, session, granted)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), ConnectionError> {
        let accepted =
            self.server.sessions.accepts_env(name) && self.session(channel).is_some_and(|open| open.env(name, value));
        answer(channel, session, accepted)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), ConnectionError> {
        let started = self.start(channel, What::Shell);
        answer(channel, session, started)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), ConnectionError> {
        // A container's command is JSON, which has no way to say other bytes.
        let started = match std::str::from_utf8(command) {
            Ok(command) => self.start(channel, What::Command(command.to_owned())),
            Err(_) => false,
        };
        answer(channel, session, started)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), ConnectionError> {
        let started = name == "sftp" && self.start(channel, What::Sftp);
        answer(channel, session, started)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Result<(), ConnectionError> {
        if let Some(open) = self.session(channel) {
            open.resize(columns, rows);
        }
        Ok(())
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), ConnectionError> {
        answer(channel, session, false)
    }

    async fn signal(&mut self, channel: ChannelId, signal: Sig, _: &mut Session) -> Result<(), ConnectionError> {
        if let Some(open) = self.session(channel) {
            open.signal(signal);
        }
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, bytes: &[u8], _: &mut Session) -> Result<(), ConnectionError> {
        match self.channels.get(&channel) {
            // Nobody will ever read what comes before a request; a client waits with it.
            Some(Open::Session(session)) if session.is_idle() => Ok(()),
            Some(open) => Ok(flow::take(open.inbound(), bytes).await?),
            None => Ok(()),
        }
    }

    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        // What came for a session that has ended is nobody's, and must not slow the others.
        let queues = self.channels.values().filter(|open| !open.is_over()).map(|open| open.inbound().len());
        flow::window(queues.max().unwrap_or(0))
    }

    async fn channel_eof(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), ConnectionError> {
        if let Some(open) = self.channels.get(&channel) {
            open.inbound().end();
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), ConnectionError> {
        match self.channels.remove(&channel) {
            Some(Open::Session(session)) => session.close(),
            Some(Open::Forward(forward)) => forward.close(),
            None => {}
        }
        Ok(())
    }
}
