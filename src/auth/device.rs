//! The device login (RFC 8628): a person without a credential approves a code in a browser, and is somebody here.
//!
//! A stranger can make Porthole ask the provider, so places are counted before it is asked: in all, and for each
//! address. One `Waiting` is one code for one connection, and polling for it ends when it is dropped, which is what a
//! connection's end does.
//!
//! The token that comes of it is believed like any other: by `Tokens::verify`, and for nothing that the provider says
//! beside it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use oauth2::{ClientSecret, Scope};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::auth::token::Tokens;
use crate::auth::{Identity, Method, Origin};
use crate::config;

mod exchange;
mod invitation;
mod places;
mod refusal;

pub use invitation::Invitation;
pub use refusal::DeviceRefusal;

use exchange::{Exchange, Weather};
use places::{Place, Places};

/// A client's secret is a line; what is longer is another file.
const SECRET_MAX_BYTES: usize = 4096;

/// The way to log in by a device code, with one provider.
pub struct Devices {
    tokens: Arc<Tokens>,
    /// The issuer's url.
    issuer: String,
    client_id: String,
    client_secret: Option<ClientSecret>,
    scopes: Vec<Scope>,
    deadline: Duration,
    lifetime: Duration,
    qr_code: bool,
    places: Arc<Places>,
}

/// One login that waits for its person.
pub struct Waiting {
    invitation: Invitation,
    /// Ends with this value.
    polling: AbortOnDropHandle<Result<Identity, DeviceRefusal>>,
    weather: Arc<Weather>,
    place: Place,
}

/// A device login that cannot be offered as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum DeviceSetupError {
    #[error("device.issuer: `{name}` is none of [issuers]")]
    NoIssuer { name: String },
    #[error("device.client-secret-file: cannot read {file}: {source}")]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("device.client-secret-file: {file} is empty, or longer than a secret is")]
    NoSecret { file: PathBuf },
}

impl Devices {
    /// None where no issuer is configured for it. Asks nobody yet.
    pub fn new(config: &config::Config, tokens: Arc<Tokens>) -> Result<Option<Devices>, DeviceSetupError> {
        let device = &config.device;
        let Some(name) = &device.issuer else { return Ok(None) };
        let issuer = config.issuers.get(name).ok_or_else(|| DeviceSetupError::NoIssuer { name: name.clone() })?;
        let client_secret = device.client_secret_file.as_ref().map(|file| {
            let text = std::fs::read_to_string(file)
                .map_err(|source| DeviceSetupError::Unreadable { file: file.clone(), source })?;
            match text.trim() {
                "" => Err(DeviceSetupError::NoSecret { file: file.clone() }),
                long if long.len() > SECRET_MAX_BYTES => Err(DeviceSetupError::NoSecret { file: file.clone() }),
                secret => Ok(ClientSecret::new(secret.to_owned())),
            }
        });
        Ok(Some(Devices {
            tokens,
            issuer: issuer.url.clone(),
            client_id: device.client_id.clone(),
            client_secret: client_secret.transpose()?,
            scopes: device.scopes.iter().cloned().map(Scope::new).collect(),
            deadline: device.deadline,
            lifetime: device.binding_lifetime,
            qr_code: device.qr_code,
            places: Arc::new(Places::new(device.max_pending, device.max_pending_per_address, device.deadline)),
        }))
    }

    /// Asks the provider for a code, if there is a place, and waits for the person from then on. The connection is to end
    /// when `displaced` is cancelled, since another has the place then.
    pub async fn begin(&self, peer: IpAddr, displaced: CancellationToken) -> Result<Waiting, DeviceRefusal> {
        let mut place = self.places.take(peer, displaced, Instant::now())?;
        let (provider, document) = self.tokens.provider(&self.issuer).await?;
        let exchange = Exchange::new(&self.client_id, self.client_secret.clone(), &provider, &document)?;
        let answer = exchange.begin(self.scopes.clone()).await?;
        place.has_code(Instant::now());
        let invitation = Invitation::read(&answer)?;
        let weather = Arc::<Weather>::default();
        let (tokens, issuer) = (Arc::clone(&self.tokens), self.issuer.clone());
        let (deadline, lifetime) = (self.deadline, self.lifetime);
        let told = Arc::clone(&weather);
        let polling = tokio::spawn(async move {
            let limit = deadline.min(answer.expires_in());
            let token = timeout(limit, exchange.poll(&answer, &told)).await;
            // Where the provider was away to the end, nobody knows whether the person has approved.
            let late = || told.away().map_or(DeviceRefusal::Expired, DeviceRefusal::Unavailable);
            let token = token.unwrap_or_else(|_| Err(late()))?;
            let identity = tokens.verify(token.expose()).await?;
            // A provider may believe several clients and lend each its name; the login is the configured one's.
            if identity.issuer() != Some(issuer.as_str()) {
                return Err(DeviceRefusal::OtherIssuer);
            }
            Ok(identity.approved(lifetime, Timestamp::now()))
        });
        Ok(Waiting { invitation, polling: AbortOnDropHandle::new(polling), weather, place })
    }

    /// How long a person may take.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Whether the link is to be shown as a picture, too.
    pub fn qr_code(&self) -> bool {
        self.qr_code
    }
}

impl Waiting {
    pub fn invitation(&self) -> &Invitation {
        &self.invitation
    }

    /// Waits so long for the person; none if they have not decided by then. Not to be called again after an answer.
    pub async fn decided(&mut self, patience: Duration) -> Option<Result<Identity, DeviceRefusal>> {
        let answer = timeout(patience, &mut self.polling).await.ok()?;
        self.place.decided();
        // It can only have panicked: nobody else ends it.
        Some(answer.unwrap_or(Err(DeviceRefusal::Aborted)))
    }

    /// Whether the provider has asked for more patience since the last call.
    pub fn was_slowed(&self) -> bool {
        self.weather.was_slowed()
    }
}

impl Identity {
    /// By a device login, of which the token was only the proof: it lasts as long as a key that it binds, or, where it
    /// binds none by configuration, as its connection. Where the token's end would be that of its sessions, this end is.
    fn approved(self, lifetime: Duration, now: Timestamp) -> Identity {
        let issuer = self.issuer().unwrap_or_default();
        let until = now.checked_add(lifetime).ok().filter(|_| !lifetime.is_zero());
        let session_until = until.filter(|_| self.session_until.is_some());
        Identity {
            credential: format!("device login at {issuer}, {now}"),
            method: Method::Device,
            valid_until: until,
            session_until,
            origin: Origin { session_until, ..Origin::default() },
            ..self
        }
    }
}
