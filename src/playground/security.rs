//! Pod Security admission: what a namespace's `pod-security.kubernetes.io/enforce` label lets into a pod.
//!
//! The checks of `baseline` and `restricted` that concern containers, with the sentences of the real plug-in.

use serde_json::{Value, json};

use super::store::{items, text};

const ENFORCE: &str = "/metadata/labels/pod-security.kubernetes.io~1enforce";
const VERSION: &str = "/metadata/labels/pod-security.kubernetes.io~1enforce-version";
/// Capabilities that `baseline` lets a container add.
const BASELINE: [&str; 13] = [
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

/// # Errors
///
/// With the sentence that follows `is forbidden: `.
pub(super) fn admit(namespace: &Value, pod: &Value) -> Result<(), String> {
    let level = text(namespace, ENFORCE);
    let violations = match level {
        "restricted" => [privileged(pod), restricted(pod)].concat(),
        "baseline" => [privileged(pod), capabilities(pod), seccomp_baseline(pod)].concat(),
        _ => return Ok(()),
    };
    if violations.is_empty() {
        return Ok(());
    }
    let version = Some(text(namespace, VERSION)).filter(|version| !version.is_empty()).unwrap_or("latest");
    Err(format!("violates PodSecurity \"{level}:{version}\": {}", violations.join(", ")))
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"].iter().flat_map(|list| items(pod, list))
}

/// The containers for which `bad` holds, named as the plug-in names them: `container "a"`, `containers "a", "b"`.
fn named<'a>(pod: &'a Value, bad: impl Fn(&Value) -> bool) -> Option<String> {
    let names: Vec<String> = containers(pod)
        .filter(|container| bad(container))
        .map(|container: &'a Value| format!("{:?}", text(container, "/name")))
        .collect();
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("container {one}")),
        many => Some(format!("containers {}", many.join(", "))),
    }
}

fn context<'a>(container: &'a Value, field: &str) -> Option<&'a Value> {
    container.pointer(&format!("/securityContext/{field}")).filter(|value| !value.is_null())
}

fn privileged(pod: &Value) -> Vec<String> {
    let who = named(pod, |container| context(container, "privileged") == Some(&json!(true)));
    who.map(|who| format!("privileged ({who} must not set securityContext.privileged=true)")).into_iter().collect()
}

fn added<'a>(pod: &'a Value, allowed: &'a [&str]) -> Option<(String, String)> {
    let bad = |container: &Value| -> Vec<String> {
        items(container, "/securityContext/capabilities/add")
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| !allowed.contains(name))
            .map(|name| format!("{name:?}"))
            .collect()
    };
    let who = named(pod, |container| !bad(container).is_empty())?;
    let mut what: Vec<String> = containers(pod).flat_map(bad).collect();
    what.sort();
    what.dedup();
    Some((who, what.join(", ")))
}

fn capabilities(pod: &Value) -> Vec<String> {
    let who = added(pod, &BASELINE);
    who.map(|(who, what)| {
        format!("non-default capabilities ({who} must not include {what} in securityContext.capabilities.add)")
    })
    .into_iter()
    .collect()
}

fn seccomp_baseline(pod: &Value) -> Vec<String> {
    let who = named(pod, |container| text(container, "/securityContext/seccompProfile/type") == "Unconfined");
    who.map(|who| format!("seccompProfile ({who} must not set securityContext.seccompProfile.type to \"Unconfined\")"))
        .into_iter()
        .collect()
}

fn restricted(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(who) = named(pod, |container| context(container, "allowPrivilegeEscalation") != Some(&json!(false))) {
        let must = "must set securityContext.allowPrivilegeEscalation=false";
        found.push(format!("allowPrivilegeEscalation != false ({who} {must})"));
    }
    let keeps = named(pod, |container| !items(container, "/securityContext/capabilities/drop").contains(&json!("ALL")));
    let keeps = keeps.map(|who| format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    let adds = added(pod, &["NET_BIND_SERVICE"])
        .map(|(who, what)| format!("{who} must not include {what} in securityContext.capabilities.add"));
    let both: Vec<String> = keeps.into_iter().chain(adds).collect();
    if !both.is_empty() {
        found.push(format!("unrestricted capabilities ({})", both.join("; ")));
    }
    let of_pod = |field: &str| pod.pointer(&format!("/spec/securityContext/{field}"));
    let non_root = of_pod("runAsNonRoot") == Some(&json!(true));
    let may_be_root = named(pod, |container| match context(container, "runAsNonRoot") {
        Some(value) => value != &json!(true),
        None => !non_root,
    });
    if let Some(who) = may_be_root {
        found.push(format!("runAsNonRoot != true (pod or {who} must set securityContext.runAsNonRoot=true)"));
    }
    if let Some(who) = named(pod, |container| context(container, "runAsUser") == Some(&json!(0))) {
        found.push(format!("runAsUser=0 ({who} must not set runAsUser=0)"));
    }
    let good = |kind: &str| ["RuntimeDefault", "Localhost"].contains(&kind);
    let pod_kind = pod.pointer("/spec/securityContext/seccompProfile/type").and_then(Value::as_str).unwrap_or("");
    let loose = named(pod, |container| match text(container, "/securityContext/seccompProfile/type") {
        "" => !good(pod_kind),
        kind => !good(kind),
    });
    if let Some(who) = loose {
        let must = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
        found.push(format!("seccompProfile (pod or {who} {must})"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_container_is_refused_in_the_plug_ins_words() {
        let namespace = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } });
        let pod = json!({ "spec": { "containers": [], "ephemeralContainers": [{ "name": "y" }] } });
        assert_eq!(
            admit(&namespace, &pod).unwrap_err(),
            "violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"y\" must set \
             securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"y\" must set \
             securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"y\" must set \
             securityContext.runAsNonRoot=true), seccompProfile (pod or container \"y\" must set \
             securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
    }

    #[test]
    fn a_namespace_without_a_level_admits_all() {
        assert_eq!(admit(&json!({ "metadata": {} }), &json!({})), Ok(()));
    }
}
