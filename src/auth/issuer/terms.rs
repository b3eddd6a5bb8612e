//! What a certificate may say for this person: the configuration's rule, and never more than the login had.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{EMAIL, IssueError, LOGIN_KEY, LOGIN_UNTIL, SESSION_UNTIL, seconds};
use crate::auth::Identity;
use crate::config::{CertificateAuthority, CertificateRule};

/// The rules for everybody.
#[derive(Debug)]
pub(super) struct Terms {
    config: CertificateAuthority,
    subject_prefix: String,
    group_prefix: String,
}

/// The terms for one person.
#[derive(Debug)]
pub(super) struct Personal {
    pub(super) lifetime: Duration,
    pub(super) principals: Vec<String>,
    pub(super) critical_options: BTreeMap<String, String>,
    pub(super) extensions: BTreeMap<String, String>,
}

impl Terms {
    pub(super) fn new(config: &CertificateAuthority, reading: &crate::config::Certificate) -> Terms {
        Terms {
            config: config.clone(),
            subject_prefix: reading.subject_prefix.clone(),
            group_prefix: reading.group_prefix.clone(),
        }
    }

    /// Errors: a person whom no rule names, or whose own credential is for one command.
    pub(super) fn of(&self, identity: &Identity, source: IpAddr) -> Result<Personal, IssueError> {
        if identity.force_command().is_some() {
            return Err(IssueError::OneCommand);
        }
        let config = &self.config;
        let rule = config.rules.iter().find(|rule| names(rule, identity));
        if rule.is_none() && !config.rules.is_empty() {
            return Err(IssueError::NoRule);
        }
        let rule = rule.cloned().unwrap_or_default();
        let mut principals = vec![format!("{}{}", self.subject_prefix, identity.subject())];
        principals.extend(identity.groups().iter().map(|group| format!("{}{group}", self.group_prefix)));
        principals.extend(rule.principals.unwrap_or_else(|| config.principals.clone()));

        let bound = rule.bind_source_address.unwrap_or(config.bind_source_address);
        let address = match bound {
            true => Some(source.to_canonical().to_string()),
            // The caller is within it, so to narrow it to the caller's own address is right too.
            false => identity.source_address().map(str::to_owned),
        };
        let critical_options = address.map(|address| ("source-address".to_owned(), address)).into_iter().collect();

        let extensions = rule.extensions.unwrap_or_else(|| config.extensions.clone());
        let permitted = extensions.into_iter().filter(|name| had(identity, name));
        let mut extensions: BTreeMap<String, String> = permitted
            .map(|extension| match extension.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (extension, String::new()),
            })
            .collect();
        extensions.extend(identity.email().map(|email| (EMAIL.to_owned(), email.to_owned())));
        extensions.extend(identity.login_until().map(|until| (LOGIN_UNTIL.to_owned(), seconds(until).to_string())));
        let session_until = identity.login_session_until().map(|until| seconds(until).to_string());
        extensions.extend(session_until.map(|until| (SESSION_UNTIL.to_owned(), until)));
        extensions.extend(identity.login_key().map(|key| (LOGIN_KEY.to_owned(), key.to_owned())));
        Ok(Personal { lifetime: rule.lifetime.unwrap_or(config.lifetime), principals, critical_options, extensions })
    }
}

fn names(rule: &CertificateRule, identity: &Identity) -> bool {
    rule.groups.iter().any(|group| group == "*" || identity.groups().contains(group))
}

/// Whether the login itself had what an extension would permit.
fn had(identity: &Identity, extension: &str) -> bool {
    let rights = identity.rights();
    match extension {
        "permit-pty" => rights.pty,
        "permit-port-forwarding" => rights.port_forwarding,
        "permit-agent-forwarding" => rights.agent_forwarding,
        _ => true,
    }
}
