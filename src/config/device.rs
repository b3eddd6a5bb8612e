//! The device login: a person without a credential approves a code in a browser, and is asked once a day.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

/// OIDC device authorization (RFC 8628) by SSH's keyboard-interactive.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Device {
    /// A name of `[issuers]`; none means no device login.
    pub issuer: Option<String>,
    pub client_id: String,
    /// A file with the client's secret; none for a public client.
    pub client_secret_file: Option<PathBuf>,
    pub scopes: Vec<String>,
    /// How long the person may take.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// Logins that wait for their person, in all.
    pub max_pending: usize,
    pub max_pending_per_address: usize,
    /// Show the link as a picture too.
    pub qr_code: bool,
    /// How long a key that was proved beside the login stands for the person.
    #[serde(with = "duration")]
    pub binding_lifetime: Duration,
    pub bindings: BindingStore,
    /// The namespace of the bindings; none is Porthole's own.
    pub bindings_namespace: Option<String>,
}

/// Where the bindings of keys to people are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindingStore {
    /// In this process: gone with it, and no other replica's.
    Memory,
    /// As objects of the cluster: every replica's, and there after a restart.
    Cluster,
}

impl Default for Device {
    fn default() -> Device {
        Device {
            issuer: None,
            client_id: "porthole".to_owned(),
            client_secret_file: None,
            scopes: ["openid", "profile", "email", "groups"].map(str::to_owned).to_vec(),
            deadline: Duration::from_secs(5 * 60),
            max_pending: 50,
            max_pending_per_address: 10,
            qr_code: false,
            binding_lifetime: Duration::from_secs(8 * 3600),
            bindings: BindingStore::Memory,
            bindings_namespace: None,
        }
    }
}

impl Device {
    /// What is wrong with it, beside an issuer that does not exist.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if !self.scopes.iter().any(|scope| scope == "openid") {
            return Err(("device.scopes", "has no \"openid\", so there would be no id_token: add it".to_owned()));
        }
        if self.client_id.is_empty() {
            return Err(("device.client-id", "is empty: name the client that the provider knows".to_owned()));
        }
        if self.max_pending == 0 || self.max_pending_per_address == 0 {
            return Err(("device.max-pending", "is 0, so nobody could log in: use 1 or more".to_owned()));
        }
        if self.deadline.is_zero() {
            return Err(("device.deadline", "is 0, so nobody could log in in time: use \"5m\"".to_owned()));
        }
        Ok(())
    }
}
