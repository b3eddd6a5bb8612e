//! Who is let in: the answers to SSH's authentication requests.
//!
//! Four things open the door: a certificate, a device login, a key that was proved beside a device login before, and a
//! token that the transport has brought and proved.
//! Every refusal is in the audit trail with its own reason before the client hears of it, and of credentials the client
//! hears the same always: "permission denied". Nothing is believed of a key that was merely offered (RFC 4252 section 7):
//! a certificate's own key is offered in the same way, so every key may go on to prove itself, and is judged then.

use std::net::SocketAddr;
use std::sync::Arc;

use russh::server::Auth;
use tokio_util::task::AbortOnDropHandle;

use super::SshServer;
use super::limits::{PersonPlace, Place};
use super::observed::Observed;
use super::stream::Login;
use crate::audit::{ConnectionId, Event};
use crate::auth::Identity;
use crate::session::Caller;
use crate::target::LoginName;

mod certificate;
mod device;
mod greeting;
mod key;
mod trust;

pub use greeting::Greetings;

/// The longest login name that the audit trail repeats, in characters.
const LOGIN_SHOWN_CHARS: usize = 256;

/// One connection's way to an identity.
pub struct Gatekeeper {
    server: Arc<SshServer>,
    id: ConnectionId,
    peer: SocketAddr,
    login: Login,
    place: Place,
    observed: Arc<Observed>,
    /// Who it is, where the transport has proved it.
    known: Option<Identity>,
    /// The name that the client last used.
    user: String,
    /// Whether anything but `none` was tried.
    tried: bool,
    /// The first key that proved itself and that nobody is bound to; nothing of a merely offered key is here.
    proved: Option<String>,
    device: device::Stage,
}

/// A caller who is let in, and the place that counts them.
pub struct Welcome {
    pub caller: Arc<Caller>,
    pub _person: PersonPlace,
    /// Ends the caller's sessions when trust in the credential does; runs as long as this value lives.
    pub _trust: AbortOnDropHandle<()>,
}

impl Gatekeeper {
    pub fn new(server: Arc<SshServer>, id: ConnectionId, peer: SocketAddr, login: Login, place: Place) -> Gatekeeper {
        Gatekeeper {
            server,
            id,
            peer,
            login,
            place,
            observed: Arc::default(),
            known: None,
            user: String::new(),
            tried: false,
            proved: None,
            device: device::Stage::Untried,
        }
    }

    /// Whoever comes is this person: `none` lets them in.
    pub fn know(&mut self, identity: Option<Identity>) {
        self.known = identity;
    }

    /// A line for everybody, before anything is known of the client but its address.
    pub fn greeting(&self) -> Option<String> {
        if self.known.is_some() {
            return None;
        }
        self.server.greetings.line(self.peer.ip())
    }

    /// What russh refuses by itself, from when the first authentication request may come.
    pub fn watch(&self) {
        self.observed.watch();
    }

    pub fn observed(&self) -> &Arc<Observed> {
        &self.observed
    }

    /// `none` asks which methods there are; it is worth a line only if nothing follows. Where the transport has proved
    /// who it is, it is enough.
    pub async fn none(&mut self, user: &str) -> Result<Welcome, Auth> {
        self.user = user.to_owned();
        self.settle().await;
        match self.known.take() {
            Some(identity) => self.welcome(user, identity).await,
            None => Err(Auth::reject()),
        }
    }

    pub async fn password(&mut self, user: &str) -> Auth {
        self.refuse(user, "password", "password_refused", String::new()).await
    }

    /// A key was offered, nothing is proved.
    pub async fn offered(&mut self, user: &str) -> Auth {
        self.user = user.to_owned();
        self.settle().await;
        Auth::Accept
    }

    /// A key would be proved by a signature that anybody could make.
    pub async fn weak_signature(&mut self, user: &str) -> Auth {
        self.refuse(user, "publickey", "weak_signature", "signatures with SHA-1 are not taken".to_owned()).await
    }

    async fn welcome(&mut self, user: &str, identity: Identity) -> Result<Welcome, Auth> {
        let method = identity.method().as_str();
        let Some(person) = self.server.limits.person(identity.subject()) else {
            // A device login has bound its key by now, as the credential tells: its person need not approve again.
            let detail = format!("{}, by {}", identity.subject(), identity.credential());
            return Err(self.refuse(user, method, "too_many_connections", detail).await);
        };
        let accepted = Event::LoginAccepted {
            peer: self.peer,
            login: shown(user),
            method,
            subject: identity.subject().to_owned(),
            groups: identity.groups().to_vec(),
            credential: identity.credential().to_owned(),
            valid_until: identity.valid_until(),
        };
        if let Err(error) = self.server.audit.record(&self.id, None, &accepted).await {
            tracing::error!(connection = %self.id, %error, "login refused: the audit trail cannot be written");
            return Err(Auth::reject());
        }
        self.tried = true;
        self.login.accept();
        self.device = device::Stage::Over;
        self.place.logged_in();
        self.server.greetings.known(self.peer.ip());
        tracing::info!(connection = %self.id, subject = identity.subject(), "logged in");
        let identity = Arc::new(identity);
        let watching = trust::Watch {
            server: Arc::clone(&self.server),
            id: self.id.clone(),
            identity: Arc::clone(&identity),
            login: self.login.clone(),
        };
        let trust = AbortOnDropHandle::new(tokio::spawn(watching.run()));
        let caller =
            Caller { connection: self.id.clone(), identity, source: self.peer.ip(), place: LoginName::parse(user) };
        Ok(Welcome { caller: Arc::new(caller), _person: person, _trust: trust })
    }

    async fn refuse(&mut self, user: &str, method: &'static str, code: &'static str, detail: String) -> Auth {
        self.user = user.to_owned();
        self.settle().await;
        self.tried = true;
        self.record(method, code, detail).await;
        Auth::reject()
    }

    /// Records what russh has refused by itself since the last time.
    async fn settle(&mut self) {
        for code in self.observed.take() {
            self.tried = true;
            self.record("certificate", code, String::new()).await;
        }
    }

    async fn record(&self, method: &'static str, code: &'static str, detail: String) {
        let refused = Event::LoginRefused { peer: self.peer, login: shown(&self.user), method, code, detail };
        tracing::debug!(connection = %self.id, peer = %self.peer, method, code, "login refused");
        if let Err(error) = self.server.audit.record(&self.id, None, &refused).await {
            tracing::error!(connection = %self.id, %error, "a refused login is missing from the audit trail");
        }
    }

    /// The connection has ended: records what is left to tell.
    pub async fn finish(mut self) {
        self.settle().await;
        self.observed.forget();
        if !self.login.is_accepted() {
            self.left_waiting().await;
        }
        if !self.tried && !self.user.is_empty() {
            self.record("none", "no_credential", String::new()).await;
        }
    }
}

/// A login name for the audit trail: bounded, and JSON escapes the rest.
fn shown(user: &str) -> String {
    user.chars().take(LOGIN_SHOWN_CHARS).collect()
}
