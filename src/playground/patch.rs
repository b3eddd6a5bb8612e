//! Patches: JSON merge patch (RFC 7396), and Kubernetes' strategic merge patch as far as pods need it.

use serde_json::{Map, Value};

/// Applies a merge patch: objects merge, `null` removes, all else replaces.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let target = as_object(target);
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// Applies a strategic merge patch: as above, but lists of named things merge by name.
pub(super) fn strategic(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let target = as_object(target);
    for (name, value) in patch {
        // Directives about order, which what is only appended to does not need.
        if name.starts_with('$') {
            continue;
        }
        match (key(name), value) {
            (_, Value::Null) => drop(target.remove(name)),
            (Some(key), Value::Array(patch)) => {
                strategic_list(target.entry(name.as_str()).or_insert(Value::Null), patch, key);
            }
            _ => strategic(target.entry(name.as_str()).or_insert(Value::Null), value),
        }
    }
}

/// The patch merge key of a list in a pod, from the API's `patchMergeKey`.
fn key(list: &str) -> Option<&'static str> {
    match list {
        "containers" | "ephemeralContainers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" => {
            Some("name")
        }
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "conditions" => Some("type"),
        "ownerReferences" => Some("uid"),
        _ => None,
    }
}

fn strategic_list(target: &mut Value, patch: &[Value], key: &str) {
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let Value::Array(target) = target else { return };
    for item in patch {
        let same = |other: &Value| other.get(key).is_some() && other.get(key) == item.get(key);
        let at = target.iter().position(same);
        if item.get("$patch").and_then(Value::as_str) == Some("delete") {
            if let Some(at) = at {
                target.remove(at);
            }
            continue;
        }
        match at.and_then(|at| target.get_mut(at)) {
            Some(found) => strategic(found, item),
            None => {
                let mut new = Value::Null;
                strategic(&mut new, item);
                target.push(new);
            }
        }
    }
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made an object just now")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_strategic_patch_appends_a_container_and_keeps_the_others() {
        let mut pod = json!({ "spec": { "ephemeralContainers": [{ "name": "a", "image": "x" }] } });
        let patch = json!({ "spec": {
            "$setElementOrder/ephemeralContainers": [{ "name": "a" }, { "name": "b" }],
            "ephemeralContainers": [{ "name": "b", "image": "y" }],
        } });
        strategic(&mut pod, &patch);
        let names = json!([{ "name": "a", "image": "x" }, { "name": "b", "image": "y" }]);
        assert_eq!(pod["spec"]["ephemeralContainers"], names);
    }

    #[test]
    fn a_merge_patch_replaces_the_list() {
        let mut pod =
            json!({ "spec": { "ephemeralContainers": [{ "name": "a" }] }, "metadata": { "labels": { "x": "1" } } });
        merge(
            &mut pod,
            &json!({ "spec": { "ephemeralContainers": [{ "name": "b" }] }, "metadata": { "labels": null } }),
        );
        assert_eq!(pod, json!({ "spec": { "ephemeralContainers": [{ "name": "b" }] }, "metadata": {} }));
    }
}
