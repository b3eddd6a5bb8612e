//! `id_token`s: what makes one a person here, wherever it came in.
//!
//! One place for the device login, the gateway's header, the request for a certificate, and what stands in one (a PK
//! token). Whoever brought the token, and whatever they say of it, it is verified here: the issuer that it names is one
//! that is configured, its algorithm is one of that issuer's and fits the key, the signature is good, and it is for us,
//! now.
//!
//! Of `jsonwebtoken` only the signature's arithmetic is used. Its own checks of claims take a malformed date for none
//! unless told otherwise, and its clock is the machine's; ours take `now`.
//!
//! Invariant: an `Identity` leaves `verify` only if every check passed. The token itself is in no error, log or event.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::auth::{Basis, Identity, Method, Origin, Rights, Secret};
use crate::config::{self, TokenAlgorithm};

mod claims;
mod discovery;
mod jwks;
mod refusal;

pub use refusal::TokenRefusal;

pub(super) use discovery::{Document, Provider, Unavailable, bounded, cause};

use claims::Expectations;
use jwks::Keys;

/// Some providers put hundreds of groups into a token; what is longer fits into no HTTP header either.
pub const TOKEN_MAX_BYTES: usize = 16 * 1024;

/// Every issuer whose tokens are believed. One for the whole server, shared.
pub struct Tokens {
    by_url: BTreeMap<String, Issuer>,
}

/// One issuer.
struct Issuer {
    url: String,
    algorithms: Vec<TokenAlgorithm>,
    expectations: Expectations,
    keys: Arc<Keys>,
    end_session_at_expiry: bool,
}

/// An issuer that cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum TokenSetupError {
    #[error("cannot read {file}: {source}")]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{file}: there is no certificate in it: write the provider's root in PEM form there")]
    NoCertificate { file: PathBuf },
    #[error("cannot prepare requests to the issuer {issuer}: {problem}")]
    Client { issuer: String, problem: String },
}

/// A token taken apart, nothing of it believed.
struct Unverified<'a> {
    header: Header,
    claims: Map<String, Value>,
    message: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl Tokens {
    /// Prepares the issuers, and reads their root certificates; asks nobody yet.
    pub fn new(issuers: &BTreeMap<String, config::Issuer>) -> Result<Tokens, TokenSetupError> {
        let by_url = issuers.values().map(|config| Ok((config.url.clone(), Issuer::new(config)?)));
        Ok(Tokens { by_url: by_url.collect::<Result<_, TokenSetupError>>()? })
    }

    /// Whether no issuer is configured, so that no token could be believed.
    pub fn is_empty(&self) -> bool {
        self.by_url.is_empty()
    }

    /// Checks everything that makes a token a person, now.
    pub async fn verify(&self, token: &str) -> Result<Identity, TokenRefusal> {
        self.verify_at(token, Timestamp::now()).await
    }

    /// As `verify`, at another time.
    pub async fn verify_at(&self, token: &str, now: Timestamp) -> Result<Identity, TokenRefusal> {
        let unverified = Unverified::read(token)?;
        let identity = self.issuer(&unverified)?.verify(&unverified, now).await?;
        Ok(Identity { id_token: Some(Secret::new(token)), ..identity })
    }

    /// As `verify_at`, for a token that must carry this nonce, by which its issuer vouches for something beside it.
    pub(super) async fn verify_committed(
        &self,
        token: &str,
        nonce: &str,
        now: Timestamp,
    ) -> Result<Identity, TokenRefusal> {
        let unverified = Unverified::read(token)?;
        let identity = self.issuer(&unverified)?.verify(&unverified, now).await?;
        // From here on the claims are known to be the issuer's.
        let said = unverified.claims.get("nonce").and_then(Value::as_str);
        if said == Some(nonce) { Ok(identity) } else { Err(TokenRefusal::Nonce) }
    }

    /// The tokens that may stand in certificates, of the issuers that are configured for it: for audiences of their own,
    /// since a certificate is public, and of an age that counts in place of their end. None if there is no such issuer.
    pub fn in_certificates(&self, config: &config::Config) -> Option<Tokens> {
        let named = config.certificate.pk_token_issuers.iter().filter_map(|name| config.issuers.get(name));
        let issuers = named.filter_map(|issuer| Some((issuer, self.by_url.get(&issuer.url)?)));
        let by_url: BTreeMap<_, _> = issuers
            .map(|(named, issuer)| {
                let issuer = Issuer {
                    url: issuer.url.clone(),
                    algorithms: issuer.algorithms.clone(),
                    expectations: Expectations::in_certificates(named, &config.certificate),
                    keys: Arc::clone(&issuer.keys),
                    end_session_at_expiry: false,
                };
                (issuer.url.clone(), issuer)
            })
            .collect();
        (!by_url.is_empty()).then_some(Tokens { by_url })
    }

    /// The issuer that a token names.
    fn issuer(&self, token: &Unverified<'_>) -> Result<&Issuer, TokenRefusal> {
        let named = token.claims.get("iss").and_then(Value::as_str);
        let url = named.ok_or(TokenRefusal::Malformed { problem: "it names no issuer" })?;
        self.by_url.get(url).ok_or_else(|| TokenRefusal::Issuer { issuer: url.to_owned() })
    }

    /// The provider of one issuer and its document, for a device login.
    pub(super) async fn provider(&self, url: &str) -> Result<(Provider, Document), Unavailable> {
        let issuer = self.by_url.get(url).ok_or_else(|| Unavailable("it is not configured".to_owned()))?;
        Ok((issuer.keys.provider().clone(), issuer.keys.document().await?))
    }
}

impl Issuer {
    fn new(config: &config::Issuer) -> Result<Issuer, TokenSetupError> {
        let provider = Provider::new(config)?;
        let keys = Keys::new(&config.url, provider, config.jwks_refresh_interval, config.jwks_refresh_pause);
        Ok(Issuer {
            url: config.url.clone(),
            algorithms: config.algorithms.clone(),
            expectations: Expectations::new(config),
            keys: Arc::new(keys),
            end_session_at_expiry: config.end_session_at_expiry,
        })
    }

    async fn verify(&self, token: &Unverified<'_>, now: Timestamp) -> Result<Identity, TokenRefusal> {
        let algorithm = self.algorithm(&token.header.alg)?;
        let key = self.keys.find(token.header.kid.as_deref(), algorithm).await?;
        let good = jsonwebtoken::crypto::verify(token.signature, token.message.as_bytes(), &key, algorithm);
        // A signature of the wrong length is an error of the library's, and no other kind of no.
        if !good.unwrap_or(false) {
            return Err(TokenRefusal::Signature { issuer: self.url.clone() });
        }
        let person = self.expectations.read(&token.claims, now)?;
        Ok(Identity {
            origin: Origin {
                session_until: Some(person.until).filter(|_| self.end_session_at_expiry),
                ..Origin::default()
            },
            credential: format!("id_token of {}, until {}", self.url, person.until),
            subject: person.subject,
            name: person.name,
            email: person.email,
            groups: person.groups,
            method: Method::Token,
            valid_until: Some(person.until),
            session_until: Some(person.until).filter(|_| self.end_session_at_expiry),
            rights: Rights::ALL,
            force_command: None,
            issuer: Some(self.url.clone()),
            id_token: None,
            basis: Basis::Token,
        })
    }

    /// The algorithm of that name, if this issuer's tokens may have it. `none` and those with a shared secret are not
    /// even names here.
    fn algorithm(&self, name: &str) -> Result<Algorithm, TokenRefusal> {
        let (known, algorithm) = match name {
            "RS256" => (TokenAlgorithm::RS256, Algorithm::RS256),
            "RS384" => (TokenAlgorithm::RS384, Algorithm::RS384),
            "RS512" => (TokenAlgorithm::RS512, Algorithm::RS512),
            "PS256" => (TokenAlgorithm::PS256, Algorithm::PS256),
            "PS384" => (TokenAlgorithm::PS384, Algorithm::PS384),
            "PS512" => (TokenAlgorithm::PS512, Algorithm::PS512),
            "ES256" => (TokenAlgorithm::ES256, Algorithm::ES256),
            "ES384" => (TokenAlgorithm::ES384, Algorithm::ES384),
            "EdDSA" => (TokenAlgorithm::EdDsa, Algorithm::EdDSA),
            _ => return Err(refused(name, "it is none with a public key")),
        };
        if self.algorithms.contains(&known) { Ok(algorithm) } else { Err(refused(name, "it is not configured")) }
    }
}

impl<'a> Unverified<'a> {
    /// JWS Compact Serialization (RFC 7515 section 7.1).
    fn read(token: &'a str) -> Result<Unverified<'a>, TokenRefusal> {
        let malformed = |problem| TokenRefusal::Malformed { problem };
        if token.len() > TOKEN_MAX_BYTES {
            return Err(TokenRefusal::TooLarge { bytes: token.len(), max: TOKEN_MAX_BYTES });
        }
        let (message, signature) = token.rsplit_once('.').ok_or(malformed("it has no dots"))?;
        let (header, claims) = message.split_once('.').ok_or(malformed("it has one dot"))?;
        let header: Header = part(header).ok_or(malformed("its header cannot be read"))?;
        // RFC 7515 section 4.1.11: extensions that must be understood, of which none is.
        if header.crit.is_some() {
            return Err(malformed("it has extensions that are not understood"));
        }
        let claims = part(claims).ok_or(malformed("its claims cannot be read"))?;
        Ok(Unverified { header, claims, message, signature })
    }
}

fn part<T: DeserializeOwned>(encoded: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

fn refused(algorithm: &str, problem: &str) -> TokenRefusal {
    TokenRefusal::Algorithm { algorithm: algorithm.to_owned(), problem: problem.to_owned() }
}
