//! The question, as every backend gets it. Its JSON form is an interface: policies outside are written against it.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::auth::Secret;

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
        access: FileAccess,
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

/// An action without its particulars: what a rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    List,
    Shell,
    Exec,
    Files,
    Forward,
    Listen,
    Agent,
}

/// What a file transfer may do to the pod's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileAccess {
    Read,
    /// `sftp` among them, which can do both.
    Write,
}

impl Action {
    pub fn kind(&self) -> ActionKind {
        match self {
            Action::List => ActionKind::List,
            Action::Shell => ActionKind::Shell,
            Action::Exec { .. } => ActionKind::Exec,
            Action::Files { .. } => ActionKind::Files,
            Action::Forward { .. } => ActionKind::Forward,
            Action::Listen { .. } => ActionKind::Listen,
            Action::Agent => ActionKind::Agent,
        }
    }

    /// `list`, `shell`, `exec`, `files`, `forward`, `listen` or `agent`.
    pub fn name(&self) -> &'static str {
        self.kind().as_str()
    }

    /// What would run; none where the action runs nothing in particular.
    pub fn command(&self) -> Option<&str> {
        match self {
            Action::Exec { command } | Action::Files { command, .. } => Some(command),
            _ => None,
        }
    }

    /// With `files`, what they may do.
    pub fn access(&self) -> Option<FileAccess> {
        match self {
            Action::Files { access, .. } => Some(*access),
            _ => None,
        }
    }

    /// `host:port`, with an IPv6 address in brackets.
    pub fn destination(&self) -> Option<String> {
        self.query_destination().map(|destination| destination.to_string())
    }

    pub(super) fn query_destination(&self) -> Option<QueryDestination> {
        match self {
            Action::Forward { host, port } | Action::Listen { host, port } => {
                // As the connection will be made: no policy may be passed by another spelling of an address.
                let host = host.parse::<IpAddr>().map_or_else(|_| host.clone(), |ip| ip.to_canonical().to_string());
                Some(QueryDestination { host, port: *port })
            }
            _ => None,
        }
    }
}

impl ActionKind {
    pub const ALL: [ActionKind; 7] = [
        ActionKind::List,
        ActionKind::Shell,
        ActionKind::Exec,
        ActionKind::Files,
        ActionKind::Forward,
        ActionKind::Listen,
        ActionKind::Agent,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            ActionKind::List => "list",
            ActionKind::Shell => "shell",
            ActionKind::Exec => "exec",
            ActionKind::Files => "files",
            ActionKind::Forward => "forward",
            ActionKind::Listen => "listen",
            ActionKind::Agent => "agent",
        }
    }

    /// The action of that name, exactly as `as_str` writes it.
    pub fn of(name: &str) -> Option<ActionKind> {
        ActionKind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl FileAccess {
    pub fn as_str(self) -> &'static str {
        match self {
            FileAccess::Read => "read",
            FileAccess::Write => "write",
        }
    }
}

impl std::str::FromStr for FileAccess {
    type Err = String;

    fn from_str(text: &str) -> Result<FileAccess, String> {
        let known = [FileAccess::Read, FileAccess::Write];
        let found = known.into_iter().find(|access| access.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is no access: use read or write"))
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who wants what, where, by which profile, from where and when.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Query {
    pub user: QueryUser,
    pub action: ActionKind,
    pub target: QueryTarget,
    pub profile: QueryProfile,
    /// With `exec` and `files`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// With `files`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<FileAccess>,
    /// With `forward` and `listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<QueryDestination>,
    pub source: QuerySource,
    pub time: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct QueryUser {
    pub subject: String,
    pub email: Option<String>,
    pub groups: Vec<String>,
    /// How the identity was proved.
    pub method: &'static str,
    /// The identity provider that vouches for the person; none where a CA does.
    pub issuer: Option<String>,
    /// The person's id_token, if they came with one. It goes to servers that are to have it, and into no document.
    #[serde(skip)]
    pub id_token: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct QueryTarget {
    pub namespace: String,
    pub namespace_labels: BTreeMap<String, String>,
    pub pod: String,
    pub pod_labels: BTreeMap<String, String>,
    /// The pod's own addresses, so that a rule on `localhost` also holds where a destination spells one of them.
    pub pod_ips: Vec<IpAddr>,
    /// `Kind/name` of the owner at the top of the chain.
    pub workload: Option<String>,
    pub container: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct QueryProfile {
    pub name: String,
    pub image: String,
}

/// A question by which an answer may be kept for a while: equal to the same one at another moment.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(super) struct Timeless(pub(super) Query);

impl PartialEq for Timeless {
    fn eq(&self, other: &Timeless) -> bool {
        let Query { user, action, target, profile, command, access, destination, source, time: _ } = &self.0;
        let it = &other.0;
        (user, action, target, profile) == (&it.user, &it.action, &it.target, &it.profile)
            && (command, access, destination, source) == (&it.command, &it.access, &it.destination, &it.source)
    }
}

impl Eq for Timeless {}

impl Hash for Timeless {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Query { user, action, target, profile, command, access, destination, source, time: _ } = &self.0;
        (user, action, target, profile, command, access, destination, source).hash(state);
    }
}

/// A destination as the client wrote it: no name is looked up. An address is in its shortest form, an IPv4-mapped one IPv4.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct QueryDestination {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for QueryDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct QuerySource {
    pub ip: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A deny on the pod's own ports was passed by writing its address as IPv4-mapped IPv6.
    #[test]
    fn an_address_has_one_spelling_in_every_question() {
        for (host, asked) in [("::ffff:10.1.2.3", "10.1.2.3:80"), ("0:0:0:0:0:0:0:1", "[::1]:80"), ("Web", "Web:80")] {
            let forward = Action::Forward { host: host.to_owned(), port: 80 };
            assert_eq!(forward.destination().as_deref(), Some(asked));
        }
    }
}
