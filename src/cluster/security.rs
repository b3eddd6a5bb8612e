//! With which rights a debug container runs: the presets of `kubectl debug`, and the level that its namespace enforces.
//!
//! The presets set what kubectl's profiles of the same names set on an ephemeral container (kubectl,
//! `pkg/cmd/debug/profiles.go`). The check of the Pod Security level repeats just those rules of the standard that a
//! container's own security context can break, so that a refusal comes before the pod is touched, in our words; the API
//! server stays the judge.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Capabilities, Container, PodSpec, SeccompProfile, SecurityContext};

use super::error::StartError;
use crate::config::{Preset, Profile};

/// The label that names the level of a namespace.
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// Capabilities that a container may add at the level `baseline`.
const BASELINE_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// The one capability that the level `restricted` lets be added.
const RESTRICTED_CAPABILITY: &str = "NET_BIND_SERVICE";
/// Nobody in particular: the user where one is needed and neither the profile nor the pod names one.
const NOBODY: i64 = 65532;

/// Levels of the Pod Security Standards, the strictest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// The security context of a debug container in this pod.
///
/// A profile that only lets the container do more than its namespace allows by default (`general`, `baseline`) is
/// narrowed to what the level passes. One that asks for a right by name is refused there: to get less than one asked for,
/// unsaid, would only confuse.
pub(super) fn context(
    profile_name: &str,
    profile: &Profile,
    pod: &PodSpec,
    target: Option<&Container>,
    namespace_labels: &BTreeMap<String, String>,
) -> Result<SecurityContext, StartError> {
    let level = level(namespace_labels);
    let asked = of_profile(profile);
    let Some(broken) = breaks(level, &asked, pod) else { return Ok(asked) };
    let refused = || {
        let person = format!(
            "the namespace enforces the pod security level {}, which the profile {profile_name} does not pass ({broken}): \
             use another profile, as in name~restricted",
            level.name(),
        );
        StartError::new("pod_security", person)
    };
    if !matches!(profile.preset, Preset::General | Preset::Baseline) {
        return Err(refused());
    }
    let preset = if level == Level::Restricted { Preset::Restricted } else { Preset::Baseline };
    let mut narrowed = of_profile(&Profile { preset, ..profile.clone() });
    if level == Level::Restricted && narrowed.run_as_user.is_none() {
        let pod_user = pod.security_context.as_ref().and_then(|context| context.run_as_user);
        let target_user = target.and_then(|target| target.security_context.as_ref()?.run_as_user);
        narrowed.run_as_user = Some(target_user.or(pod_user).filter(|user| *user != 0).unwrap_or(NOBODY));
    }
    match breaks(level, &narrowed, pod) {
        None => Ok(narrowed),
        Some(_) => Err(refused()),
    }
}

fn of_profile(profile: &Profile) -> SecurityContext {
    let mut add: Vec<String> = Vec::new();
    let mut drop: Vec<String> = Vec::new();
    let mut context = SecurityContext::default();
    match profile.preset {
        Preset::General => add.push("SYS_PTRACE".to_owned()),
        Preset::Baseline => {}
        Preset::Restricted => {
            context.run_as_non_root = Some(true);
            context.allow_privilege_escalation = Some(false);
            context.seccomp_profile =
                Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() });
            drop.push("ALL".to_owned());
        }
        Preset::Netadmin => add.extend(["NET_ADMIN", "NET_RAW"].map(str::to_owned)),
        Preset::Sysadmin => context.privileged = Some(true),
    }
    add.extend(profile.add_capabilities.iter().map(|name| plain(name)));
    drop.extend(profile.drop_capabilities.iter().map(|name| plain(name)));
    let capabilities = |mut names: Vec<String>| {
        names.sort();
        names.dedup();
        (!names.is_empty()).then_some(names)
    };
    let (add, drop) = (capabilities(add), capabilities(drop));
    if add.is_some() || drop.is_some() {
        context.capabilities = Some(Capabilities { add, drop });
    }
    context.run_as_user = profile.user;
    context.run_as_group = profile.group;
    context
}

/// Kubernetes writes capabilities without `CAP_`.
fn plain(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
}

fn level(namespace_labels: &BTreeMap<String, String>) -> Level {
    match namespace_labels.get(ENFORCE).map(String::as_str) {
        Some("restricted") => Level::Restricted,
        Some("baseline") => Level::Baseline,
        _ => Level::Privileged,
    }
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// What in a security context the level does not let pass.
fn breaks(level: Level, context: &SecurityContext, pod: &PodSpec) -> Option<String> {
    let names = |of: fn(&Capabilities) -> &Option<Vec<String>>| {
        context.capabilities.as_ref().and_then(|all| of(all).as_deref()).unwrap_or_default()
    };
    if level >= Level::Baseline {
        if context.privileged == Some(true) {
            return Some("it is privileged".to_owned());
        }
        let add = names(|all| &all.add);
        let beyond = add.iter().find(|name| match level {
            Level::Restricted => name.as_str() != RESTRICTED_CAPABILITY,
            _ => !BASELINE_CAPABILITIES.contains(&name.as_str()),
        });
        if let Some(name) = beyond {
            return Some(format!("it adds {name}"));
        }
    }
    if level == Level::Restricted {
        let of_pod = pod.security_context.as_ref();
        if context.allow_privilege_escalation != Some(false) {
            return Some("it allows privilege escalation".to_owned());
        }
        if !names(|all| &all.drop).iter().any(|name| name == "ALL") {
            return Some("it keeps capabilities".to_owned());
        }
        let non_root = context.run_as_non_root.or(of_pod.and_then(|of_pod| of_pod.run_as_non_root));
        let user = context.run_as_user.or(of_pod.and_then(|of_pod| of_pod.run_as_user));
        if non_root != Some(true) || user == Some(0) {
            return Some("it may run as root".to_owned());
        }
        let seccomp = context.seccomp_profile.as_ref().or(of_pod.and_then(|of_pod| of_pod.seccomp_profile.as_ref()));
        if !seccomp.is_some_and(|profile| ["RuntimeDefault", "Localhost"].contains(&profile.type_.as_str())) {
            return Some("it has no seccomp profile".to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::profile;

    fn enforced(level: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(ENFORCE.to_owned(), level.to_owned())])
    }

    fn made(profile: &Profile, level: &str) -> Result<SecurityContext, StartError> {
        context("p", profile, &PodSpec::default(), None, &enforced(level))
    }

    #[test]
    fn the_presets_are_kubectls() {
        let json = |name: &str| {
            let presets = profile::presets();
            serde_json::to_value(made(&Profile { user: None, ..presets[name].clone() }, "privileged").unwrap()).unwrap()
        };
        assert_eq!(json("general"), serde_json::json!({"capabilities": {"add": ["SYS_PTRACE"]}}));
        assert_eq!(json("baseline"), serde_json::json!({}));
        assert_eq!(json("netadmin"), serde_json::json!({"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}));
        assert_eq!(json("sysadmin"), serde_json::json!({"privileged": true}));
        let restricted = serde_json::json!({
            "runAsNonRoot": true,
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        assert_eq!(json("restricted"), restricted);
    }

    #[test]
    fn a_profile_without_wishes_is_narrowed_to_what_the_level_passes() {
        let general = made(&Profile::default(), "restricted").unwrap();
        assert_eq!((general.run_as_user, general.run_as_non_root), (Some(NOBODY), Some(true)));
        assert_eq!(general.capabilities.unwrap().drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(made(&Profile::default(), "baseline").unwrap(), SecurityContext::default());
    }

    #[test]
    fn a_profile_that_asks_for_a_right_is_refused_where_it_does_not_pass() {
        let presets = profile::presets();
        for name in ["netadmin", "sysadmin"] {
            for level in ["baseline", "restricted"] {
                let error = made(&presets[name], level).unwrap_err();
                assert_eq!(error.code(), "pod_security");
                assert!(error.person().contains(level), "{}", error.person());
            }
        }
        let root = Profile { user: Some(0), ..Profile::default() };
        assert!(made(&root, "restricted").is_err());
        let admin = Profile { add_capabilities: vec!["cap_sys_admin".to_owned()], ..Profile::default() };
        assert!(made(&admin, "baseline").unwrap_err().person().contains("SYS_ADMIN"));
        assert!(made(&presets["restricted"], "restricted").is_ok());
    }
}
