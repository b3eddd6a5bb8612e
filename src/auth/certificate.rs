//! SSH user certificates: what makes one a person here, and until when. A CA's word does, or (`self_signed`) an identity
//! provider's.
//!
//! russh verifies that the client holds the certificate's key, that the CA which the certificate *names* signed it, and its
//! dates by a clock without allowance; what it refuses for one of these never comes here. Everything that makes a
//! certificate worth something is here: whether that CA is trusted, whether it revoked the certificate, what the certificate
//! restricts, and whom it names. The signature and the dates are checked here again, so that `verify` is the whole proof of
//! what the certificate says, and no caller has to know what came before it.
//!
//! Invariant: an `Identity` leaves `verify` only if every check passed, against the files as they are at that moment.
//! The order of checks is the order of usefulness to the operator: first whether the certificate can be believed at all, then
//! whether it still counts, then what it says.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{pending, select_all};
use jiff::Timestamp;
use russh::keys::{Certificate, HashAlg};
use tokio::sync::watch;

use crate::auth::issuer::{self, Keyring};
use crate::auth::token::Tokens;
use crate::auth::{Basis, Identity, Method, Origin};
use crate::config;
use crate::watched::Watched;

mod algorithm;
mod authorities;
mod file;
pub mod krl;
mod label;
mod marks;
mod options;
mod person;
pub mod pk_token;
mod refusal;
mod revocation;
mod self_signed;
#[cfg(test)]
mod tests;

pub use authorities::Authorities;
pub use label::Label;
pub use marks::Marks;
pub use refusal::{Lifetime, Reason, Refusal, Time};
pub use revocation::RevocationList;

pub(in crate::auth) use algorithm::weakness_of_key;

use options::Restrictions;
use person::Naming;

/// Decides which certificates are believed. One for the whole server, shared.
pub struct Verifier {
    /// One watch for each file, so that a broken one does not keep the others from being re-read.
    authorities: Vec<Watched<Authorities>>,
    revocation_lists: Vec<Watched<RevocationList>>,
    naming: Naming,
    /// Porthole's own CA: its certificates are read as they are issued, by principals, whatever the others' are read by.
    own: Option<(Arc<Watched<Keyring>>, Naming)>,
    /// Who vouches for the keys of certificates that no CA has signed; nobody, unless it is configured.
    pk_tokens: Option<Tokens>,
    clock_skew: Duration,
    /// Zero believes any.
    max_lifetime: Duration,
    end_session_at_expiry: bool,
}

/// Beside the certificate: where it was presented from, and when.
#[derive(Debug, Clone, Copy)]
pub struct Presented {
    pub peer: IpAddr,
    pub now: Timestamp,
}

/// Tells when the trusted CAs or a revocation list have changed.
pub struct Changes(Vec<watch::Receiver<u64>>);

/// A file on which the trust in certificates rests, and which cannot be used. The text says what would be right.
#[derive(Debug, thiserror::Error)]
pub enum CertificateSetupError {
    #[error("cannot read {file}: {source}")]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{file}: {problem}")]
    Unusable { file: PathBuf, problem: String },
    #[error("cannot watch for changes: {0}")]
    Unwatched(#[from] notify::Error),
    #[error("{} name no CA, so nobody could log in: write the CA's public key there", listed(files))]
    NoAuthority { files: Vec<PathBuf> },
}

impl Verifier {
    /// Loads every file that the configuration names, and keeps them up to date from then on; believes what `own` signs
    /// as well. Needs a tokio runtime.
    ///
    /// Errors: a file that cannot be read or understood, or no trusted CA in any of them. Later, a file that breaks is
    /// logged, and what it said before stays in force.
    pub fn open(
        config: &config::Certificate,
        own: Option<Arc<Watched<Keyring>>>,
    ) -> Result<Verifier, CertificateSetupError> {
        let authorities: Vec<_> = (config.trusted_ca_files.iter())
            .map(|path| open("trusted CAs", path, Authorities::load))
            .collect::<Result<_, _>>()?;
        // Where no file is named, people log in otherwise; one that is named and empty is a mistake.
        if own.is_none() && !authorities.is_empty() && authorities.iter().all(|file| file.current().is_empty()) {
            return Err(CertificateSetupError::NoAuthority { files: config.trusted_ca_files.clone() });
        }
        let revocation_lists = (config.revocation_lists.iter())
            .map(|path| open("revocation list", path, RevocationList::load_krl))
            .chain(config.revoked_file.iter().map(|path| open("revoked file", path, RevocationList::load_plain)))
            .collect::<Result<_, _>>()?;
        let naming = Naming {
            subject: config.subject,
            subject_prefix: config.subject_prefix.clone(),
            group_prefix: config.group_prefix.clone(),
            accepted_principals: config.accepted_principals.clone(),
        };
        let own_naming = Naming {
            subject: config::CertificateSubject::Principal,
            accepted_principals: Vec::new(),
            ..naming.clone()
        };
        Ok(Verifier {
            authorities,
            revocation_lists,
            naming,
            own: own.map(|keyring| (keyring, own_naming)),
            pk_tokens: None,
            clock_skew: config.clock_skew,
            max_lifetime: config.max_lifetime,
            end_session_at_expiry: config.end_session_at_expiry,
        })
    }

    /// Believes certificates that a PK token of these issuers vouches for, as well.
    pub fn believing(self, pk_tokens: Option<Tokens>) -> Verifier {
        Verifier { pk_tokens, ..self }
    }

    /// Checks everything that makes a certificate a person, by a CA's word or by that of an identity provider, which may
    /// have to be asked for its keys.
    ///
    /// That the client holds the certificate's key is for the caller to know, as in `verify`.
    pub async fn admit(&self, certificate: &Certificate, presented: Presented) -> Result<Identity, Refusal> {
        let marks = Arc::new(Marks::of(certificate));
        let examined = match self.pk_token(certificate, &marks) {
            Some(token) => self.examine_self_signed(certificate, &marks, presented, token).await,
            None => self.examine(certificate, &marks, presented),
        };
        examined.map_err(|reason| Refusal::new(reason, &marks))
    }

    /// Checks everything that makes a certificate of a CA's a person.
    ///
    /// That the client holds the certificate's key is for the caller to know: russh calls `auth_openssh_certificate`
    /// only after that.
    pub fn verify(&self, certificate: &Certificate, presented: Presented) -> Result<Identity, Refusal> {
        let marks = Arc::new(Marks::of(certificate));
        self.examine(certificate, &marks, presented).map_err(|reason| Refusal::new(reason, &marks))
    }

    /// Whether a certificate that was believed would still be: its CA is trusted, where one vouched for it, and no list
    /// revokes it. Its dates are not looked at (`Identity::valid_until` has them), nor is an identity that no certificate
    /// proved.
    pub fn still_believes(&self, identity: &Identity) -> Result<(), Refusal> {
        let (marks, trusted) = match &identity.basis {
            Basis::Certificate(marks) => (marks, self.trusted(marks)),
            Basis::PkToken(marks) => (marks, Ok(())),
            Basis::Binding(_) | Basis::Token => return Ok(()),
        };
        trusted.and_then(|()| self.not_revoked(marks)).map_err(|reason| Refusal::new(reason, marks))
    }

    /// Wakes after each change of a file that `still_believes` depends on.
    pub fn changes(&self) -> Changes {
        let authorities = self.authorities.iter().map(Watched::changes);
        let own = self.own.iter().map(|(keyring, _)| keyring.changes());
        Changes(authorities.chain(self.revocation_lists.iter().map(Watched::changes)).chain(own).collect())
    }

    fn examine(&self, certificate: &Certificate, marks: &Arc<Marks>, presented: Presented) -> Result<Identity, Reason> {
        self.trusted(marks)?;
        let (from, until) = Verifier::sound(certificate)?;
        self.not_revoked(marks)?;
        self.in_its_dates(from, until, presented.now)?;
        self.short_enough(from, until)?;
        let restrictions = Restrictions::of(certificate)?;
        restrictions.admit(presented.peer)?;
        let (naming, own) = match self.own(marks) {
            Some(naming) => (naming, true),
            None => (&self.naming, false),
        };
        let person = naming.read(certificate)?;
        // Nobody else's word counts for these: another CA may sign any extension.
        let said = |name: &str| certificate.extensions().get(name).filter(|_| own);
        let moment = |name: &str| said(name).and_then(|seconds| Timestamp::from_second(seconds.parse().ok()?).ok());
        let session_until = until.timestamp().filter(|_| self.end_session_at_expiry);
        Ok(Identity {
            subject: person.subject,
            name: None,
            email: said(issuer::EMAIL).cloned(),
            groups: person.groups,
            method: Method::Certificate,
            credential: marks.credential(),
            valid_until: until.timestamp(),
            session_until: [session_until, moment(issuer::SESSION_UNTIL)].into_iter().flatten().min(),
            rights: options::rights(certificate),
            force_command: restrictions.force_command,
            issuer: None,
            id_token: None,
            basis: Basis::Certificate(Arc::clone(marks)),
            origin: Origin {
                login_until: moment(issuer::LOGIN_UNTIL),
                session_until: moment(issuer::SESSION_UNTIL),
                login_key: said(issuer::LOGIN_KEY).cloned(),
                source_address: certificate.critical_options().get("source-address").cloned(),
            },
        })
    }

    /// What must be so whoever vouches for it; its dates.
    fn sound(certificate: &Certificate) -> Result<(Time, Time), Reason> {
        let ca = certificate.signature_key();
        let weakness = algorithm::weakness_of_signature(ca, certificate.signature())
            .or_else(|| algorithm::weakness_of_key(ca))
            .or_else(|| algorithm::weakness_of_key(certificate.public_key()));
        if let Some(weakness) = weakness {
            return Err(Reason::Algorithm { weakness });
        }
        let (from, until) = (Time(certificate.valid_after()), Time(certificate.valid_before()));
        if from.0 >= until.0 {
            return Err(Reason::NeverValid { from, until });
        }
        // At its own first second the dates hold, so what this can fail for is the signature.
        if certificate.validate_at(from.0, [&ca.fingerprint(HashAlg::Sha256)]).is_err() {
            return Err(Reason::BadSignature);
        }
        if certificate.cert_type().is_user() { Ok((from, until)) } else { Err(Reason::IsHost) }
    }

    fn trusted(&self, marks: &Marks) -> Result<(), Reason> {
        let trusted = self.authorities.iter().any(|file| file.current().contains(&marks.ca));
        if trusted || self.own(marks).is_some() { Ok(()) } else { Err(Reason::WrongCa) }
    }

    /// How a certificate of Porthole's own CA is read; none if it is another's.
    fn own(&self, marks: &Marks) -> Option<&Naming> {
        let (keyring, naming) = self.own.as_ref()?;
        keyring.current().authorities().contains(&marks.ca).then_some(naming)
    }

    fn not_revoked(&self, marks: &Marks) -> Result<(), Reason> {
        let revoked = self.revocation_lists.iter().find_map(|list| list.current().revokes(marks));
        revoked.map_or(Ok(()), |by| Err(Reason::Revoked { by }))
    }

    /// PROTOCOL.certkeys: `valid after <= current time < valid before`, widened by the allowance at both ends.
    fn in_its_dates(&self, from: Time, until: Time, now: Timestamp) -> Result<(), Reason> {
        let nanoseconds = |time: Time| i128::from(time.0).saturating_mul(1_000_000_000);
        let skew = i128::try_from(self.clock_skew.as_nanos()).unwrap_or(i128::MAX);
        let now = now.as_nanosecond();
        if now < nanoseconds(from).saturating_sub(skew) {
            return Err(Reason::NotYetValid { from });
        }
        let forever = until.0 == u64::MAX;
        if !forever && now >= nanoseconds(until).saturating_add(skew) {
            return Err(Reason::Expired { until });
        }
        Ok(())
    }

    fn short_enough(&self, from: Time, until: Time) -> Result<(), Reason> {
        if self.max_lifetime.is_zero() {
            return Ok(());
        }
        let forever = until.0 == u64::MAX;
        let seconds = until.0.saturating_sub(from.0);
        if forever || Duration::from_secs(seconds) > self.max_lifetime {
            let lifetime = if forever { Lifetime::Forever } else { Lifetime::Seconds(seconds) };
            return Err(Reason::LifetimeTooLong { lifetime, max_seconds: self.max_lifetime.as_secs() });
        }
        Ok(())
    }
}

impl Changes {
    /// Returns at the next change since the last call; never, once the `Verifier` is gone. Cancel safe.
    pub async fn changed(&mut self) {
        loop {
            if self.0.is_empty() {
                return pending().await;
            }
            let (changed, index, _) = select_all(self.0.iter_mut().map(|file| Box::pin(file.changed()))).await;
            match changed {
                Ok(()) => return,
                Err(_) => drop(self.0.swap_remove(index)),
            }
        }
    }
}

impl CertificateSetupError {
    fn unusable(path: &Path, problem: impl std::fmt::Display) -> CertificateSetupError {
        CertificateSetupError::Unusable { file: path.to_owned(), problem: problem.to_string() }
    }
}

fn open<T: Send + Sync + 'static>(
    what: &'static str,
    path: &Path,
    load: fn(&Path) -> Result<T, CertificateSetupError>,
) -> Result<Watched<T>, CertificateSetupError> {
    // Loaded once before it is watched: "no such file" is clearer than what the watch says of a missing folder.
    load(path)?;
    let (watched, loaded) = (path.to_owned(), path.to_owned());
    Watched::open(what, &[watched], move || load(&loaded))
}

fn listed(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}
