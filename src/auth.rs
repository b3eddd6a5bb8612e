//! Who somebody is: the identity behind a connection, proved, and for how long.
//!
//! An `Identity` has private fields and is made only by this module's rooms, so a function that asks for one asks
//! for proof. The login name never enters it.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

pub mod binding;
pub mod certificate;
pub mod device;
pub mod issuer;
mod name;
mod secret;
pub mod standing;
pub mod token;

pub use secret::Secret;

/// A person, proved.
#[derive(Debug, Clone)]
pub struct Identity {
    subject: String,
    name: Option<String>,
    email: Option<String>,
    groups: Vec<String>,
    method: Method,
    credential: String,
    valid_until: Option<Timestamp>,
    session_until: Option<Timestamp>,
    rights: Rights,
    force_command: Option<String>,
    /// Who vouches for the person by a token; none for a certificate.
    issuer: Option<String>,
    /// The token itself, for servers that decide by it; none where there is none, or no more.
    id_token: Option<Secret>,
    basis: Basis,
    origin: Origin,
}

/// What an identity rests on, and is held against when trust changes.
#[derive(Debug, Clone)]
enum Basis {
    Certificate(Arc<certificate::Marks>),
    /// A certificate that no CA vouches for.
    PkToken(Arc<certificate::Marks>),
    Binding(Arc<binding::Binding>),
    /// Nothing that could be taken back.
    Token,
}

/// What a credential tells of the login behind it: nothing that is issued on its strength may go further.
#[derive(Debug, Clone, Default)]
struct Origin {
    /// The end of the login that it was issued for, where Porthole itself issued it.
    login_until: Option<Timestamp>,
    /// The key of the login, where that is bound and the binding can be taken back: what rests on it goes with it.
    login_key: Option<String>,
    /// When what the login opens must end, whoever's certificate opens it.
    session_until: Option<Timestamp>,
    /// A list as in a certificate's `source-address`.
    source_address: Option<String>,
}

/// How an identity was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Certificate,
    /// An `id_token` that came with the connection.
    Token,
    /// A device login that the person has just approved.
    Device,
    /// A key that proved itself beside a device login before.
    BoundKey,
}

/// What the credential itself allows, before any authorizer is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    pub pty: bool,
    pub port_forwarding: bool,
    pub agent_forwarding: bool,
}

impl Rights {
    /// What a credential without restrictions allows.
    pub const ALL: Rights = Rights { pty: true, port_forwarding: true, agent_forwarding: true };
}

impl Identity {
    /// The stable name of the person, as policies and the audit trail use it.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What the person is called, for people to read.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub fn email(&self) -> Option<&str> {
        self.email.as_deref()
    }

    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// The identity provider that vouches for the person; none where a CA does.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The id_token that proved the person, if one did.
    pub fn id_token(&self) -> Option<&Secret> {
        self.id_token.as_ref()
    }

    pub fn method(&self) -> Method {
        self.method
    }

    /// The credential by its public marks (for a certificate: key id, serial, CA), for the audit trail.
    pub fn credential(&self) -> &str {
        &self.credential
    }

    /// When the credential ends; none if it does not.
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }

    /// When the login ends that this credential comes from: the credential itself may be a shorter one of several.
    pub fn login_until(&self) -> Option<Timestamp> {
        self.origin.login_until.or(self.valid_until)
    }

    /// The fingerprint of the bound key that the login was with, where taking that back ends what comes of it.
    pub fn login_key(&self) -> Option<&str> {
        self.origin.login_key.as_deref()
    }

    /// When what comes of the login must end, as its issuer's configuration says; none if it may go on.
    pub fn login_session_until(&self) -> Option<Timestamp> {
        self.origin.session_until
    }

    /// The addresses from which the credential may be used, as in a certificate's `source-address`; none if from any.
    pub fn source_address(&self) -> Option<&str> {
        self.origin.source_address.as_deref()
    }

    /// When what this credential has opened must end, which its configuration says; none if it may go on.
    pub fn session_until(&self) -> Option<Timestamp> {
        self.session_until
    }

    /// After this moment nothing begins on this credential, whatever has begun; none if there is no such moment. A person
    /// who was asked who they are is asked again: a connection that is kept open makes no login longer.
    pub fn begins_until(&self) -> Option<Timestamp> {
        match self.method {
            Method::Device | Method::BoundKey => self.valid_until,
            Method::Certificate | Method::Token => self.session_until,
        }
    }

    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// The one command that this credential may run, whatever the client asks for.
    pub fn force_command(&self) -> Option<&str> {
        self.force_command.as_deref()
    }
}

#[cfg(test)]
impl Identity {
    /// A person for tests of what comes after the login, with every right and without an end.
    pub(crate) fn for_tests(subject: &str, groups: &[&str]) -> Identity {
        Identity {
            subject: subject.to_owned(),
            name: None,
            email: None,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            method: Method::Certificate,
            credential: format!("a test's certificate for {subject}"),
            valid_until: None,
            session_until: None,
            rights: Rights::ALL,
            force_command: None,
            issuer: None,
            id_token: None,
            basis: Basis::Token,
            origin: Origin::default(),
        }
    }
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Certificate => "certificate",
            Method::Token => "token",
            Method::Device => "device",
            Method::BoundKey => "bound-key",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
