//! Why a token does not make its bearer a person here.
//!
//! `code` is an interface: operators' queries stand on it. `Display` is for the operator, `person` for whoever brought
//! the token. Neither repeats the token, nor any part of it that would let somebody use it.

use jiff::Timestamp;

use crate::auth::name::shown;

/// A token, refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    #[error("the token has {bytes} bytes, and {max} are the most")]
    TooLarge { bytes: usize, max: usize },
    #[error("the token is malformed: {problem}")]
    Malformed { problem: &'static str },
    #[error("the token's issuer {} is not one of those that are configured", shown(issuer))]
    Issuer { issuer: String },
    #[error("the token's algorithm {} is not accepted: {problem}", shown(algorithm))]
    Algorithm { algorithm: String, problem: String },
    #[error("the token's key {} is none of the issuer {issuer}'s", key_shown(key))]
    UnknownKey { issuer: String, key: Option<String> },
    #[error("the token's key {} was the issuer {issuer}'s, which has withdrawn it", shown(key))]
    RetiredKey { issuer: String, key: String },
    #[error("the token's signature is not the issuer {issuer}'s: it was changed, or made up")]
    Signature { issuer: String },
    #[error("the token is for {}, which is none of the configured audiences", list(audiences))]
    Audience { audiences: Vec<String> },
    #[error("the token was issued to {}, which is none of the authorized parties", key_shown(party))]
    AuthorizedParty { party: Option<String> },
    #[error("the token's nonce is not the one that it must carry")]
    Nonce,
    #[error("the token ended at {at}")]
    Expired { at: Timestamp },
    #[error("the token begins at {at}: is one of the two clocks wrong?")]
    NotYetValid { at: Timestamp },
    #[error("the token is valid for {seconds} seconds, and {max_seconds} are the most")]
    LifetimeTooLong { seconds: u64, max_seconds: u64 },
    #[error("the token's claim {claim} is of no use: {problem}")]
    Claims { claim: String, problem: &'static str },
    #[error("the issuer {issuer} cannot be asked for its keys: {problem}")]
    IssuerUnavailable { issuer: String, problem: String },
}

impl TokenRefusal {
    /// The stable word for the audit trail.
    pub fn code(&self) -> &'static str {
        match self {
            TokenRefusal::TooLarge { .. } => "token_too_large",
            TokenRefusal::Malformed { .. } => "token_malformed",
            TokenRefusal::Issuer { .. } => "token_issuer",
            TokenRefusal::Algorithm { .. } => "token_algorithm",
            TokenRefusal::UnknownKey { .. } => "token_unknown_key",
            TokenRefusal::RetiredKey { .. } => "token_retired_key",
            TokenRefusal::Signature { .. } => "token_signature",
            TokenRefusal::Audience { .. } => "token_audience",
            TokenRefusal::AuthorizedParty { .. } => "token_authorized_party",
            TokenRefusal::Nonce => "token_nonce",
            TokenRefusal::Expired { .. } => "token_expired",
            TokenRefusal::NotYetValid { .. } => "token_not_yet_valid",
            TokenRefusal::LifetimeTooLong { .. } => "token_lifetime_too_long",
            TokenRefusal::Claims { .. } => "token_claims",
            TokenRefusal::IssuerUnavailable { .. } => "issuer_unavailable",
        }
    }

    /// What happened and what to do, for the person.
    pub fn person(&self) -> &'static str {
        match self {
            TokenRefusal::Expired { .. } => "your login is over: log in again",
            TokenRefusal::RetiredKey { .. } => "your identity provider has changed its keys: log in again",
            TokenRefusal::NotYetValid { .. } => "your login begins in the future: try again in a moment",
            TokenRefusal::IssuerUnavailable { .. } => "your identity provider does not answer: try again in a moment",
            TokenRefusal::Audience { .. } | TokenRefusal::AuthorizedParty { .. } | TokenRefusal::Issuer { .. } => {
                "this login is meant for another program than porthole: log in for porthole"
            }
            TokenRefusal::Claims { .. } => "your login does not say who you are: tell porthole's operators",
            TokenRefusal::LifetimeTooLong { .. } => "your login is valid for too long: tell porthole's operators",
            TokenRefusal::TooLarge { .. } => "your login is too large: tell porthole's operators",
            TokenRefusal::Malformed { .. }
            | TokenRefusal::Algorithm { .. }
            | TokenRefusal::UnknownKey { .. }
            | TokenRefusal::Nonce
            | TokenRefusal::Signature { .. } => "this login is not your identity provider's: log in again",
        }
    }

    pub(super) fn claims(claim: impl Into<String>, problem: &'static str) -> TokenRefusal {
        TokenRefusal::Claims { claim: claim.into(), problem }
    }
}

fn key_shown(key: &Option<String>) -> String {
    key.as_deref().map_or_else(|| "(none named)".to_owned(), shown)
}

/// A few names of others, shown.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let mut text = names.iter().take(SHOWN).map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        text.push_str("nobody");
    } else if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}
