//! Why a certificate does not make its holder a person here.
//!
//! `code` is an interface: operators' queries stand on it. The text is for the operator too, never for the client,
//! who learns only that the login failed.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;

use super::marks::Marks;
use super::pk_token::PkTokenRefusal;
use crate::auth::name::shown;
use crate::auth::token::TokenRefusal;

/// A certificate, refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    reason: Reason,
    credential: String,
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("its CA is not trusted here")]
    WrongCa,
    #[error("{weakness}")]
    Algorithm { weakness: String },
    #[error("its signature is not its CA's: it was changed after it was signed, or made up")]
    BadSignature,
    #[error("it is a host certificate")]
    IsHost,
    #[error("{by}")]
    Revoked { by: String },
    #[error("it ended at {until}")]
    Expired { until: Time },
    #[error("it begins at {from}")]
    NotYetValid { from: Time },
    #[error("its validity ends at {until}, not after it begins at {from}")]
    NeverValid { from: Time, until: Time },
    #[error("it is valid for {lifetime}, and {max_seconds} seconds are the most")]
    LifetimeTooLong { lifetime: Lifetime, max_seconds: u64 },
    #[error("it has the critical option {}, which is not supported", shown(name))]
    UnknownCriticalOption { name: String },
    #[error("it has the critical option verify-required, and the server cannot see whether a PIN was asked for")]
    VerifyRequired,
    #[error("its force-command is empty, too long, or has a NUL in it")]
    ForceCommand,
    #[error("its source-address {list} is no list of networks")]
    SourceAddressMalformed { list: String },
    #[error("its source-address does not hold {peer}")]
    SourceAddress { peer: IpAddr },
    #[error("it has no principals")]
    NoPrincipals,
    #[error("it has {count} principals, too many")]
    TooManyPrincipals { count: usize },
    #[error("it has none of the accepted principals {accepted:?}")]
    WrongPrincipal { accepted: Vec<String> },
    #[error("it names nobody: {problem}")]
    Subject { problem: &'static str },
    #[error("it names a group wrongly: {problem}")]
    Group { problem: &'static str },
    #[error(transparent)]
    PkToken(#[from] PkTokenRefusal),
    /// What the PK token holds is refused as any token would be.
    #[error("of its PK token, {0}")]
    Token(#[from] TokenRefusal),
}

/// A certificate's bound, in seconds since 1970; not every `u64` is a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub u64);

/// How long a certificate is valid, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    Seconds(u64),
    Forever,
}

impl Refusal {
    pub(super) fn new(reason: Reason, marks: &Marks) -> Refusal {
        Refusal { reason, credential: marks.credential() }
    }

    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The stable word for the audit trail.
    pub fn code(&self) -> &'static str {
        self.reason.code()
    }

    /// The certificate by its public marks. Nothing of it is proved.
    pub fn credential(&self) -> &str {
        &self.credential
    }
}

impl Reason {
    pub fn code(&self) -> &'static str {
        match self {
            Reason::WrongCa => "certificate_wrong_ca",
            Reason::Algorithm { .. } => "certificate_algorithm",
            Reason::BadSignature => "certificate_bad_signature",
            Reason::IsHost => "certificate_is_host",
            Reason::Revoked { .. } => "certificate_revoked",
            Reason::Expired { .. } => "certificate_expired",
            Reason::NotYetValid { .. } => "certificate_not_yet_valid",
            Reason::NeverValid { .. } => "certificate_never_valid",
            Reason::LifetimeTooLong { .. } => "certificate_lifetime_too_long",
            Reason::UnknownCriticalOption { .. } => "certificate_unknown_critical_option",
            Reason::VerifyRequired => "certificate_verify_required",
            Reason::ForceCommand => "certificate_force_command",
            Reason::SourceAddressMalformed { .. } => "certificate_source_address_malformed",
            Reason::SourceAddress { .. } => "certificate_source_address",
            Reason::NoPrincipals => "certificate_no_principals",
            Reason::TooManyPrincipals { .. } => "certificate_too_many_principals",
            Reason::WrongPrincipal { .. } => "certificate_wrong_principal",
            Reason::Subject { .. } => "certificate_no_subject",
            Reason::Group { .. } => "certificate_bad_group",
            Reason::PkToken(refusal) => refusal.code(),
            Reason::Token(refusal) => refusal.code(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.credential)
    }
}

impl std::error::Error for Refusal {}

impl Time {
    /// As a point in time; none where it is too far off to be one, which includes OpenSSH's "forever".
    pub(super) fn timestamp(self) -> Option<Timestamp> {
        Timestamp::from_second(i64::try_from(self.0).ok()?).ok()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.timestamp() {
            Some(timestamp) => write!(f, "{timestamp}"),
            None => write!(f, "second {}", self.0),
        }
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lifetime::Seconds(seconds) => write!(f, "{seconds} seconds"),
            Lifetime::Forever => f.write_str("ever"),
        }
    }
}
