//! Access reviews: what the token's holder may do, which here is what Porthole's role allows in a cluster.

use serde_json::{Value, json};

use super::store::text;

/// The kind that a path's reviews have.
pub(super) fn review(path: &str) -> Option<&'static str> {
    match path {
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => Some("SelfSubjectAccessReview"),
        "/apis/authorization.k8s.io/v1/subjectaccessreviews" => Some("SubjectAccessReview"),
        _ => None,
    }
}

/// Writes the answer into the review.
pub(super) fn decide(kind: &str, review: &mut Value) {
    let of = |name: &str| text(review, &format!("/spec/resourceAttributes/{name}"));
    let (verb, resource, subresource) = (of("verb"), of("resource"), of("subresource"));
    let read = ["get", "list", "watch"].contains(&verb);
    let allowed = match (resource, subresource) {
        ("pods", "attach" | "exec" | "portforward") => ["get", "create"].contains(&verb),
        ("pods", "ephemeralcontainers") => ["get", "patch", "update"].contains(&verb),
        ("pods", "log" | "status") => verb == "get",
        (
            "pods" | "namespaces" | "services" | "endpointslices" | "deployments" | "statefulsets" | "daemonsets"
            | "replicasets" | "jobs" | "cronjobs" | "nodes",
            "",
        ) => read,
        ("events", "") => ["list", "watch"].contains(&verb),
        ("leases", "") => ["create", "delete", "list", "patch", "watch"].contains(&verb),
        ("selfsubjectaccessreviews" | "subjectaccessreviews", "") => verb == "create",
        _ => false,
    };
    review["kind"] = json!(kind);
    review["apiVersion"] = json!("authorization.k8s.io/v1");
    review["status"] = if allowed {
        json!({ "allowed": true, "reason": "RBAC: allowed by ClusterRoleBinding \"porthole\"" })
    } else {
        json!({ "allowed": false })
    };
}
