//! SSH user certificates of others: whose are believed, and whom they name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Issuer, duration};

/// Which SSH user certificates are believed, and whom they name.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Certificate {
    /// Public keys of trusted CAs, in `authorized_keys` form, several a file; re-read when they change.
    pub trusted_ca_files: Vec<PathBuf>,
    pub subject: CertificateSubject,
    /// The principal that names the person starts with this, where `subject` is `principal`; it is taken off.
    pub subject_prefix: String,
    /// Principals with this prefix are groups; it is taken off.
    pub group_prefix: String,
    /// A certificate must carry one of these principals; empty asks for none in particular.
    pub accepted_principals: Vec<String>,
    /// OpenSSH key revocation lists (`ssh-keygen -k`); re-read when they change.
    pub revocation_lists: Vec<PathBuf>,
    /// A text file with lines `serial: N`, `serial: N-M` or `id: KEY-ID`; re-read when it changes.
    pub revoked_file: Option<PathBuf>,
    /// How far the clocks of the CA and of Porthole may differ.
    #[serde(with = "duration")]
    pub clock_skew: Duration,
    /// The longest lifetime of a certificate that is believed; zero believes any.
    #[serde(with = "duration")]
    pub max_lifetime: Duration,
    /// End a session when the certificate that opened it does.
    pub end_session_at_expiry: bool,
    /// Names of `issuers` whose PK tokens vouch for the keys of certificates that no CA has signed.
    pub pk_token_issuers: Vec<String>,
    /// A PK token must be for one of these, and no other token may.
    pub pk_token_audiences: Vec<String>,
    /// So long after its `iat` a PK token counts, in place of its `exp`.
    #[serde(with = "duration")]
    pub pk_token_max_age: Duration,
}

/// What in a certificate names the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateSubject {
    KeyId,
    Principal,
}

impl Default for Certificate {
    fn default() -> Certificate {
        Certificate {
            trusted_ca_files: Vec::new(),
            subject: CertificateSubject::KeyId,
            subject_prefix: "user:".to_owned(),
            group_prefix: "group:".to_owned(),
            accepted_principals: Vec::new(),
            revocation_lists: Vec::new(),
            revoked_file: None,
            clock_skew: Duration::from_secs(30),
            max_lifetime: Duration::ZERO,
            end_session_at_expiry: false,
            pk_token_issuers: Vec::new(),
            pk_token_audiences: Vec::new(),
            pk_token_max_age: Duration::from_secs(24 * 3600),
        }
    }
}

impl Certificate {
    /// What is wrong with the issuers of PK tokens, and what would be right.
    pub(super) fn check_pk_tokens(&self, issuers: &BTreeMap<String, Issuer>) -> Result<(), (&'static str, String)> {
        let audiences = &self.pk_token_audiences;
        if !self.pk_token_issuers.is_empty() && (audiences.is_empty() || audiences.iter().any(String::is_empty)) {
            let problem = "names none, so PK tokens for anybody would do: name opkssh's client id";
            return Err(("certificate.pk-token-audiences", problem.into()));
        }
        for name in &self.pk_token_issuers {
            let Some(issuer) = issuers.get(name) else {
                let problem = format!("`{name}` is no issuer: write a table [issuers.{name}]");
                return Err(("certificate.pk-token-issuers", problem));
            };
            if let Some(audience) = audiences.iter().find(|audience| issuer.audiences.contains(audience)) {
                let problem = format!(
                    "`{audience}` is one of issuers.{name}.audiences too, and whoever sees a certificate could log in \
                     with the token in it: register a client of its own for opkssh"
                );
                return Err(("certificate.pk-token-audiences", problem));
            }
        }
        Ok(())
    }
}
