//! Identity providers whose `id_token`s are believed, and how their claims name a person.
//!
//! No shared-secret algorithm can be written here: a token signed with one would prove only that somebody has read the
//! provider's public key.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

/// One OpenID Connect provider.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Issuer {
    /// The issuer, letter by letter as its discovery document and its tokens have it.
    pub url: String,
    /// A token must be for one of these.
    pub audiences: Vec<String>,
    /// The clients that a token may have been issued to (`azp`); empty means the audiences.
    pub authorized_parties: Vec<String>,
    pub algorithms: Vec<TokenAlgorithm>,
    /// How far the provider's clock may differ.
    #[serde(with = "duration")]
    pub leeway: Duration,
    /// From `iat` to `exp` at most; zero believes any.
    #[serde(with = "duration")]
    pub max_token_lifetime: Duration,
    /// End a session when the token that opened it ends.
    pub end_session_at_expiry: bool,
    /// Root certificates (PEM) beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Signing keys are asked for again when they are so old.
    #[serde(with = "duration")]
    pub jwks_refresh_interval: Duration,
    /// Between two requests for keys, however many tokens name a key that is not known.
    #[serde(with = "duration")]
    pub jwks_refresh_pause: Duration,
    /// For one request to the provider.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    pub claims: ClaimNames,
}

/// Where in a token a person's name and groups stand: a claim, or a path into nested ones.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ClaimNames {
    pub subject: String,
    /// Put before each subject, so that two providers cannot mean one person by accident.
    pub subject_prefix: String,
    pub name: String,
    pub email: String,
    /// An array of strings, or one string with spaces between the groups.
    pub groups: String,
    pub group_prefix: String,
}

/// Signature algorithms with a public key (RFC 7518 section 3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum TokenAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Default for Issuer {
    fn default() -> Issuer {
        Issuer {
            url: String::new(),
            audiences: Vec::new(),
            authorized_parties: Vec::new(),
            algorithms: vec![TokenAlgorithm::RS256, TokenAlgorithm::ES256, TokenAlgorithm::EdDsa],
            leeway: Duration::from_secs(60),
            max_token_lifetime: Duration::ZERO,
            end_session_at_expiry: false,
            ca_file: None,
            jwks_refresh_interval: Duration::from_secs(3600),
            jwks_refresh_pause: Duration::from_secs(30),
            request_timeout: Duration::from_secs(5),
            claims: ClaimNames::default(),
        }
    }
}

impl Default for ClaimNames {
    fn default() -> ClaimNames {
        ClaimNames {
            subject: "sub".to_owned(),
            subject_prefix: String::new(),
            name: "name".to_owned(),
            email: "email".to_owned(),
            groups: "groups".to_owned(),
            group_prefix: String::new(),
        }
    }
}

impl Issuer {
    /// What is wrong with it, in words that say what would be right.
    pub fn check(&self) -> Result<(), String> {
        super::url::check("url", &self.url, "issuer", "https://login.example.com")?;
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return Err("audiences names none, so tokens for anybody would do: name your client id".to_owned());
        }
        if self.algorithms.is_empty() {
            return Err("algorithms is empty, so no token would do: name at least one, as in [\"RS256\"]".to_owned());
        }
        if self.claims.subject.is_empty() {
            return Err("claims.subject is empty, so nobody would have a name: use \"sub\"".to_owned());
        }
        if self.request_timeout.is_zero() || self.jwks_refresh_interval.is_zero() {
            return Err("request-timeout and jwks-refresh-interval must be longer than nothing".to_owned());
        }
        Ok(())
    }
}
