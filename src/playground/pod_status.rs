//! A pod's status, as a kubelet writes it: the state of each container, and what follows for the pod.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::cluster::{Cluster, NODE_ADDRESS, Pod};
use super::store::{items, now, text};
use super::{controller, status::Refusal};

/// Writes a container's state.
pub(super) fn set(cluster: &Cluster, pod: &Pod, name: &str, ephemeral: bool, state: Value) {
    let ready = !cluster.faults.node_down();
    let updated = cluster.store.update(&pod.key, |object| {
        if text(object, "/metadata/uid") != pod.uid {
            return Err(Refusal::no_resource());
        }
        set_container(object, pod, name, ephemeral, &state);
        conclude(object, ready);
        Ok(())
    });
    // A pod that is gone has no status.
    if updated.is_ok() {
        controller::sync_endpoints(cluster, &pod.key.namespace);
    }
}

/// A pod's status before its containers run.
pub(super) fn initial(object: &mut Value, address: std::net::Ipv4Addr) {
    object["status"] = json!({
        "phase": "Pending",
        "hostIP": NODE_ADDRESS,
        "hostIPs": [{ "ip": NODE_ADDRESS }],
        "podIP": address.to_string(),
        "podIPs": [{ "ip": address.to_string() }],
        "startTime": now(),
        "qosClass": "BestEffort",
        "conditions": [],
        "containerStatuses": [],
    });
    let waiting = json!({ "waiting": { "reason": "ContainerCreating" } });
    let names: Vec<String> =
        items(object, "/spec/containers").iter().map(|spec| text(spec, "/name").to_owned()).collect();
    for name in names {
        let entry = entry(object, &name, false, &waiting);
        push(object, "containerStatuses", entry);
    }
    conclude(object, true);
}

/// Which of the pod's conditions follow from its containers' states.
pub(super) fn conclude(object: &mut Value, node_ready: bool) {
    let statuses = items(object, "/status/containerStatuses").to_vec();
    let unready: Vec<&str> = statuses
        .iter()
        .filter(|status| !status["ready"].as_bool().unwrap_or(false))
        .map(|status| text(status, "/name"))
        .collect();
    let ready = unready.is_empty() && node_ready;
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    let ended = |status: &Value| status.pointer("/state/terminated").is_some();
    let stays = text(object, "/spec/restartPolicy") != "Always";
    let phase = if stays && !statuses.is_empty() && statuses.iter().all(ended) {
        let failed = |status: &Value| status.pointer("/state/terminated/exitCode") != Some(&json!(0));
        if statuses.iter().any(failed) { "Failed" } else { "Succeeded" }
    } else if statuses.iter().any(|status| {
        status.pointer("/state/running").is_some() || status.pointer("/lastState/terminated").is_some() || ended(status)
    }) {
        "Running"
    } else {
        "Pending"
    };
    object["status"]["phase"] = json!(phase);
    let before = items(object, "/status/conditions").to_vec();
    let conditions: Vec<Value> = [
        ("PodReadyToStartContainers", true),
        ("Initialized", true),
        ("Ready", ready),
        ("ContainersReady", ready),
        ("PodScheduled", true),
    ]
    .into_iter()
    .map(|(kind, holds)| {
        let value = if holds { "True" } else { "False" };
        let same = before.iter().find(|was| text(was, "/type") == kind && text(was, "/status") == value);
        let since = same.map_or_else(now, |same| text(same, "/lastTransitionTime").to_owned());
        let mut condition =
            json!({ "type": kind, "status": value, "lastTransitionTime": since, "lastProbeTime": null });
        if !holds {
            condition["reason"] = json!("ContainersNotReady");
            condition["message"] = json!(message);
        }
        condition
    })
    .collect();
    object["status"]["conditions"] = json!(conditions);
}

pub(super) fn container_id(uid: &str, name: &str, restarts: u32) -> String {
    let digest = Sha256::digest(format!("{uid}/{name}/{restarts}"));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("containerd://{hex}")
}

fn set_container(object: &mut Value, pod: &Pod, name: &str, ephemeral: bool, state: &Value) {
    let list = if ephemeral { "ephemeralContainerStatuses" } else { "containerStatuses" };
    let known = items(object, &format!("/status/{list}")).iter().position(|status| text(status, "/name") == name);
    let running = state.get("running").is_some();
    let Some(at) = known else {
        let entry = entry(object, name, ephemeral, state);
        push(object, list, entry);
        return set_container(object, pod, name, ephemeral, state);
    };
    let status = &mut object["status"][list][at];
    if status.pointer("/state/terminated").is_some() && state.get("terminated").is_none() {
        status["lastState"] = status["state"].take();
    }
    let mut restarts = status["restartCount"].as_u64().unwrap_or(0);
    if running {
        if status.pointer("/lastState/terminated").is_some() {
            restarts += 1;
            status["restartCount"] = json!(restarts);
        }
        let restarts = u32::try_from(restarts).unwrap_or(u32::MAX);
        status["containerID"] = json!(container_id(&pod.uid, name, restarts));
        let image = status["image"].as_str().unwrap_or_default().to_owned();
        let digest: String = Sha256::digest(image).iter().map(|byte| format!("{byte:02x}")).collect();
        status["imageID"] = json!(format!("sha256:{digest}"));
    }
    status["state"] = state.clone();
    // An ephemeral container is never ready.
    status["ready"] = json!(running && !ephemeral);
    if !ephemeral {
        status["started"] = json!(running);
    }
}

fn entry(object: &Value, name: &str, ephemeral: bool, state: &Value) -> Value {
    let list = if ephemeral { "/spec/ephemeralContainers" } else { "/spec/containers" };
    let spec = items(object, list).iter().find(|spec| text(spec, "/name") == name);
    json!({
        "name": name,
        "image": spec.map_or("", |spec| text(spec, "/image")),
        "imageID": "",
        "lastState": {},
        "ready": false,
        "restartCount": 0,
        "state": state,
    })
}

fn push(object: &mut Value, list: &str, entry: Value) {
    match &mut object["status"][list] {
        Value::Array(list) => list.push(entry),
        other => *other = json!([entry]),
    }
}
