//! Certificates from Porthole: a login, whatever proved it, becomes an SSH user certificate for a while.
//!
//! A certificate says nothing that the login did not: the same person, the same groups, no right more, no address more, and
//! no minute longer. Whoever renews with an issued certificate therefore stays within the login that the first one came
//! from, whose end travels in the certificate (`login-until@porthole`); after it, they log in anew.
//!
//! Invariants: a certificate leaves `issue` only after the audit trail holds it, and only if this same server, reading
//! it as it reads any other, finds the same person in it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::RngExt as _;
use russh::keys::{Certificate, HashAlg, PublicKey};

use crate::audit::{Audit, ConnectionId, Event, SessionId};
use crate::auth::Identity;
use crate::auth::certificate::{CertificateSetupError, Presented, Verifier};
use crate::config;
use crate::watched::Watched;

mod draft;
mod keyring;
mod public_key;
mod refusal;
mod terms;
#[cfg(test)]
mod tests;

pub use keyring::Keyring;
pub use public_key::{PUBLIC_KEY_MAX_BYTES, PublicKeyError, parse as parse_public_key};
pub use refusal::{IssueError, Kind};

use draft::Draft;
use terms::Terms;

/// In a certificate of Porthole's own: when the login ends that it comes from, in seconds since 1970.
pub(super) const LOGIN_UNTIL: &str = "login-until@porthole";
/// In a certificate of Porthole's own: the fingerprint of the bound key that the login was with. Whoever takes that back
/// takes this certificate back.
pub(super) const LOGIN_KEY: &str = "login-key@porthole";
/// In a certificate of Porthole's own: when the sessions that it opens must end, in seconds since 1970.
pub(super) const SESSION_UNTIL: &str = "session-until@porthole";
/// In a certificate of Porthole's own: the person's email address.
pub(super) const EMAIL: &str = "email@porthole";

/// A certificate that would end sooner is not worth a login.
const SHORTEST: Duration = Duration::from_secs(60);

/// Issues certificates. One for the whole server, shared.
pub struct Issuer {
    keyring: Arc<Watched<Keyring>>,
    terms: Terms,
    verifier: Arc<Verifier>,
    audit: Arc<Audit>,
}

/// Who wants a certificate for which key.
#[derive(Debug)]
pub struct Wish<'a> {
    pub identity: &'a Identity,
    /// What the client sent, read by `parse_public_key`.
    pub key: Result<PublicKey, PublicKeyError>,
    pub source: IpAddr,
    pub connection: &'a ConnectionId,
    /// Goes into the certificate's key id.
    pub session: &'a SessionId,
}

/// A certificate that is in the audit trail.
#[derive(Debug)]
pub struct Issued {
    /// As in a `-cert.pub` file, with its newline.
    pub line: String,
    pub valid_until: Timestamp,
}

/// Opens the CA's keys and keeps them up to date from then on; none where the configuration names none. Needs a tokio
/// runtime.
pub fn open_keyring(
    config: &config::CertificateAuthority,
) -> Result<Option<Arc<Watched<Keyring>>>, CertificateSetupError> {
    if !config.is_on() {
        return Ok(None);
    }
    let load = {
        let (files, agent) = (config.keys.clone(), config.agent_socket.clone());
        move || Keyring::load(&files, agent.as_deref())
    };
    // Loaded once before it is watched: "no such file" is clearer than what the watch says of a missing folder.
    load()?;
    Watched::open("certificate authority's keys", &config.keys, load).map(Arc::new).map(Some)
}

impl Issuer {
    /// `verifier` must believe what `keyring` signs.
    pub fn new(
        config: &config::CertificateAuthority,
        reading: &config::Certificate,
        keyring: Arc<Watched<Keyring>>,
        verifier: Arc<Verifier>,
        audit: Arc<Audit>,
    ) -> Issuer {
        Issuer { keyring, terms: Terms::new(config, reading), verifier, audit }
    }

    /// Signs a certificate for the person and the key, and records it; a refusal is recorded too.
    pub async fn issue(&self, wish: Wish<'_>) -> Result<Issued, IssueError> {
        let issued = self.consider(&wish).await;
        if let Err(error) = &issued {
            let refused = Event::CertificateRefused {
                peer: wish.source,
                subject: wish.identity.subject().to_owned(),
                credential: wish.identity.credential().to_owned(),
                code: error.code(),
                detail: error.to_string(),
            };
            if let Err(error) = self.audit.record(wish.connection, Some(wish.session), &refused).await {
                tracing::error!(session = %wish.session, %error, "an event is missing from the audit trail");
            }
        }
        issued
    }

    async fn consider(&self, wish: &Wish<'_>) -> Result<Issued, IssueError> {
        let key = wish.key.as_ref().map_err(Clone::clone)?;
        let now = Timestamp::now();
        let certificate = self.sign(wish, key, now).await?;
        let (valid_from, valid_until) = (date(certificate.valid_after()), date(certificate.valid_before()));
        self.read_back(wish, &certificate, now)?;
        let line = certificate.to_openssh().map_err(|error| IssueError::Signing { detail: error.to_string() })?;
        let issued = Event::CertificateIssued {
            peer: wish.source,
            subject: wish.identity.subject().to_owned(),
            credential: wish.identity.credential().to_owned(),
            serial: certificate.serial(),
            key_id: certificate.key_id().to_owned(),
            principals: certificate.valid_principals().to_vec(),
            valid_from,
            valid_until,
            source_address: certificate.critical_options().get("source-address").cloned(),
            key: certificate.public_key().fingerprint(HashAlg::Sha256).to_string(),
            ca: certificate.signature_key().fingerprint(HashAlg::Sha256).to_string(),
        };
        self.audit
            .record(wish.connection, Some(wish.session), &issued)
            .await
            .map_err(|error| IssueError::Audit { detail: error.to_string() })?;
        Ok(Issued { line: line + "\n", valid_until })
    }

    async fn sign(&self, wish: &Wish<'_>, key: &PublicKey, now: Timestamp) -> Result<Certificate, IssueError> {
        let terms = self.terms.of(wish.identity, wish.source)?;
        let until = [wish.identity.login_until()]
            .into_iter()
            .flatten()
            .chain(now.checked_add(terms.lifetime).ok())
            .min()
            .unwrap_or(now);
        if until.duration_since(now) < jiff::SignedDuration::try_from(SHORTEST).unwrap_or_default() {
            return Err(IssueError::LoginOver { until });
        }
        let from = now.checked_sub(config::CERTIFICATE_BACKDATE).unwrap_or(now);
        let keyring = self.keyring.current();
        let draft = Draft {
            key: key.key_data().clone(),
            // A CA that numbers its certificates must not use 0 (PROTOCOL.certkeys).
            serial: rand::rng().random_range(1..=u64::MAX),
            key_id: format!("{} session {}", wish.identity.subject(), wish.session),
            principals: terms.principals,
            from: seconds(from),
            until: seconds(until),
            critical_options: terms.critical_options,
            extensions: terms.extensions,
            comment: key.comment().as_str_lossy().to_owned(),
        };
        keyring.sign(draft).await
    }

    /// Reads the certificate as it will be read when somebody logs in with it.
    fn read_back(&self, wish: &Wish<'_>, certificate: &Certificate, now: Timestamp) -> Result<(), IssueError> {
        let unreadable = |problem: String| IssueError::Unnameable { problem };
        let read = self
            .verifier
            .verify(certificate, Presented { peer: wish.source, now })
            .map_err(|refusal| unreadable(refusal.to_string()))?;
        let (mut groups, identity) = (wish.identity.groups().to_vec(), wish.identity);
        groups.sort_unstable();
        groups.dedup();
        if read.subject() != identity.subject() || read.groups() != groups || read.email() != identity.email() {
            return Err(unreadable("it would name somebody else, or other groups".to_owned()));
        }
        Ok(())
    }
}

/// Certificates count whole seconds; what is before 1970 is no date of theirs.
fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or(0)
}

/// A date of a certificate's, which is ours and so is one.
fn date(seconds: u64) -> Timestamp {
    i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::MAX)
}

impl CertificateSetupError {
    fn of_key(file: &std::path::Path, problem: impl Into<String>) -> CertificateSetupError {
        CertificateSetupError::Unusable { file: PathBuf::from(file), problem: problem.into() }
    }
}
