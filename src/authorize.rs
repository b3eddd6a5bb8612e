//! May they: one question for each channel, one answer, and the `Grant` that only a yes can make.
//!
//! Several backends sit behind `Authorizer`; the `Gate` around it adds the deadline, the audit event and *fail
//! closed*: an authorizer that fails, is late or cannot be recorded is a no. Denied, unavailable and broken are three
//! things, and stay three in the audit trail.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;

use crate::audit::{Audit, AuditError, ConnectionId, Event, SessionId};
use crate::auth::Identity;
use crate::cluster::Target;

pub mod policy;

/// What somebody wants to do in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// See that the place exists.
    List,
    Shell,
    Exec {
        command: String,
    },
    /// `sftp`, `scp`, `rsync`.
    Files {
        command: String,
    },
    /// A connection to `host:port`, dialled inside the pod's network namespace.
    Forward {
        host: String,
        port: u16,
    },
    /// A listener inside the pod.
    Listen {
        host: String,
        port: u16,
    },
    /// The client's agent, offered inside the container.
    Agent,
}

/// The question, as every backend gets it. Its JSON form is an interface: policies outside are written against it.
#[derive(Debug, Clone, Serialize)]
pub struct Query {
    pub user: QueryUser,
    /// `list`, `shell`, `exec`, `files`, `forward`, `listen` or `agent`.
    pub action: &'static str,
    pub target: QueryTarget,
    pub profile: QueryProfile,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<QueryDestination>,
    pub source: QuerySource,
    pub time: Timestamp,
}

#[derive(Debug, Clone, Serialize)]
pub struct QueryUser {
    pub subject: String,
    pub email: Option<String>,
    pub groups: Vec<String>,
    pub method: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub struct QueryTarget {
    pub namespace: String,
    pub namespace_labels: BTreeMap<String, String>,
    pub pod: String,
    pub pod_labels: BTreeMap<String, String>,
    /// `Kind/name` of the owner at the top of the chain.
    pub workload: Option<String>,
    pub container: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct QueryProfile {
    pub name: String,
    pub image: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct QueryDestination {
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone, Serialize)]
pub struct QuerySource {
    pub ip: IpAddr,
}

/// The answer.
#[derive(Debug, Clone)]
pub struct Decision {
    pub allow: bool,
    /// For the audit trail and `porthole check`: which rule decided, or why none did.
    pub reason: String,
    pub obligations: Obligations,
}

/// What a yes asks for in return.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obligations {
    /// The session ends after this time.
    pub max_duration: Option<Duration>,
}

/// A backend that could not answer; never a yes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// One source of decisions.
pub trait Authorizer: Send + Sync {
    fn decide<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Decision, Unavailable>>;
}

/// Proof that this identity may do this action on this target, and with which obligations.
#[derive(Debug, Clone)]
pub struct Grant {
    identity: Arc<Identity>,
    target: Arc<Target>,
    action: Action,
    profile: String,
    obligations: Obligations,
    granted_at: Timestamp,
}

impl Grant {
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn action(&self) -> &Action {
        &self.action
    }

    pub fn profile(&self) -> &str {
        &self.profile
    }

    pub fn obligations(&self) -> &Obligations {
        &self.obligations
    }
}
