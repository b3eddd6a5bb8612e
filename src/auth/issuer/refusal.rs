//! Why somebody gets no certificate.

use jiff::Timestamp;

use super::PublicKeyError;

/// A certificate that is not issued. The text is for the operator, `person` for the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    #[error("the key is not certified: {0}")]
    Key(#[from] PublicKeyError),
    #[error("no rule of certificate-authority.rules names a group of this person's")]
    NoRule,
    #[error("the login's own certificate is for one command")]
    OneCommand,
    /// Of a certificate's login, or of any other: a key's, a token's.
    #[error("the login that this comes from ends at {until}")]
    LoginOver { until: Timestamp },
    #[error("the certificate would not be believed: {problem}")]
    Unnameable { problem: String },
    #[error("cannot sign: {detail}")]
    Signing { detail: String },
    #[error("{detail}")]
    Audit { detail: String },
}

/// Whose fault it is: a transport's own codes follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was sent is wrong.
    Malformed,
    /// This person may not.
    Denied,
    /// Porthole cannot.
    Unavailable,
}

impl IssueError {
    /// The stable word for the audit trail.
    pub fn code(&self) -> &'static str {
        match self {
            IssueError::Key(PublicKeyError::Nothing) => "no_key",
            IssueError::Key(PublicKeyError::TooLong) => "key_too_long",
            IssueError::Key(PublicKeyError::Private) => "private_key",
            IssueError::Key(PublicKeyError::Certificate) => "key_is_certificate",
            IssueError::Key(PublicKeyError::ManyLines) => "many_keys",
            IssueError::Key(PublicKeyError::Malformed) => "key_malformed",
            IssueError::Key(PublicKeyError::Weak { .. }) => "key_weak",
            IssueError::NoRule => "no_rule",
            IssueError::OneCommand => "one_command",
            IssueError::LoginOver { .. } => "login_over",
            IssueError::Unnameable { .. } => "unnameable",
            IssueError::Signing { .. } => "signing_failed",
            IssueError::Audit { .. } => "audit_unavailable",
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            IssueError::Key(_) => Kind::Malformed,
            IssueError::NoRule
            | IssueError::OneCommand
            | IssueError::LoginOver { .. }
            | IssueError::Unnameable { .. } => Kind::Denied,
            IssueError::Signing { .. } | IssueError::Audit { .. } => Kind::Unavailable,
        }
    }

    /// What happened and what to do, for the person.
    pub fn person(&self) -> String {
        match self {
            IssueError::Key(error) => error.to_string(),
            IssueError::NoRule => "you may not have a certificate: ask whoever runs this porthole".to_owned(),
            IssueError::OneCommand => "your certificate permits one command only, and no new certificate".to_owned(),
            IssueError::LoginOver { .. } => {
                "your login is about to end, and a certificate would end with it: log in anew in a minute, or, if you came with \
                 a certificate, at once without it"
                    .to_owned()
            }
            IssueError::Unnameable { .. } => {
                "a certificate cannot name you as you are known here: tell whoever runs this porthole".to_owned()
            }
            IssueError::Signing { .. } => "certificates cannot be signed now: try again later".to_owned(),
            IssueError::Audit { .. } => {
                "the audit trail cannot be written, so nothing may happen now: try again later".to_owned()
            }
        }
    }
}
