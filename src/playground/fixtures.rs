//! The places of the playground: some of everything that a newcomer would meet in a company's cluster.

use std::sync::Arc;

use serde_json::{Value, json};

use super::cluster::{Cluster, NODE, NODE_ADDRESS};
use super::controller::{create_pod, create_workload};
use super::resource::Kind;
use super::status::Refusal;

pub(super) fn create(cluster: &Arc<Cluster>) -> Result<(), Refusal> {
    cluster.store.create(Kind::Node, node(true))?;
    let enforce = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    for (name, labels) in [
        ("default", json!({})),
        ("demo", json!({ "team": "demo" })),
        ("team", json!({ "team": "other" })),
        ("secret", json!({ "team": "vault" })),
        ("restricted", enforce),
    ] {
        create_namespace(cluster, name, labels)?;
    }
    service(cluster, "demo", "web")?;
    workload(cluster, Kind::Deployment, "demo", "web", 2, container("web", "playground/web:1"))?;
    workload(cluster, Kind::StatefulSet, "demo", "db", 1, container("db", "playground/db:1"))?;
    pod(cluster, "demo", "distroless", container("app", "playground/distroless:1"))?;
    pod(cluster, "demo", "broken", container("app", "registry.invalid/nope:1"))?;
    service(cluster, "team", "api")?;
    workload(cluster, Kind::Deployment, "team", "api", 2, container("api", "playground/web:1"))?;
    pod(cluster, "secret", "vault", container("vault", "playground/web:1"))?;
    let user = |uid: u32| json!({ "runAsNonRoot": true, "runAsUser": uid, "runAsGroup": uid });
    let mut own = spec(container("app", "playground/app:1"));
    own["securityContext"] = user(10001);
    pod_of(cluster, "demo", "uid10001", own)?;
    let mut app = container("app", "playground/app:1");
    app["securityContext"] = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    let mut restricted = spec(app);
    restricted["securityContext"] = user(65532);
    restricted["securityContext"]["seccompProfile"] = json!({ "type": "RuntimeDefault" });
    pod_of(cluster, "restricted", "app", restricted)
}

pub(super) fn create_namespace(cluster: &Arc<Cluster>, name: &str, mut labels: Value) -> Result<Arc<Value>, Refusal> {
    labels["kubernetes.io/metadata.name"] = json!(name);
    cluster.store.create(
        Kind::Namespace,
        json!({
            "metadata": { "name": name, "labels": labels },
            "spec": { "finalizers": ["kubernetes"] },
            "status": { "phase": "Active" },
        }),
    )
}

pub(super) fn node(ready: bool) -> Value {
    let status = if ready { "True" } else { "Unknown" };
    json!({
        "metadata": { "name": NODE, "labels": { "kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux" } },
        "spec": {},
        "status": {
            "addresses": [{ "type": "InternalIP", "address": NODE_ADDRESS }],
            "conditions": [{ "type": "Ready", "status": status }],
        },
    })
}

fn container(name: &str, image: &str) -> Value {
    let mut container = json!({
        "name": name,
        "image": image,
        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
    });
    if image != "playground/distroless:1" && image != "playground/db:1" {
        container["ports"] = json!([{ "name": "http", "containerPort": 8080, "protocol": "TCP" }]);
    }
    container
}

fn spec(container: Value) -> Value {
    json!({
        "containers": [container],
        "volumes": [{ "name": "data", "emptyDir": {} }],
        "terminationGracePeriodSeconds": 1,
    })
}

fn pod(cluster: &Arc<Cluster>, namespace: &str, name: &str, container: Value) -> Result<(), Refusal> {
    pod_of(cluster, namespace, name, spec(container))
}

fn pod_of(cluster: &Arc<Cluster>, namespace: &str, name: &str, spec: Value) -> Result<(), Refusal> {
    let metadata = json!({ "name": name, "namespace": namespace, "labels": { "app": name } });
    create_pod(cluster, json!({ "metadata": metadata, "spec": spec })).map(drop)
}

fn workload(
    cluster: &Arc<Cluster>,
    kind: Kind,
    namespace: &str,
    name: &str,
    replicas: u32,
    container: Value,
) -> Result<(), Refusal> {
    let labels = json!({ "app": name });
    let object = json!({
        "metadata": { "name": name, "namespace": namespace, "labels": labels },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": spec(container) },
        },
        "status": { "replicas": replicas, "readyReplicas": replicas },
    });
    create_workload(cluster, kind, object).map(drop)
}

fn service(cluster: &Arc<Cluster>, namespace: &str, name: &str) -> Result<(), Refusal> {
    let object = json!({
        "metadata": { "name": name, "namespace": namespace, "labels": { "app": name } },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.20",
            "selector": { "app": name },
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP" }],
        },
        "status": { "loadBalancer": {} },
    });
    cluster.store.create(Kind::Service, object).map(drop)
}
