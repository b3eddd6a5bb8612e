//! What can go wrong on the way into a pod.
//!
//! Each failure has a stable code, a text for the operator (`Display`), and a line for the person that says what
//! happened and what to do.

use std::time::Duration;

use kube::core::Status;

/// What a person reads whether the place does not exist or is closed to them.
pub use crate::authorize::NOT_OPEN;

/// Of a message of Kubernetes, as much as goes into the line for the person.
const MESSAGE_MAX_CHARS: usize = 240;

/// The cluster could not be reached, or did not let us watch what we need.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct ConnectError {
    code: &'static str,
    detail: String,
}

/// There is no such place.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("no pod, workload or service {name} in namespace {namespace}")]
    NotFound { namespace: String, name: String },
    /// The pod has been told of, and its namespace not yet, or no more.
    #[error("nothing is known of namespace {namespace}, so no rule on its labels can be asked for pod {pod}")]
    NamespaceUnknown { namespace: String, pod: String },
}

/// The process could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct StartError {
    code: &'static str,
    detail: String,
    person: String,
    container: Option<String>,
}

/// The connection to a port could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Whatever leaves from Porthole's own network is a way around the pod's policies.
    #[error("{host} is not an address of the pod itself")]
    NotThePod { host: String },
    #[error("{detail}")]
    Failed { code: &'static str, detail: String, person: String },
}

/// The stream to the pod has ended; there is nobody to write to.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the connection to the pod is lost: {0}")]
pub struct Lost(pub(super) String);

impl ConnectError {
    pub(super) fn new(code: &'static str, detail: impl Into<String>) -> ConnectError {
        ConnectError { code, detail: detail.into() }
    }

    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl ResolveError {
    pub fn code(&self) -> &'static str {
        match self {
            ResolveError::NotFound { .. } => "not_found",
            ResolveError::NamespaceUnknown { .. } => "namespace_unknown",
        }
    }

    pub fn person(&self) -> String {
        match self {
            ResolveError::NotFound { .. } | ResolveError::NamespaceUnknown { .. } => NOT_OPEN.to_owned(),
        }
    }
}

impl StartError {
    pub(super) fn new(code: &'static str, person: impl Into<String>) -> StartError {
        let person = person.into();
        StartError { code, detail: person.clone(), person, container: None }
    }

    /// With another text for the operator.
    pub(super) fn detailed(self, detail: impl Into<String>) -> StartError {
        StartError { detail: detail.into(), ..self }
    }

    pub(super) fn in_container(self, container: &str) -> StartError {
        StartError { container: Some(container.to_owned()), ..self }
    }

    /// The task that was starting the process ended before it could say how.
    pub fn aborted() -> StartError {
        StartError::new("aborted", "porthole failed while it started the container: try again")
    }

    /// The ephemeral container that was asked for, if it came to that.
    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    pub fn code(&self) -> &'static str {
        self.code
    }

    pub fn person(&self) -> String {
        self.person.clone()
    }
}

impl DialError {
    pub(super) fn failed(code: &'static str, person: impl Into<String>, detail: impl Into<String>) -> DialError {
        DialError::Failed { code, person: person.into(), detail: detail.into() }
    }

    pub fn code(&self) -> &'static str {
        match self {
            DialError::NotThePod { .. } => "not_the_pod",
            DialError::Failed { code, .. } => code,
        }
    }

    pub fn person(&self) -> String {
        match self {
            DialError::NotThePod { host } => {
                format!("only the pod's own ports can be reached, and {} is not the pod: use localhost", brief(host))
            }
            DialError::Failed { person, .. } => person.clone(),
        }
    }
}

/// What the API server's refusal of a request means. Neutral of what was asked.
#[derive(Debug)]
pub(super) struct Refused {
    pub code: &'static str,
    pub person: String,
    pub detail: String,
}

impl From<Refused> for StartError {
    fn from(refused: Refused) -> StartError {
        StartError::new(refused.code, refused.person).detailed(refused.detail)
    }
}

impl From<Refused> for DialError {
    fn from(refused: Refused) -> DialError {
        DialError::failed(refused.code, refused.person, refused.detail)
    }
}

impl Refused {
    /// `doing` completes "while …" for the operator.
    pub fn new(error: &kube::Error, doing: &str) -> Refused {
        let detail = match error {
            kube::Error::Api(status) => format!("{doing}: {} ({})", status.message, status.code),
            other => format!("{doing}: {}", chain(other)),
        };
        let kube::Error::Api(status) = error else {
            return Refused { detail, ..Refused::unavailable() };
        };
        let said = brief(&status.message);
        let (code, person) = match status.code {
            401 => ("forbidden", "the cluster does not know porthole any more: tell its operators".to_owned()),
            403 if by_rbac(status) => {
                ("forbidden", "porthole itself lacks a right in this cluster: tell its operators".to_owned())
            }
            403 if status.message.contains("exceeded quota") => {
                ("quota", format!("the namespace's quota is used up: {said}"))
            }
            403 => ("admission_denied", format!("the cluster refuses the debug container: {said}")),
            404 => ("pod_gone", "the pod is gone: log in again".to_owned()),
            413 => ("too_large", "the pod has had too many debug containers: it takes more after a restart".to_owned()),
            500 if status.message.contains("too large") => {
                ("too_large", "the pod has had too many debug containers: it takes more after a restart".to_owned())
            }
            500 if status.message.contains("webhook") => (
                "admission_unavailable",
                format!("the cluster cannot check the debug container, try again later: {said}"),
            ),
            // An admission policy answers 422, with its own words.
            422 if status.message.contains("denied request") => {
                ("admission_denied", format!("the cluster refuses the debug container: {said}"))
            }
            422 if status.message.contains("metadata.uid") => ("pod_gone", "the pod is gone: log in again".to_owned()),
            400 | 409 | 422 => ("rejected", format!("the cluster does not accept the debug container: {said}")),
            _ => return Refused { detail, ..Refused::unavailable() },
        };
        Refused { code, person, detail }
    }

    pub fn unavailable() -> Refused {
        let person = "the cluster's api server does not answer: try again in a moment";
        Refused { code: "api_unavailable", person: person.to_owned(), detail: person.to_owned() }
    }

    pub fn late(doing: &str, after: Duration) -> Refused {
        Refused { detail: format!("{doing}: no answer within {after:?}"), ..Refused::unavailable() }
    }
}

/// RBAC's own words; admission has others. A stream that lacks `create` is refused without any reason.
fn by_rbac(status: &Status) -> bool {
    status.message.contains(" cannot ") && status.message.contains("User \"")
        || status.message.ends_with("is forbidden: ")
        || status.message.is_empty()
}

/// Kubernetes' words in one line, shortened in the middle: a chain of errors begins with what was tried and ends with why
/// it failed.
pub(super) fn brief(message: &str) -> String {
    let line: Vec<char> = message.split_whitespace().collect::<Vec<_>>().join(" ").chars().collect();
    if line.len() <= MESSAGE_MAX_CHARS {
        return line.into_iter().collect();
    }
    let (start, end) = (&line[..MESSAGE_MAX_CHARS / 2], &line[line.len() - MESSAGE_MAX_CHARS / 2..]);
    start.iter().chain(&['…']).chain(end).collect()
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
