//! The `ephemeralcontainers` subresource: what may be added to a pod, and that nothing is ever taken back.

use std::sync::Arc;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::security;
use super::status::Refusal;
use super::store::{Key, items, text};

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
/// What a container that joins a running pod may not have, as the API server tells it.
const FORBIDDEN: [&str; 6] = ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources"];

type Cause = (String, &'static str, String);

/// Writes the ephemeral containers that `edit` makes of the pod, and nothing else of what it makes.
pub(super) fn write(
    cluster: &Arc<Cluster>,
    key: &Key,
    edit: impl FnOnce(&mut Value) -> Result<(), Refusal>,
) -> Result<Arc<Value>, Refusal> {
    let namespace = cluster.store.read(&Key::new(super::resource::Kind::Namespace, "", &key.namespace));
    let quota_exceeded = cluster.faults.quota_exceeded();
    let object = cluster.store.update(key, |pod| {
        let mut wanted = pod.clone();
        edit(&mut wanted)?;
        check_version(pod, &wanted, key)?;
        let mut list = items(&wanted, "/spec/ephemeralContainers").to_vec();
        list.iter_mut().for_each(set_defaults);
        let causes = validate(pod, &list);
        if !causes.is_empty() {
            return Err(Refusal::invalid("Pod", &key.name, &causes));
        }
        let before = items(pod, "/spec/ephemeralContainers").len();
        if !list.is_empty() {
            pod["spec"]["ephemeralContainers"] = json!(list);
        }
        if let Some(namespace) = &namespace {
            security::admit(namespace, pod).map_err(|why| Refusal::forbidden("pods", &key.name, &why))?;
        }
        if quota_exceeded && list.len() > before {
            let why = "exceeded quota: debug, requested: pods=1, used: pods=10, limited: pods=10";
            return Err(Refusal::forbidden("pods", &key.name, why));
        }
        Ok(())
    })?;
    if let Some(pod) = cluster.pod(text(&object, "/metadata/uid")) {
        pod.wake.notify_one();
    }
    Ok(object)
}

fn check_version(pod: &Value, wanted: &Value, key: &Key) -> Result<(), Refusal> {
    let version = text(wanted, "/metadata/resourceVersion");
    let stale = !version.is_empty() && version != text(pod, "/metadata/resourceVersion");
    let uid = text(wanted, "/metadata/uid");
    if stale {
        return Err(Refusal::conflict("pods", &key.name));
    }
    if uid != text(pod, "/metadata/uid") {
        let why = format!("Invalid value: {uid:?}: field is immutable");
        return Err(Refusal::invalid("Pod", &key.name, &[("metadata.uid".into(), "FieldValueInvalid", why)]));
    }
    Ok(())
}

/// What the API server fills in.
pub(super) fn set_defaults(container: &mut Value) {
    let latest = match text(container, "/image").rsplit_once(':') {
        Some((_, tag)) => tag == "latest" || tag.contains('/'),
        None => true,
    };
    for (field, value) in [
        ("resources", json!({})),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("imagePullPolicy", json!(if latest { "Always" } else { "IfNotPresent" })),
    ] {
        if container.get(field).is_none_or(Value::is_null) {
            container[field] = value;
        }
    }
}

fn validate(pod: &Value, wanted: &[Value]) -> Vec<Cause> {
    let mut causes = Vec::new();
    let path = "spec.ephemeralContainers";
    for before in items(pod, "/spec/ephemeralContainers") {
        let name = text(before, "/name");
        let what = match wanted.iter().find(|wanted| text(wanted, "/name") == name) {
            None => "removed",
            Some(same) if same != before => "changed",
            Some(_) => continue,
        };
        let why = format!("Forbidden: existing ephemeral containers {name:?} may not be {what}\n");
        causes.push((path.to_owned(), "FieldValueForbidden", why));
    }
    let main: Vec<&str> = ["/spec/containers", "/spec/initContainers"]
        .iter()
        .flat_map(|list| items(pod, list))
        .map(|container| text(container, "/name"))
        .collect();
    for (at, container) in wanted.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let name = text(container, "/name");
        let twice = wanted.iter().take(at).any(|other| text(other, "/name") == name);
        if name.is_empty() {
            causes.push((format!("{path}.name"), "FieldValueRequired", "Required value".into()));
        } else if !is_label(name) {
            causes.push((format!("{path}.name"), "FieldValueInvalid", format!("Invalid value: {name:?}: {LABEL}")));
        } else if twice || main.contains(&name) {
            causes.push((format!("{path}.name"), "FieldValueDuplicate", format!("Duplicate value: {name:?}")));
        }
        if text(container, "/image").is_empty() {
            causes.push((format!("{path}.image"), "FieldValueRequired", "Required value".into()));
        }
        let target = text(container, "/targetContainerName");
        if !target.is_empty() && !main.contains(&target) {
            let why = format!("Not found: {target:?}");
            causes.push((format!("{path}.targetContainerName"), "FieldValueNotFound", why));
        }
        causes.extend(forbidden_fields(&path, container));
        causes.extend(missing_volumes(&path, pod, container));
    }
    causes
}

fn forbidden_fields<'a>(path: &'a str, container: &'a Value) -> impl Iterator<Item = Cause> + 'a {
    let set = |field: &&&str| match container.get(**field) {
        None | Some(Value::Null) => false,
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(_) => true,
    };
    FORBIDDEN.iter().filter(set).map(move |field| {
        let why = "Forbidden: cannot be set for an Ephemeral Container".to_owned();
        (format!("{path}.{field}"), "FieldValueForbidden", why)
    })
}

fn missing_volumes<'a>(path: &'a str, pod: &'a Value, container: &'a Value) -> impl Iterator<Item = Cause> + 'a {
    let volumes: Vec<&str> = items(pod, "/spec/volumes").iter().map(|volume| text(volume, "/name")).collect();
    items(container, "/volumeMounts").iter().enumerate().flat_map(move |(at, mount)| {
        let name = text(mount, "/name");
        let path = format!("{path}.volumeMounts[{at}]");
        let missing = (!volumes.contains(&name))
            .then(|| (format!("{path}.name"), "FieldValueNotFound", format!("Not found: {name:?}")));
        let part = (!text(mount, "/subPath").is_empty()).then(|| {
            let why = "Forbidden: cannot be set for an Ephemeral Container".to_owned();
            (format!("{path}.subPath"), "FieldValueForbidden", why)
        });
        missing.into_iter().chain(part)
    })
}

fn is_label(name: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    name.len() <= 63
        && edge(name.bytes().next())
        && edge(name.bytes().last())
        && name.bytes().all(|byte| edge(Some(byte)) || byte == b'-')
}
