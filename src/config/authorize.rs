//! Who decides: the built-in policy, servers of the company's own, and how their answers combine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

mod check;

/// The name under which the policy file is asked; no table of `[authorizers]` may have it.
pub const POLICY: &str = "policy";

/// How a question is decided.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Authorize {
    /// Who is asked, in this order: `policy`, or names of `[authorizers]`.
    pub ask: Vec<String>,
    pub combine: Combine,
    /// The policy file; re-read when it changes.
    pub policy_file: PathBuf,
    /// For the whole question. An answer that comes later is a no.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// How often what is open is asked about again.
    #[serde(with = "duration")]
    pub recheck_interval: Duration,
    /// How long what is open may go on while nobody can say whether it may.
    #[serde(with = "duration")]
    pub recheck_grace: Duration,
}

/// How several answers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// Each must allow.
    All,
    /// The first that gives an answer decides.
    First,
}

/// Somebody who is asked.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Authorizer {
    Opa(Opa),
    Rego(Rego),
    Oathkeeper(Oathkeeper),
    Namespaces(Namespaces),
    Webhook(Webhook),
    AccessReview(AccessReview),
}

/// Open Policy Agent, by its Data API.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Opa {
    pub server: Server,
    /// The document with the decision for one `input`.
    pub path: String,
    /// The document with the decisions for `input.queries`; none where there is no such rule.
    pub batch_path: Option<String>,
    pub limits: Limits,
}

/// The same Rego, evaluated here.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Rego {
    /// Files and folders with `.rego`, `.json` and `.yaml`, or one bundle (`.tar.gz`); re-read when they change.
    pub files: Vec<PathBuf>,
    /// In place of files: where a bundle is fetched from.
    pub bundle: Option<Server>,
    /// How often it is looked at.
    #[serde(with = "duration")]
    pub bundle_interval: Duration,
    /// The rule with the decision for one `input`.
    pub rule: String,
}

/// Ory Oathkeeper, by its access-decision API.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Oathkeeper {
    pub server: Server,
    /// Made of the question: `{action}`, `{namespace}` and so on stand for its parts.
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// Pass the person's id_token on, as `Authorization: Bearer`.
    pub pass_token: bool,
    pub limits: Limits,
}

/// A server that answers with the namespaces that a person may enter.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Namespaces {
    pub server: Server,
    pub path: String,
    pub credential: PersonCredential,
    /// Signs the identity, where that is sent: a PEM file with an Ed25519 or P-256 private key.
    pub signing_key: Option<PathBuf>,
    pub limits: Limits,
}

/// By what a person is named to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PersonCredential {
    /// Their own id_token; who has none is denied.
    IdToken,
    /// A short JWT that Porthole signs.
    SignedIdentity,
}

/// A server that is sent the question and answers with a decision.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Webhook {
    pub server: Server,
    pub path: String,
    /// A file with the secret of the HMAC in each direction.
    pub hmac_key_file: Option<PathBuf>,
    /// It takes `{"queries": […]}` and answers with as many decisions.
    pub batch: bool,
    pub limits: Limits,
}

/// Kubernetes' SubjectAccessReview. Each part is made of the question, as in Oathkeeper's path.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct AccessReview {
    pub user: String,
    pub group_prefix: String,
    pub api_group: String,
    pub resource: String,
    pub subresource: String,
    pub verb: String,
    pub name: String,
    pub limits: Limits,
}

/// Where a server is, and how the two prove themselves to each other.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Server {
    /// `https://…`; without TLS only on loopback.
    pub url: String,
    /// Root certificates (PEM) in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and its key (PEM).
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// A file with a bearer token; re-read for each request.
    pub token_file: Option<PathBuf>,
}

/// What one authorizer is held to.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Limits {
    /// For one answer of this one.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// How long an answer may be given again; zero asks each time.
    #[serde(with = "duration")]
    pub cache_lifetime: Duration,
    /// Answers that are kept, at most.
    pub cache_size: u64,
    /// Failures in a row after which it is left alone for a while, and how long that is.
    pub breaker_failures: u32,
    #[serde(with = "duration")]
    pub breaker_pause: Duration,
}

impl Default for Authorize {
    fn default() -> Authorize {
        Authorize {
            ask: vec![POLICY.to_owned()],
            combine: Combine::All,
            policy_file: PathBuf::from("/etc/porthole/policy.toml"),
            deadline: Duration::from_secs(2),
            recheck_interval: Duration::from_secs(60),
            recheck_grace: Duration::from_secs(5 * 60),
        }
    }
}

impl Default for Opa {
    fn default() -> Opa {
        Opa {
            server: Server::default(),
            path: "/v1/data/porthole/decision".to_owned(),
            batch_path: None,
            limits: Limits::default(),
        }
    }
}

impl Default for Rego {
    fn default() -> Rego {
        Rego {
            files: Vec::new(),
            bundle: None,
            bundle_interval: Duration::from_secs(30),
            rule: "data.porthole.decision".to_owned(),
        }
    }
}

impl Default for Oathkeeper {
    fn default() -> Oathkeeper {
        Oathkeeper {
            server: Server::default(),
            method: "POST".to_owned(),
            path: "/decisions/{action}/{namespace}/{pod}".to_owned(),
            headers: BTreeMap::new(),
            pass_token: false,
            limits: Limits::default(),
        }
    }
}

impl Default for Namespaces {
    fn default() -> Namespaces {
        Namespaces {
            server: Server::default(),
            path: "/namespaces".to_owned(),
            credential: PersonCredential::IdToken,
            signing_key: None,
            limits: Limits::default(),
        }
    }
}

impl Default for Webhook {
    fn default() -> Webhook {
        Webhook {
            server: Server::default(),
            path: "/decide".to_owned(),
            hmac_key_file: None,
            batch: false,
            limits: Limits::default(),
        }
    }
}

impl Default for AccessReview {
    fn default() -> AccessReview {
        AccessReview {
            user: "{subject}".to_owned(),
            group_prefix: String::new(),
            api_group: "porthole.dev".to_owned(),
            resource: "pods".to_owned(),
            subresource: String::new(),
            verb: "{action}".to_owned(),
            name: "{pod}".to_owned(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            deadline: Duration::from_secs(1),
            cache_lifetime: Duration::from_secs(5),
            cache_size: 10_000,
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(1),
        }
    }
}

/// Makes `path` one of `folder`'s, where it is relative.
pub(super) fn anchor(authorizers: &mut BTreeMap<String, Authorizer>, folder: &Path) {
    for path in authorizers.values_mut().flat_map(Authorizer::files) {
        *path = folder.join(&*path);
    }
}
