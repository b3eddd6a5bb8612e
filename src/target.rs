//! What a login name says: a place, `namespace.name[+container][~profile]`, and never a person.
//!
//! Parsing does no I/O and its result proves the shape only: each part is a name that Kubernetes itself would
//! accept, so it may stand in a URL path, a label or a log line without quoting. Whether the place exists, and
//! whether this person may know, is for `cluster::resolve` and the `Gate`.

use std::fmt;

/// The longest login name that is looked at, in bytes.
pub const LOGIN_NAME_MAX_BYTES: usize = 253;
/// A namespace, a container and a profile are DNS labels (RFC 1123): 63 bytes.
const LABEL_MAX_BYTES: usize = 63;

/// What a login name asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginName {
    /// A place to enter.
    Place(TargetName),
    /// A name without a dot (`ssh dev@porthole`): no place; a few words work as commands there.
    Lobby,
}

/// A place by name: it parses, nothing more is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetName {
    namespace: String,
    name: String,
    container: Option<String>,
    profile: Option<String>,
}

/// Why a login name is no place. The text is for the person and says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetNameError {
    #[error("the login name is empty: use namespace.pod")]
    Empty,
    #[error("the login name is longer than {LOGIN_NAME_MAX_BYTES} bytes: use namespace.pod")]
    TooLong,
    #[error(
        "the {part} in the login name is not a Kubernetes name: use namespace.pod[+container][~profile], lower case letters, digits and '-'"
    )]
    NotAName { part: &'static str },
    #[error("the login name has two {part}s: use namespace.pod[+container][~profile]")]
    Twice { part: &'static str },
}

impl LoginName {
    /// Parses a login name as it came from the client.
    ///
    /// The first dot splits: a namespace has no dot, a pod's name may. `+container` and `~profile` may follow in
    /// either order, each once.
    pub fn parse(login: &str) -> Result<LoginName, TargetNameError> {
        if login.is_empty() {
            return Err(TargetNameError::Empty);
        }
        if login.len() > LOGIN_NAME_MAX_BYTES {
            return Err(TargetNameError::TooLong);
        }
        match login.split_once('.') {
            Some((namespace, rest)) => TargetName::from_parts(namespace, rest).map(LoginName::Place),
            None => Ok(LoginName::Lobby),
        }
    }
}

impl TargetName {
    fn from_parts(namespace: &str, rest: &str) -> Result<TargetName, TargetNameError> {
        if !is_label(namespace) {
            return Err(TargetNameError::NotAName { part: "namespace" });
        }
        let end = rest.find(['+', '~']).unwrap_or(rest.len());
        let (name, mut suffixes) = rest.split_at(end);
        if !is_subdomain(name) {
            return Err(TargetNameError::NotAName { part: "pod" });
        }
        let (mut container, mut profile) = (None, None);
        while let Some(mark) = suffixes.chars().next() {
            let body = &suffixes[mark.len_utf8()..];
            let end = body.find(['+', '~']).unwrap_or(body.len());
            let (value, next) = body.split_at(end);
            let (part, slot) = match mark {
                '+' => ("container", &mut container),
                _ => ("profile", &mut profile),
            };
            if !is_label(value) {
                return Err(TargetNameError::NotAName { part });
            }
            if slot.replace(value.to_owned()).is_some() {
                return Err(TargetNameError::Twice { part });
            }
            suffixes = next;
        }
        Ok(TargetName { namespace: namespace.to_owned(), name: name.to_owned(), container, profile })
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A pod, a workload or a Service, in that order of precedence.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }
}

impl fmt::Display for LoginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoginName::Place(name) => name.fmt(f),
            LoginName::Lobby => Ok(()),
        }
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.name)?;
        if let Some(container) = &self.container {
            write!(f, "+{container}")?;
        }
        if let Some(profile) = &self.profile {
            write!(f, "~{profile}")?;
        }
        Ok(())
    }
}

/// RFC 1123 label, as Kubernetes' `IsDNS1123Label`.
fn is_label(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= LABEL_MAX_BYTES
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

/// RFC 1123 subdomain, as Kubernetes' `IsDNS1123Subdomain`: labels joined by dots.
fn is_subdomain(text: &str) -> bool {
    text.len() <= LOGIN_NAME_MAX_BYTES && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(login: &str) -> TargetName {
        match LoginName::parse(login) {
            Ok(LoginName::Place(name)) => name,
            other => panic!("{login}: {other:?}"),
        }
    }

    #[test]
    fn the_first_dot_splits_and_suffixes_come_in_either_order() {
        let name = place("demo.web-0.example+app~netshoot");
        assert_eq!((name.namespace(), name.name()), ("demo", "web-0.example"));
        assert_eq!((name.container(), name.profile()), (Some("app"), Some("netshoot")));
        assert_eq!(place("demo.web~netshoot+app"), place("demo.web+app~netshoot"));
        assert_eq!(place("demo.web").to_string(), "demo.web");
        assert_eq!(LoginName::parse("dev"), Ok(LoginName::Lobby));
    }

    #[test]
    fn what_kubernetes_would_not_accept_is_no_place() {
        for login in [
            "",
            ".",
            "demo.",
            ".web",
            "Demo.web",
            "demo.we b",
            "demo.web+",
            "demo.web~",
            "demo.web+a+b",
            "demo.web~a~b",
            "demo..web",
            "demo.-web",
            "demo.web-",
            "demo.web/../x",
            "demo.web:x",
            "demo.wéb",
            "demo.web\0",
            "demo.web\n",
            "d_emo.web",
            "demo.web+a.b",
            "*.web",
            "demo.$(id)",
        ] {
            assert!(LoginName::parse(login).is_err(), "{login:?} parsed");
        }
        assert_eq!(LoginName::parse(&"a".repeat(254)), Err(TargetNameError::TooLong));
        assert!(LoginName::parse(&format!("{}.web", "a".repeat(64))).is_err());
    }
}
