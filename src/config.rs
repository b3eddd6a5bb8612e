//! The configuration: what `config/porthole.toml` says, read strictly.
//!
//! Every key has its default here and its line in `config/porthole.toml`; a test holds the two together. A key that
//! is not known, a value of the wrong kind, a duration without a unit: each is an error that names the file, the
//! line and what would be right. Nothing here knows any other module.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod authority;
pub mod authorize;
pub mod certificate;
pub mod device;
pub mod duration;
pub mod issuer;
pub mod listen;
pub mod profile;
pub mod public_address;
pub mod recording;
mod url;

pub use authority::{CertificateAuthority, CertificateRule};
pub use authorize::{Authorize, Authorizer};
pub use certificate::{Certificate, CertificateSubject};
pub use device::{BindingStore, Device};
pub use issuer::{ClaimNames, Issuer, TokenAlgorithm};
pub use listen::{Http, Listen};
pub use profile::{Preset, Profile};
pub use public_address::PublicAddress;
pub use recording::Recording;

/// How far an issued certificate is dated back, so that a server whose clock is late believes it at once.
pub const CERTIFICATE_BACKDATE: Duration = Duration::from_secs(60);

/// Less than this is no time in which anything on a network could happen.
const DURATION_MIN: Duration = Duration::from_secs(1);

/// A key, and what is wrong with it and what would be right.
type Problem = (&'static str, String);

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[derive(Default)]
pub struct Config {
    pub listen: Listen,
    pub http: Http,
    pub ssh: Ssh,
    pub certificate: Certificate,
    pub certificate_authority: CertificateAuthority,
    /// Identity providers by name; a token's `iss` chooses among them.
    pub issuers: BTreeMap<String, Issuer>,
    pub device: Device,
    pub authorize: Authorize,
    /// Who else may be asked, by a name of one's own.
    pub authorizers: BTreeMap<String, Authorizer>,
    pub cluster: Cluster,
    pub session: Session,
    /// Debug profiles by name; one called as `session.default-profile` says must be among them.
    pub profiles: BTreeMap<String, Profile>,
    pub audit: Audit,
    pub recording: Recording,
    pub log: Log,
}

/// The SSH server's own conduct.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Ssh {
    /// Where people reach this, for the words that tell them.
    pub public_address: Option<PublicAddress>,
    /// OpenSSH private keys, without a passphrase.
    pub host_keys: Vec<PathBuf>,
    /// Make an Ed25519 key where the first of `host_keys` does not exist yet.
    pub generate_host_key: bool,
    /// From the first byte to a successful login.
    #[serde(with = "duration")]
    pub login_deadline: Duration,
    pub max_auth_tries: usize,
    /// Connections in all; beyond it a new one is closed before its first byte.
    pub max_connections: usize,
    /// Connections that have not logged in yet; a newcomer takes the oldest one's place.
    pub max_unauthenticated: usize,
    pub max_connections_per_person: usize,
    pub max_channels_per_connection: usize,
    /// Open channels of one person over all connections.
    pub max_channels_per_person: usize,
    /// Silence after which the client is asked whether it lives.
    #[serde(with = "duration")]
    pub keepalive_interval: Duration,
    /// Unanswered questions after which the connection counts as gone.
    pub keepalive_max: usize,
    /// New keys after this time, or after 1 GiB.
    #[serde(with = "duration")]
    pub rekey_interval: Duration,
    /// How long sessions may go on after SIGTERM.
    #[serde(with = "duration")]
    pub drain_deadline: Duration,
}

impl Default for Ssh {
    fn default() -> Ssh {
        Ssh {
            public_address: None,
            host_keys: vec![PathBuf::from("/etc/porthole/ssh_host_ed25519_key")],
            generate_host_key: false,
            login_deadline: Duration::from_secs(60),
            max_auth_tries: 6,
            max_connections: 2000,
            max_unauthenticated: 100,
            max_connections_per_person: 64,
            max_channels_per_connection: 64,
            max_channels_per_person: 128,
            keepalive_interval: Duration::from_secs(15),
            keepalive_max: 3,
            rekey_interval: Duration::from_secs(3600),
            drain_deadline: Duration::from_secs(30),
        }
    }
}

/// How the API server is reached.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Cluster {
    /// A kubeconfig file; none means the pod's own service account.
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// For one plain request.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster {
            kubeconfig: None,
            context: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
        }
    }
}

/// How a channel becomes a process in the pod.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Session {
    pub isolation: Isolation,
    /// The profile of a login name without `~profile`.
    pub default_profile: String,
    /// Environment variables that a client may set, by name or by `PREFIX*`.
    pub accept_env: Vec<String>,
    /// From the request to a container that runs.
    #[serde(with = "duration")]
    pub start_deadline: Duration,
}

/// Whether a channel gets a container of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Each session channel becomes its own ephemeral container, attached.
    Channel,
}

impl Default for Session {
    fn default() -> Session {
        Session {
            isolation: Isolation::Channel,
            default_profile: "general".to_owned(),
            accept_env: ["TERM", "LANG", "LC_*", "NO_COLOR"].map(str::to_owned).to_vec(),
            start_deadline: Duration::from_secs(30),
        }
    }
}

/// Where the audit trail goes.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Audit {
    /// A file to append to; none means stdout.
    pub file: Option<PathBuf>,
    /// For one event to be written; what waits longer is refused.
    #[serde(with = "duration")]
    pub deadline: Duration,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit { file: None, deadline: Duration::from_secs(5) }
    }
}

/// Porthole's own log, on stderr.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Log {
    pub format: LogFormat,
    /// `tracing-subscriber` directives.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for Log {
    fn default() -> Log {
        // russh prints user names at debug level, and warns of each unknown request of a client.
        Log { format: LogFormat::Json, filter: "info,russh=error".to_owned() }
    }
}

/// A configuration that cannot be used. The text names the file and the line or key, and says what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {file}: {source}")]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{file}: {source}")]
    Malformed { file: PathBuf, source: Box<toml::de::Error> },
    #[error("{file}: {key}: {problem}")]
    Invalid { file: PathBuf, key: &'static str, problem: String },
}

impl Config {
    /// Reads and checks `file`. Relative paths in it are relative to its folder.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        let mut config: Config = toml::from_str(&text)
            .map_err(|source| ConfigError::Malformed { file: file.to_owned(), source: Box::new(source) })?;
        if config.profiles.is_empty() {
            config.profiles = profile::presets();
        }
        config.check().map_err(|(key, problem)| ConfigError::Invalid { file: file.to_owned(), key, problem })?;
        config.anchor(file.parent().unwrap_or(Path::new(".")));
        Ok(config)
    }

    fn check(&self) -> Result<(), Problem> {
        self.http.check()?;
        if self.http.address.is_some() && self.issuers.is_empty() {
            return Err(("http.address", "needs an [issuers] table, or no token could be believed: name one".into()));
        }
        if self.ssh.host_keys.is_empty() {
            return Err((
                "ssh.host-keys",
                "names no file: name at least one, with generate-host-key = true to have it made".into(),
            ));
        }
        self.certificate_authority.check(&self.certificate)?;
        let otherwise = self.certificate_authority.is_on() || !self.issuers.is_empty();
        if self.certificate.trusted_ca_files.is_empty() && !otherwise {
            return Err((
                "certificate.trusted-ca-files",
                "names no file, and there is no issuer, so nobody could log in: name the CA's public key".into(),
            ));
        }
        if self.certificate.subject == CertificateSubject::Principal
            && self.certificate.subject_prefix.starts_with(&self.certificate.group_prefix)
        {
            return Err((
                "certificate.subject-prefix",
                "begins like group-prefix, so a group would be read as a person: choose another".into(),
            ));
        }
        if !self.profiles.contains_key(&self.session.default_profile) {
            let known: Vec<_> = self.profiles.keys().map(String::as_str).collect();
            return Err((
                "session.default-profile",
                format!("`{}` is no profile: use one of {}", self.session.default_profile, known.join(", ")),
            ));
        }
        for (name, profile) in &self.profiles {
            profile.check().map_err(|problem| ("profiles", format!("`{name}`: {problem}")))?;
        }
        for (name, issuer) in &self.issuers {
            issuer.check().map_err(|problem| ("issuers", format!("`{name}`: {problem}")))?;
            if self.issuers.iter().any(|(other, twin)| other != name && twin.url == issuer.url) {
                return Err((
                    "issuers",
                    format!("`{name}` has the url of another, so a token could not choose: use one"),
                ));
            }
        }
        self.certificate.check_pk_tokens(&self.issuers)?;
        self.device.check()?;
        self.authorize.check(&self.authorizers)?;
        if let Some(name) = &self.device.issuer {
            let Some(issuer) = self.issuers.get(name) else {
                return Err(("device.issuer", format!("`{name}` is no issuer: write a table [issuers.{name}]")));
            };
            // A token is for the client that asked for it (OpenID Connect Core, section 2).
            if !issuer.audiences.contains(&self.device.client_id) {
                let id = &self.device.client_id;
                let problem = format!(
                    "`{id}` is none of the audiences of [issuers.{name}], so every login would end in a no: add it there"
                );
                return Err(("device.client-id", problem));
            }
        }
        let counts = [
            ("ssh.max-auth-tries", self.ssh.max_auth_tries),
            ("ssh.max-connections", self.ssh.max_connections),
            ("ssh.max-unauthenticated", self.ssh.max_unauthenticated),
            ("ssh.max-connections-per-person", self.ssh.max_connections_per_person),
            ("ssh.max-channels-per-connection", self.ssh.max_channels_per_connection),
            ("ssh.max-channels-per-person", self.ssh.max_channels_per_person),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err((key, "is 0, so nobody could log in: use 1 or more".into()));
        }
        let durations = [
            ("ssh.login-deadline", self.ssh.login_deadline, "nobody could log in in time"),
            ("ssh.keepalive-interval", self.ssh.keepalive_interval, "every connection would count as gone at once"),
            ("ssh.rekey-interval", self.ssh.rekey_interval, "keys would be exchanged without end"),
            ("audit.deadline", self.audit.deadline, "no event could be written in time"),
            ("authorize.deadline", self.authorize.deadline, "every answer would be late, and so a no"),
            ("authorize.recheck-interval", self.authorize.recheck_interval, "questions would be asked without end"),
            ("cluster.connect-timeout", self.cluster.connect_timeout, "the api server could not be reached in time"),
            ("cluster.request-timeout", self.cluster.request_timeout, "no request could be answered in time"),
            ("session.start-deadline", self.session.start_deadline, "no container could start in time"),
            ("certificate.pk-token-max-age", self.certificate.pk_token_max_age, "every PK token would be too old"),
        ];
        match durations.into_iter().find(|(_, duration, _)| *duration < DURATION_MIN) {
            Some((key, _, why)) => Err((key, format!("is too short, so {why}: use 1s or more"))),
            None => Ok(()),
        }
    }

    fn anchor(&mut self, folder: &Path) {
        let paths = (self.ssh.host_keys.iter_mut())
            .chain(&mut self.certificate.trusted_ca_files)
            .chain(&mut self.certificate.revocation_lists)
            .chain(&mut self.certificate.revoked_file)
            .chain(&mut self.certificate_authority.keys)
            .chain(&mut self.certificate_authority.agent_socket)
            .chain(self.issuers.values_mut().flat_map(|issuer| &mut issuer.ca_file))
            .chain(&mut self.device.client_secret_file)
            .chain([&mut self.authorize.policy_file])
            .chain(&mut self.cluster.kubeconfig)
            .chain(&mut self.audit.file)
            .chain(&mut self.recording.folder)
            .chain(self.http.files());
        for path in paths {
            *path = folder.join(&*path);
        }
        authorize::anchor(&mut self.authorizers, folder);
    }
}

#[cfg(test)]
mod tests;
