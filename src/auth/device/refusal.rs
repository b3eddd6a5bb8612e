//! Why a device login came to nothing.
//!
//! `code` is an interface: operators' queries stand on it. `Display` is for the operator, `person` is the line that the
//! person reads where they typed `ssh`.

use crate::auth::token::{TokenRefusal, Unavailable};

/// A device login that ended without an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceRefusal {
    #[error("{max} device logins wait already")]
    TooMany { max: usize },
    #[error("{max} device logins wait already from this address")]
    TooManyHere { max: usize },
    #[error("{max} device logins were begun and left lately at this address")]
    TooManyLeft { max: usize },
    #[error("the provider cannot be asked: {0}")]
    Unavailable(Unavailable),
    #[error("the provider has no device login: its discovery document names no {0}")]
    Unsupported(&'static str),
    #[error("the provider's answer cannot be used: {0}")]
    Broken(String),
    #[error("the provider refuses: {0}")]
    Refused(String),
    #[error("nobody approved the code in time")]
    Expired,
    #[error("the person, or the provider for them, has denied the login")]
    Denied,
    #[error("the provider gave no id_token: is the scope openid allowed for the client?")]
    NoToken,
    #[error("the token is of another issuer than the one that was asked")]
    OtherIssuer,
    #[error("the token is refused: {0}")]
    Token(#[from] TokenRefusal),
    #[error("the client answered a question that was not asked")]
    Unasked,
    #[error("the client changed its login name while the login waited")]
    OtherPlace,
    #[error("the client asked for a second code on one connection")]
    Again,
    #[error("the login was aborted")]
    Aborted,
}

impl DeviceRefusal {
    /// The stable word for the audit trail.
    pub fn code(&self) -> &'static str {
        match self {
            DeviceRefusal::TooMany { .. } => "device_too_many",
            DeviceRefusal::TooManyHere { .. } => "device_too_many_here",
            DeviceRefusal::TooManyLeft { .. } => "device_too_many_left",
            DeviceRefusal::Unavailable(_) => "device_provider_unavailable",
            DeviceRefusal::Unsupported(_) => "device_unsupported",
            DeviceRefusal::Broken(_) => "device_provider_broken",
            DeviceRefusal::Refused(_) => "device_client_refused",
            DeviceRefusal::Expired => "device_expired",
            DeviceRefusal::Denied => "device_denied",
            DeviceRefusal::NoToken => "device_no_token",
            DeviceRefusal::OtherIssuer => "device_other_issuer",
            DeviceRefusal::Token(refusal) => refusal.code(),
            DeviceRefusal::Unasked => "device_unasked_answer",
            DeviceRefusal::OtherPlace => "device_other_place",
            DeviceRefusal::Again => "device_second_code",
            DeviceRefusal::Aborted => "device_aborted",
        }
    }

    /// What happened and what to do, for the person.
    pub fn person(&self) -> &'static str {
        match self {
            DeviceRefusal::TooMany { .. } => "too many people are logging in just now: try again in a minute",
            DeviceRefusal::TooManyHere { .. } => {
                "too many logins wait at your address: finish one of them, or try again in a few minutes"
            }
            DeviceRefusal::TooManyLeft { .. } => {
                "too many logins were begun at your address and not finished: try again in a few minutes"
            }
            DeviceRefusal::Unavailable(_) => "your identity provider does not answer: try again in a moment",
            DeviceRefusal::Unsupported(_)
            | DeviceRefusal::Broken(_)
            | DeviceRefusal::Refused(_)
            | DeviceRefusal::OtherIssuer
            | DeviceRefusal::NoToken => {
                "logging in does not work with your identity provider: tell porthole's operators"
            }
            DeviceRefusal::Expired => "nobody approved the login in time: try again, and open the link at once",
            DeviceRefusal::Denied => "the login was denied",
            DeviceRefusal::Token(refusal) => refusal.person(),
            DeviceRefusal::Unasked | DeviceRefusal::OtherPlace | DeviceRefusal::Again => {
                "this login cannot go on: connect again"
            }
            DeviceRefusal::Aborted => "porthole failed while you logged in: try again",
        }
    }
}

impl From<Unavailable> for DeviceRefusal {
    fn from(unavailable: Unavailable) -> DeviceRefusal {
        DeviceRefusal::Unavailable(unavailable)
    }
}
