//! The controllers: make the pods that workloads ask for, replace those that go, and keep Services' endpoints.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::cluster::{Cluster, NODE, Pod};
use super::resource::Kind;
use super::status::Refusal;
use super::store::{Key, items, now, text};
use super::{kubelet, pod_status};

/// The letters of the random ends of names: no vowels, so no words.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Creates a pod and runs it.
pub(super) fn create_pod(cluster: &Arc<Cluster>, mut object: Value) -> Result<Arc<Value>, Refusal> {
    let namespace = text(&object, "/metadata/namespace").to_owned();
    if cluster.store.read(&Key::new(Kind::Namespace, "", &namespace)).is_none() {
        return Err(Refusal::not_found("namespaces", &namespace));
    }
    let name = text(&object, "/metadata/name").to_owned();
    let generate = text(&object, "/metadata/generateName").to_owned();
    if name.is_empty() && !generate.is_empty() {
        object["metadata"]["name"] = json!(format!("{generate}{}", random_letters()));
    }
    if items(&object, "/spec/containers").is_empty() {
        let causes = [("spec.containers".to_owned(), "FieldValueRequired", "Required value".to_owned())];
        return Err(Refusal::invalid("Pod", &name, &causes));
    }
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("serviceAccountName", json!("default")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
    ] {
        if object["spec"].get(field).is_none() {
            object["spec"][field] = value;
        }
    }
    // A pod of another node is an object and no more: its own kubelet would run it, and say its status.
    if !["", NODE].contains(&text(&object, "/spec/nodeName")) {
        return cluster.store.create(Kind::Pod, object);
    }
    object["spec"]["nodeName"] = json!(NODE);
    if let Some(containers) = object["spec"]["containers"].as_array_mut() {
        containers.iter_mut().for_each(super::ephemeral::set_defaults);
    }
    let address = cluster.next_address();
    pod_status::initial(&mut object, address);
    let object = cluster.store.create(Kind::Pod, object)?;
    let pod = cluster.add_pod(&object, address);
    cluster.tasks.spawn(kubelet::run_pod(cluster.clone(), pod));
    Ok(object)
}

/// Starts the deletion of a pod: its containers get the time that the pod names, or that the caller does.
pub(super) fn delete_pod(cluster: &Arc<Cluster>, key: &Key, grace: Option<u64>) -> Result<Arc<Value>, Refusal> {
    let mut seconds = 0;
    let object = cluster.store.update(key, |object| {
        let own = object.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
        seconds = grace.or(own).unwrap_or(30);
        if object.pointer("/metadata/deletionTimestamp").is_none() {
            object["metadata"]["deletionTimestamp"] = json!(now());
        }
        object["metadata"]["deletionGracePeriodSeconds"] = json!(seconds);
        Ok(())
    })?;
    let pod = cluster.pod(text(&object, "/metadata/uid"));
    if seconds == 0 || pod.is_none() {
        // Without grace the API server does not wait for the node.
        cluster.store.delete(key);
    }
    if let Some(pod) = pod {
        pod.end(seconds);
    }
    sync_endpoints(cluster, &key.namespace);
    replace(cluster, &object, Kind::ReplicaSet);
    Ok(object)
}

/// The node has no more of the pod.
pub(super) fn forget(cluster: &Arc<Cluster>, pod: &Pod) {
    let Some(object) = cluster.store.read(&pod.key).filter(|object| text(object, "/metadata/uid") == pod.uid) else {
        return;
    };
    if cluster.stopping.is_cancelled() {
        return;
    }
    cluster.store.delete(&pod.key);
    sync_endpoints(cluster, &pod.key.namespace);
    replace(cluster, &object, Kind::StatefulSet);
    replace(cluster, &object, Kind::DaemonSet);
}

/// Makes another pod like this one, if an owner of this kind asks for it.
fn replace(cluster: &Arc<Cluster>, gone: &Value, kind: Kind) {
    let owner = items(gone, "/metadata/ownerReferences").iter().find(|owner| text(owner, "/kind") == kind.name());
    let Some(owner) = owner else { return };
    let namespace = text(gone, "/metadata/namespace");
    let Some(owner) = cluster.store.read(&Key::new(kind, namespace, text(owner, "/name"))) else { return };
    let same = (kind == Kind::StatefulSet).then(|| text(gone, "/metadata/name"));
    if let Err(refusal) = create_pod(cluster, pod_of(&owner, kind, same)) {
        tracing::debug!(?refusal, "a replacement was not created");
    }
}

/// Creates a workload and all that follows from it.
pub(super) fn create_workload(cluster: &Arc<Cluster>, kind: Kind, object: Value) -> Result<Arc<Value>, Refusal> {
    let replicas = object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let object = cluster.store.create(kind, object)?;
    match kind {
        Kind::Deployment => {
            create_workload(cluster, Kind::ReplicaSet, replica_set(&object))?;
        }
        Kind::StatefulSet => {
            for ordinal in 0..replicas {
                let name = format!("{}-{ordinal}", text(&object, "/metadata/name"));
                create_pod(cluster, pod_of(&object, kind, Some(&name)))?;
            }
        }
        Kind::ReplicaSet => {
            for _ in 0..replicas {
                create_pod(cluster, pod_of(&object, kind, None))?;
            }
        }
        Kind::DaemonSet | Kind::Job => {
            create_pod(cluster, pod_of(&object, kind, None))?;
        }
        _ => {}
    }
    Ok(object)
}

fn replica_set(deployment: &Value) -> Value {
    let mut spec = deployment["spec"].clone();
    let digest = Sha256::digest(spec.to_string());
    let hash: String = digest.iter().take(10).map(letter).collect();
    spec["template"]["metadata"]["labels"]["pod-template-hash"] = json!(hash);
    json!({
        "metadata": {
            "name": format!("{}-{hash}", text(deployment, "/metadata/name")),
            "namespace": deployment["metadata"]["namespace"],
            "labels": spec["template"]["metadata"]["labels"],
            "ownerReferences": [reference(deployment, Kind::Deployment)],
        },
        "spec": spec,
        "status": { "replicas": spec["replicas"] },
    })
}

fn pod_of(owner: &Value, kind: Kind, name: Option<&str>) -> Value {
    let template = &owner["spec"]["template"];
    let generate = format!("{}-", text(owner, "/metadata/name"));
    let mut metadata = template["metadata"].clone();
    metadata["namespace"] = owner["metadata"]["namespace"].clone();
    metadata["ownerReferences"] = json!([reference(owner, kind)]);
    metadata["generateName"] = json!(generate);
    metadata["name"] = json!(name.map_or_else(|| format!("{generate}{}", random_letters()), str::to_owned));
    json!({ "metadata": metadata, "spec": template["spec"] })
}

fn reference(owner: &Value, kind: Kind) -> Value {
    json!({
        "apiVersion": kind.api_version(),
        "kind": kind.name(),
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

fn letter(byte: &u8) -> char {
    LETTERS.get(usize::from(*byte) % LETTERS.len()).copied().map_or('x', char::from)
}

fn random_letters() -> String {
    rand::random::<[u8; 5]>().iter().map(letter).collect()
}

/// Writes the endpoints of the namespace's Services from its pods.
pub(super) fn sync_endpoints(cluster: &Cluster, namespace: &str) {
    let (_, services) = cluster.store.list(Kind::Service, Some(namespace));
    let (_, pods) = cluster.store.list(Kind::Pod, Some(namespace));
    for service in services {
        let Some(selector) = service.pointer("/spec/selector").and_then(Value::as_object) else { continue };
        let chosen =
            |pod: &&Arc<Value>| selector.iter().all(|(name, value)| pod["metadata"]["labels"].get(name) == Some(value));
        let endpoints: Vec<Value> = pods.iter().filter(chosen).map(|pod| endpoint(pod)).collect();
        let name = text(&service, "/metadata/name");
        let slice = format!("{name}-{}", text(&service, "/metadata/uid").get(..5).unwrap_or("slice"));
        let key = Key::new(Kind::EndpointSlice, namespace, &slice);
        let updated = cluster.store.update(&key, |object| {
            object["endpoints"] = json!(endpoints);
            Ok(())
        });
        if updated.is_err() {
            let ports: Vec<Value> = items(&service, "/spec/ports")
                .iter()
                .map(|port| json!({ "name": port["name"], "port": port["targetPort"], "protocol": "TCP" }))
                .collect();
            // Another call may have made it meanwhile; the next change sets it right.
            let _ = cluster.store.create(
                Kind::EndpointSlice,
                json!({
                    "metadata": {
                        "name": slice,
                        "namespace": namespace,
                        "labels": {
                            "kubernetes.io/service-name": name,
                            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                        },
                        "ownerReferences": [reference(&service, Kind::Service)],
                    },
                    "addressType": "IPv4",
                    "endpoints": endpoints,
                    "ports": ports,
                }),
            );
        }
    }
}

fn endpoint(pod: &Value) -> Value {
    let ready = items(pod, "/status/conditions")
        .iter()
        .any(|condition| text(condition, "/type") == "Ready" && text(condition, "/status") == "True");
    let terminating = pod.pointer("/metadata/deletionTimestamp").is_some();
    json!({
        "addresses": [pod["status"]["podIP"]],
        "conditions": { "ready": ready && !terminating, "serving": ready, "terminating": terminating },
        "nodeName": NODE,
        "targetRef": {
            "kind": "Pod",
            "name": pod["metadata"]["name"],
            "namespace": pod["metadata"]["namespace"],
            "uid": pod["metadata"]["uid"],
        },
    })
}
