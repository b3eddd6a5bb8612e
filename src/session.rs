//! A session: one channel of a client, joined to one process in a pod.
//!
//! The way is always the same: the login name is resolved, the `Gate` is asked, the process is started, bytes are
//! pumped, and the end is told. Whatever happens is in the audit trail before it takes effect. No transport is named
//! here: what a client is to a session stands in `Client` and `Outlet`.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::{Audit, ConnectionId, Event, SessionId};
use crate::auth::Identity;
use crate::auth::issuer::Issuer;
use crate::auth::standing::Standing;
use crate::authorize::{Action, Asking, Changes, Gate, Grant};
use crate::cluster::{COMMAND_MAX_BYTES, Cluster, Target, WindowSize};
use crate::config;
use crate::recording::Recorder;
use crate::target::{LoginName, TargetName, TargetNameError};

mod dial;
mod exit;
mod inbound;
mod introduce;
mod listing;
mod plain;
mod pump;
mod recorded;
mod request;
mod run;
mod start;
mod tenure;
mod transfer;
mod view;
mod word;

pub use dial::Forward;
pub use exit::{Exit, FAILURE_STATUS, Failure};
pub use inbound::Inbound;
pub use listing::age;
pub use plain::plain;
pub use request::{Request, Terminal, What};
pub use run::shutting_down;
pub use view::{Seen, View};

/// The longest host that a forward may name: a domain name has at most 253 bytes (RFC 1035 section 2.3.4).
const HOST_MAX_BYTES: usize = 255;

/// What every session needs, and what all of them together leave to be finished.
pub struct Sessions {
    cluster: Cluster,
    gate: Gate,
    audit: Arc<Audit>,
    standing: Standing,
    /// None where nothing can be recorded; the gate knows.
    recorder: Option<Recorder>,
    /// None where no certificates are issued.
    issuer: Option<Arc<Issuer>>,
    settings: config::Session,
    /// How old an answer of the `Gate` may become while something rests on it.
    recheck_interval: Duration,
    recheck_grace: Duration,
    profiles: BTreeMap<String, config::Profile>,
    public_address: Option<config::PublicAddress>,
    /// Containers that are being ended after their client has left.
    endings: TaskTracker,
    /// Cancelled when the time to finish is over.
    closing: CancellationToken,
}

/// Who came, by which connection, asking for which place.
#[derive(Debug)]
pub struct Caller {
    pub connection: ConnectionId,
    pub identity: Arc<Identity>,
    pub source: IpAddr,
    pub place: Result<LoginName, TargetNameError>,
}

/// The client's side of a channel.
pub struct Client<O> {
    pub input: Inbound,
    pub output: O,
    /// The terminal's size as it changes.
    pub sizes: watch::Receiver<WindowSize>,
    /// Signals by their SSH names (RFC 4254 section 6.10).
    pub signals: mpsc::Receiver<String>,
    /// Cancelled when the client has closed the channel or is gone.
    pub gone: CancellationToken,
    pub hold: Hold,
}

impl Caller {
    /// The same caller, who now asks for this place.
    pub fn at(&self, place: TargetName) -> Caller {
        Caller {
            connection: self.connection.clone(),
            identity: Arc::clone(&self.identity),
            source: self.source,
            place: Ok(LoginName::Place(place)),
        }
    }
}

/// Kept while anything of a session is left, its container included: what a transport counts sessions by.
pub type Hold = Arc<dyn Send + Sync>;

/// Where a process's output goes. A transport waits in these calls for its client's window.
pub trait Outlet: Send + Sync {
    fn stdout(&self, bytes: Bytes) -> impl Future<Output = Result<(), ClientGone>> + Send;
    fn stderr(&self, bytes: Bytes) -> impl Future<Output = Result<(), ClientGone>> + Send;
}

/// The client takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub struct ClientGone;

impl Sessions {
    pub fn new(
        cluster: Cluster,
        gate: Gate,
        audit: Arc<Audit>,
        standing: Standing,
        recorder: Option<Recorder>,
        issuer: Option<Arc<Issuer>>,
        config: &config::Config,
    ) -> Sessions {
        Sessions {
            cluster,
            gate,
            audit,
            standing,
            recorder,
            issuer,
            settings: config.session.clone(),
            recheck_interval: config.authorize.recheck_interval,
            recheck_grace: config.authorize.recheck_grace,
            profiles: config.profiles.clone(),
            public_address: config.ssh.public_address.clone(),
            endings: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
    }

    /// Whether a client may set this environment variable.
    pub fn accepts_env(&self, name: &str) -> bool {
        self.settings.accept_env.iter().any(|accepted| match accepted.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == accepted,
        })
    }

    /// Ends every session that still runs, with a line that says so.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Waits until no container of a session that has ended is left running, and stops watching the cluster.
    pub async fn finish(&self) {
        self.endings.close();
        self.endings.wait().await;
        self.cluster.close().await;
    }

    /// From a login name to a grant: the part of the way that every channel shares.
    async fn admit<'a>(
        &'a self,
        caller: &'a Caller,
        session: &SessionId,
        action: Action,
    ) -> Result<Admitted<'a>, Failure> {
        let identity = &caller.identity;
        // From before the question, so that no change falls between it and the first look.
        let changes = self.gate.changes();
        let place = self.count(caller).and_then(|()| self.permit(caller, &action)).and_then(|()| self.place(caller));
        let (name, profile_name, profile, target) = match place {
            Ok(place) => place,
            Err(failure) => {
                let refused = Event::Decision {
                    subject: identity.subject().to_owned(),
                    action: action.name(),
                    target: caller.place.as_ref().map_or_else(|_| String::new(), ToString::to_string),
                    command: action.command().map(str::to_owned),
                    destination: action.destination(),
                    profile: String::new(),
                    allow: false,
                    code: failure.code,
                    reason: failure.operator.clone(),
                    obligations: None,
                };
                self.record(&caller.connection, session, &refused).await?;
                return Err(failure);
            }
        };
        tracing::debug!(%session, %name, %target, "resolved");
        let asking = Asking {
            connection: &caller.connection,
            session,
            identity,
            target: &target,
            action,
            profile: profile_name,
            image: &profile.image,
            source: caller.source,
        };
        let grant = self.gate.ask(asking).await.map_err(|refusal| Failure {
            code: refusal.code(),
            person: refusal.person(),
            operator: refusal.to_string(),
        })?;
        Ok(Admitted { grant, changes, target, profile_name, profile })
    }

    /// Whether the caller's credential lets this begin, and it is small enough to be a question at all.
    fn permit(&self, caller: &Caller, action: &Action) -> Result<(), Failure> {
        bounded(action)?;
        if !matches!(action, Action::Forward { .. }) {
            return Ok(());
        }
        if !caller.identity.rights().port_forwarding {
            return Err(Failure::new("not_permitted", "your certificate does not permit port forwarding"));
        }
        if caller.identity.force_command().is_some() {
            return Err(Failure::new("not_permitted", "your certificate permits one command only"));
        }
        Ok(())
    }

    /// The place that a login name means, and the profile to enter it with.
    fn place<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> Result<(&'a TargetName, &'a str, &'a config::Profile, Arc<Target>), Failure> {
        let name = match &caller.place {
            Ok(LoginName::Place(name)) => name,
            Ok(LoginName::Lobby) => {
                let words: Vec<_> = self.words().map(|(word, _)| word).collect();
                let what = format!(
                    "this login name is no place: log in as namespace.pod@host, as in ssh payments.web@host, or say one of \
                     {} (with a terminal and no word, there is a menu)",
                    words.join(", ")
                );
                return Err(Failure::new("no_place", what));
            }
            Err(error) => return Err(Failure::new("bad_login_name", error.to_string())),
        };
        let (profile_name, profile) = self.profile(name)?;
        let target = self.cluster.resolve(name, caller.identity.subject()).map_err(|error| Failure {
            code: error.code(),
            person: error.person(),
            operator: error.to_string(),
        })?;
        Ok((name, profile_name, profile, Arc::new(target)))
    }

    /// The debug profile of a login name without `~profile`, and its image.
    fn default_profile(&self) -> (&str, &str) {
        let name = self.settings.default_profile.as_str();
        (name, self.profiles.get(name).map_or("", |profile| profile.image.as_str()))
    }

    /// The names of the debug profiles, the default one first.
    pub fn profile_names(&self) -> Vec<&str> {
        let default = self.settings.default_profile.as_str();
        let others = self.profiles.keys().map(String::as_str).filter(|name| *name != default);
        std::iter::once(default).chain(others).collect()
    }

    fn profile(&self, name: &TargetName) -> Result<(&str, &config::Profile), Failure> {
        let asked = name.profile().unwrap_or(&self.settings.default_profile);
        self.profiles.get_key_value(asked).map(|(name, profile)| (name.as_str(), profile)).ok_or_else(|| {
            let known: Vec<_> = self.profiles.keys().map(String::as_str).collect();
            Failure::new("unknown_profile", format!("there is no profile ~{asked}: use one of {}", known.join(", ")))
        })
    }

    /// Whether the caller's login still counts for something new.
    fn count(&self, caller: &Caller) -> Result<(), Failure> {
        self.standing.check(&caller.identity)?;
        self.refuse_expired(caller)
    }

    /// Returns when the caller's login counts no more.
    async fn discounted(&self, caller: &Caller) -> Failure {
        self.standing.withdrawn(&caller.identity).await.into()
    }

    async fn record(&self, connection: &ConnectionId, session: &SessionId, event: &Event) -> Result<(), Failure> {
        self.audit.record(connection, Some(session), event).await.map_err(|error| Failure {
            code: "audit_unavailable",
            person: "the audit trail cannot be written, so nothing may happen now: try again later".to_owned(),
            operator: error.to_string(),
        })
    }

    /// Records what has happened already, where a failure can no longer prevent it.
    async fn record_end(&self, connection: &ConnectionId, session: &SessionId, event: &Event) {
        if let Err(failure) = self.record(connection, session, event).await {
            tracing::error!(%session, %failure, ?event, "an event is missing from the audit trail");
        }
    }
}

/// A question has a bound before anybody is asked it.
fn bounded(action: &Action) -> Result<(), Failure> {
    if let Some(command) = action.command()
        && command.len() > COMMAND_MAX_BYTES
    {
        let what = format!("the command is longer than {COMMAND_MAX_BYTES} bytes: put it into a file, and run that");
        return Err(Failure::new("bad_command", what));
    }
    match action {
        Action::Forward { host, .. } | Action::Listen { host, .. } if host.len() > HOST_MAX_BYTES => {
            Err(Failure::new("bad_destination", format!("the host is longer than {HOST_MAX_BYTES} bytes")))
        }
        _ => Ok(()),
    }
}

/// A caller that the `Gate` has let in.
struct Admitted<'a> {
    grant: Grant,
    /// When it must be asked about again.
    changes: Changes,
    target: Arc<Target>,
    profile_name: &'a str,
    profile: &'a config::Profile,
}
