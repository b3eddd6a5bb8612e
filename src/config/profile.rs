//! Debug profiles: which image joins the pod, and with what rights.
//!
//! The presets carry the names and the meaning of `kubectl debug --profile`; an entry starts from its preset and
//! changes what it names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The image of the presets. Any image with a POSIX shell serves.
const DEFAULT_IMAGE: &str = "busybox:1.37";

/// One debug profile.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Profile {
    pub preset: Preset,
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; none leaves it to Kubernetes.
    pub image_pull_policy: Option<String>,
    /// The program of an interactive login and, with `-c`, of commands; none looks for bash, then sh.
    pub shell: Option<String>,
    /// Numeric user and group; none leaves them to the image.
    pub user: Option<i64>,
    pub group: Option<i64>,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    /// Variables of the debug container.
    pub env: BTreeMap<String, String>,
    /// Take over the target container's variables, and its `envFrom`.
    pub target_env: bool,
    /// Mount what the target container mounts, at the same paths (but no `subPath`, which ephemeral containers refuse).
    pub target_mounts: bool,
    /// Join the target container's process namespace.
    pub target_processes: bool,
}

/// `kubectl debug`'s profiles for ephemeral containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// SYS_PTRACE, so that the target's processes can be looked into.
    #[default]
    General,
    /// No capability added: what Pod Security's `baseline` level passes.
    Baseline,
    /// What Pod Security's `restricted` level passes: not root, no capability, no escalation, RuntimeDefault seccomp.
    Restricted,
    /// NET_ADMIN and NET_RAW.
    Netadmin,
    /// Privileged.
    Sysadmin,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            preset: Preset::General,
            image: DEFAULT_IMAGE.to_owned(),
            image_pull_policy: None,
            shell: None,
            user: None,
            group: None,
            add_capabilities: Vec::new(),
            drop_capabilities: Vec::new(),
            env: BTreeMap::new(),
            target_env: false,
            target_mounts: false,
            target_processes: true,
        }
    }
}

impl Profile {
    /// What is wrong with it, in words that say what would be right.
    pub fn check(&self) -> Result<(), String> {
        if self.image.trim().is_empty() {
            return Err("image is empty: name an image that the cluster can pull".to_owned());
        }
        if let Some(policy) = &self.image_pull_policy
            && !["Always", "IfNotPresent", "Never"].contains(&policy.as_str())
        {
            return Err(format!("image-pull-policy `{policy}` is not known: use Always, IfNotPresent or Never"));
        }
        if self.user.is_some_and(|user| user < 0) || self.group.is_some_and(|group| group < 0) {
            return Err("user and group are numbers from 0 up".to_owned());
        }
        if self.preset == Preset::Restricted && self.user == Some(0) {
            return Err("preset `restricted` cannot run as user 0: name another, as in user = 65532".to_owned());
        }
        Ok(())
    }
}

/// The profiles of a configuration that names none: each preset by its own name.
pub fn presets() -> BTreeMap<String, Profile> {
    let named = |name: &str, preset, user| (name.to_owned(), Profile { preset, user, ..Profile::default() });
    BTreeMap::from([
        named("general", Preset::General, None),
        named("baseline", Preset::Baseline, None),
        // A uid is needed: runAsNonRoot refuses an image whose user is root or a name.
        named("restricted", Preset::Restricted, Some(65532)),
        named("netadmin", Preset::Netadmin, None),
        named("sysadmin", Preset::Sysadmin, None),
    ])
}
