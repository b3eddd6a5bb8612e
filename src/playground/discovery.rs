//! What a client asks before it knows anything: health, version, groups and resources.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::resource::Kind;

const GROUPS: [(&str, &str); 5] = [
    ("apps", "apps/v1"),
    ("batch", "batch/v1"),
    ("discovery.k8s.io", "discovery.k8s.io/v1"),
    ("authorization.k8s.io", "authorization.k8s.io/v1"),
    ("coordination.k8s.io", "coordination.k8s.io/v1"),
];

pub(super) fn answer(path: &str) -> Option<Response> {
    let answer = match path {
        "/healthz" | "/readyz" | "/livez" => return Some("ok".into_response()),
        "/version" => json!({
            "major": "1",
            "minor": "33",
            "gitVersion": "v1.33.0+playground",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "",
            "platform": "linux/amd64",
        }),
        "/api" => json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }),
        "/apis" => json!({
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": GROUPS.iter().map(|(name, version)| {
                let version = json!({ "groupVersion": version, "version": "v1" });
                json!({ "name": name, "versions": [version], "preferredVersion": version })
            }).collect::<Vec<_>>(),
        }),
        "/api/v1" => resources("v1"),
        _ => {
            let version = path.strip_prefix("/apis/")?;
            GROUPS.iter().find(|(_, known)| *known == version)?;
            resources(version)
        }
    };
    Some(Json(answer).into_response())
}

fn resources(version: &str) -> Value {
    let mut resources: Vec<Value> = Kind::ALL
        .iter()
        .filter(|kind| kind.api_version() == version)
        .map(|kind| {
            let verbs = ["create", "delete", "get", "list", "patch", "watch"];
            resource(kind.plural(), kind.name(), kind.namespaced(), &verbs)
        })
        .collect();
    if version == "v1" {
        for (name, kind, verbs) in [
            ("pods/attach", "PodAttachOptions", ["create", "get", ""]),
            ("pods/exec", "PodExecOptions", ["create", "get", ""]),
            ("pods/portforward", "PodPortForwardOptions", ["create", "get", ""]),
            ("pods/log", "Pod", ["get", "", ""]),
            ("pods/ephemeralcontainers", "Pod", ["get", "patch", "update"]),
        ] {
            resources.push(resource(name, kind, true, &verbs));
        }
    }
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources })
}

fn resource(name: &str, kind: &str, namespaced: bool, verbs: &[&str]) -> Value {
    let verbs: Vec<_> = verbs.iter().filter(|verb| !verb.is_empty()).collect();
    let short = match name {
        "pods" => json!(["po"]),
        "namespaces" => json!(["ns"]),
        "services" => json!(["svc"]),
        "deployments" => json!(["deploy"]),
        _ => json!([]),
    };
    json!({
        "name": name,
        "singularName": kind.to_lowercase(),
        "kind": kind,
        "namespaced": namespaced,
        "verbs": verbs,
        "shortNames": short,
    })
}
