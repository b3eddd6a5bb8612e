//! Porthole's own CA: which keys sign people's certificates, and what a certificate may say for whom.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

/// The extensions that OpenSSH knows for users' certificates (PROTOCOL.certkeys); others need an `@`.
const EXTENSIONS: [&str; 6] = [
    "no-touch-required",
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
];
/// What Porthole itself writes into a certificate, and believes when it reads it again, ends so.
pub const OWN_SUFFIX: &str = "@porthole";

/// Certificates from Porthole. Without keys it issues none.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct CertificateAuthority {
    /// OpenSSH keys, private or public: the first one signs, certificates of all of them are believed.
    pub keys: Vec<PathBuf>,
    /// Where an ssh-agent holds the first key.
    pub agent_socket: Option<PathBuf>,
    /// How long a certificate lasts; never longer than the login that it comes from.
    #[serde(with = "duration")]
    pub lifetime: Duration,
    /// Beside those that name the person and their groups.
    pub principals: Vec<String>,
    pub extensions: Vec<String>,
    /// Write the caller's address into the certificate as its `source-address`.
    pub bind_source_address: bool,
    /// The first that names one of the person's groups counts; where there are any, others get no certificate.
    pub rules: Vec<CertificateRule>,
}

/// What differs for some groups.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct CertificateRule {
    /// `*` is everybody.
    pub groups: Vec<String>,
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Duration>,
    pub principals: Option<Vec<String>>,
    pub extensions: Option<Vec<String>>,
    pub bind_source_address: Option<bool>,
}

impl Default for CertificateAuthority {
    fn default() -> CertificateAuthority {
        CertificateAuthority {
            keys: Vec::new(),
            agent_socket: None,
            lifetime: Duration::from_secs(8 * 3600),
            principals: Vec::new(),
            extensions: ["permit-agent-forwarding", "permit-port-forwarding", "permit-pty"].map(str::to_owned).to_vec(),
            bind_source_address: false,
            rules: Vec::new(),
        }
    }
}

impl CertificateAuthority {
    /// Whether certificates are issued at all.
    pub fn is_on(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Errors: the key that is wrong, and what would be right.
    pub(super) fn check(&self, reading: &super::Certificate) -> Result<(), (&'static str, String)> {
        if !self.is_on() {
            return match self.agent_socket {
                Some(_) => {
                    Err(("certificate-authority.keys", "names no key: name the public key that the agent holds".into()))
                }
                None => Ok(()),
            };
        }
        if reading.subject_prefix.starts_with(&reading.group_prefix) {
            return Err((
                "certificate.subject-prefix",
                "begins like group-prefix, so an issued certificate would name a person as a group: choose another"
                    .into(),
            ));
        }
        if let Some(rule) = self.rules.iter().position(|rule| rule.groups.is_empty()) {
            return Err((
                "certificate-authority.rules",
                format!("rule {} names no groups: use groups = [\"*\"] for everybody", rule + 1),
            ));
        }
        let lifetimes = self.rules.iter().filter_map(|rule| rule.lifetime).chain([self.lifetime]);
        for lifetime in lifetimes {
            if lifetime < Duration::from_secs(60) {
                return Err(("certificate-authority.lifetime", "is less than a minute: use 1m or more".into()));
            }
            if !reading.max_lifetime.is_zero() && lifetime + super::CERTIFICATE_BACKDATE > reading.max_lifetime {
                let problem = "is longer than certificate.max-lifetime believes, with the minute that certificates are dated back";
                return Err(("certificate-authority.lifetime", problem.into()));
            }
        }
        let principals = self.rules.iter().filter_map(|rule| rule.principals.as_ref()).chain([&self.principals]);
        for principal in principals.flatten() {
            let names_somebody =
                principal.starts_with(&reading.subject_prefix) || principal.starts_with(&reading.group_prefix);
            if names_somebody || principal.is_empty() {
                let problem = format!("`{principal}` would name a person or a group: choose another");
                return Err(("certificate-authority.principals", problem));
            }
        }
        let extensions = self.rules.iter().filter_map(|rule| rule.extensions.as_ref()).chain([&self.extensions]);
        for extension in extensions.flatten() {
            let name = extension.split_once('=').map_or(extension.as_str(), |(name, _)| name);
            let theirs = name.contains('@') && !name.ends_with(OWN_SUFFIX);
            if !theirs && !EXTENSIONS.contains(&extension.as_str()) {
                let problem =
                    format!("`{extension}` is no extension: use {} or name@domain[=value]", EXTENSIONS.join(", "));
                return Err(("certificate-authority.extensions", problem));
            }
        }
        Ok(())
    }
}
