//! The API server's front: who may come in, and which part answers.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, Method, Request, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::cluster::Cluster;
use super::fault::Wish;
use super::list::{self, View};
use super::listener::Connection;
use super::resource::{Kind, Place};
use super::status::Refusal;
use super::store::{Key, text};
use super::{access, controller, discovery, ephemeral, fixtures, patch, pod_status, pod_stream};

/// The longest body, in bytes: an API server takes 3 MiB.
const LONGEST_BODY: usize = 3 * 1024 * 1024;

/// The door: the cluster behind it and the token that opens it.
pub(super) struct Door {
    pub cluster: Arc<Cluster>,
    pub token: String,
}

/// Answers a request. Every refusal is a `Status`.
pub(super) async fn answer(State(door): State<Arc<Door>>, request: Request<Body>) -> Response {
    let cluster = &door.cluster;
    let latency = cluster.faults.latency();
    if !latency.is_zero() && !request.uri().path().starts_with("/playground/") {
        tokio::time::sleep(latency).await;
    }
    if !opens(&door.token, request.headers()) {
        return Refusal::unauthorized().into_response();
    }
    route(cluster, request).await.unwrap_or_else(IntoResponse::into_response)
}

fn opens(token: &str, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    // In a time that does not tell how much of it was right.
    let same = given.bytes().zip(token.bytes()).fold(0, |wrong, (a, b)| wrong | (a ^ b)) == 0;
    same && given.len() == token.len()
}

async fn route(cluster: &Arc<Cluster>, request: Request<Body>) -> Result<Response, Refusal> {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    if let Some(answer) = discovery::answer(&path) {
        return Ok(answer);
    }
    if path == "/playground/faults" {
        return grant(cluster, request).await;
    }
    if let Some(kind) = access::review(&path) {
        let mut review: Value = read(request).await?.1;
        access::decide(kind, &mut review);
        return Ok((http::StatusCode::CREATED, Json(review)).into_response());
    }
    let place = Place::parse(&path).ok_or_else(Refusal::no_resource)?;
    match (&place.name, place.subresource.as_deref()) {
        (None, _) => collection(cluster, &place, request).await,
        (Some(name), None | Some("status")) => {
            let key = Key::new(place.kind, place.namespace.as_deref().unwrap_or_default(), name);
            object(cluster, &key, request).await
        }
        (Some(name), Some(subresource)) if place.kind == Kind::Pod => {
            let key = Key::new(place.kind, place.namespace.as_deref().unwrap_or_default(), name);
            pod(cluster, &key, subresource, request).await
        }
        _ => Err(Refusal::no_resource()),
    }
}

async fn collection(cluster: &Arc<Cluster>, place: &Place, request: Request<Body>) -> Result<Response, Refusal> {
    match *request.method() {
        Method::GET => {
            let (parts, _) = request.into_parts();
            let (parts, query) = query(parts).await?;
            list::list_or_watch(cluster, place, &query, &parts.headers)
        }
        Method::POST => {
            let (_, mut object): (_, Value) = read(request).await?;
            if !object.get("metadata").is_some_and(Value::is_object) {
                return Err(Refusal::bad_request("the object has no metadata"));
            }
            if let Some(namespace) = &place.namespace {
                object["metadata"]["namespace"] = json!(namespace);
            }
            let name = text(&object, "/metadata/name").to_owned();
            let created = match place.kind {
                Kind::Pod => controller::create_pod(cluster, object)?,
                Kind::Namespace => {
                    let labels = object["metadata"]["labels"].take();
                    fixtures::create_namespace(cluster, &name, if labels.is_object() { labels } else { json!({}) })?
                }
                kind => controller::create_workload(cluster, kind, object)?,
            };
            if let Some(namespace) = &place.namespace {
                controller::sync_endpoints(cluster, namespace);
            }
            Ok((http::StatusCode::CREATED, Json(&*created)).into_response())
        }
        _ => Err(Refusal::no_method()),
    }
}

async fn object(cluster: &Arc<Cluster>, key: &Key, request: Request<Body>) -> Result<Response, Refusal> {
    let missing = || Refusal::not_found(key.kind.plural(), &key.name);
    match *request.method() {
        Method::GET => {
            let found = cluster.store.read(key).ok_or_else(missing)?;
            Ok(Json(View::wanted(request.headers()).of(&found)).into_response())
        }
        Method::PATCH => {
            let (patch, edit) = read_patch(request).await?;
            let updated = cluster.store.update(key, |object| {
                let mut wanted = object.clone();
                edit(&mut wanted, &patch);
                let version = text(&wanted, "/metadata/resourceVersion");
                if version != text(object, "/metadata/resourceVersion") {
                    return Err(Refusal::conflict(key.kind.plural(), &key.name));
                }
                // Specifications do not change here: labels and annotations do.
                for field in ["labels", "annotations"] {
                    object["metadata"][field] = wanted["metadata"][field].take();
                    if object["metadata"][field].is_null()
                        && let Some(metadata) = object["metadata"].as_object_mut()
                    {
                        metadata.remove(field);
                    }
                }
                Ok(())
            })?;
            controller::sync_endpoints(cluster, &key.namespace);
            Ok(Json(&*updated).into_response())
        }
        Method::DELETE => {
            #[derive(Default, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            struct Options {
                grace_period_seconds: Option<u64>,
                preconditions: Map<String, Value>,
            }
            let (parts, body) = request.into_parts();
            let (_, in_query): (_, Options) = query(parts).await?;
            let body = to_bytes(body, LONGEST_BODY).await.map_err(Refusal::internal)?;
            let in_body: Options = serde_json::from_slice(&body).unwrap_or_default();
            let grace = in_body.grace_period_seconds.or(in_query.grace_period_seconds);
            let found = cluster.store.read(key).ok_or_else(missing)?;
            // Its version and its uid.
            if in_body.preconditions.iter().any(|(field, seen)| found["metadata"][field] != *seen) {
                return Err(Refusal::conflict(key.kind.plural(), &key.name));
            }
            let gone = match key.kind {
                Kind::Pod => controller::delete_pod(cluster, key, grace)?,
                _ => cluster.store.delete(key).ok_or_else(missing)?,
            };
            Ok(Json(&*gone).into_response())
        }
        _ => Err(Refusal::no_method()),
    }
}

async fn pod(
    cluster: &Arc<Cluster>,
    key: &Key,
    subresource: &str,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    match (subresource, request.method()) {
        ("ephemeralcontainers", &Method::GET) => {
            let found = cluster.store.read(key).ok_or_else(|| Refusal::not_found("pods", &key.name))?;
            Ok(Json(&*found).into_response())
        }
        ("ephemeralcontainers", &Method::PATCH) => {
            let (patch, edit) = read_patch(request).await?;
            let written = ephemeral::write(cluster, key, |pod| {
                edit(pod, &patch);
                Ok(())
            })?;
            Ok(Json(&*written).into_response())
        }
        ("ephemeralcontainers", &Method::PUT) => {
            let (_, wanted): (_, Value) = read(request).await?;
            let written = ephemeral::write(cluster, key, |pod| {
                *pod = wanted;
                Ok(())
            })?;
            Ok(Json(&*written).into_response())
        }
        ("log", &Method::GET) => {
            let (parts, _) = request.into_parts();
            let (_, query) = query(parts).await?;
            pod_stream::log(cluster, key, &query)
        }
        ("attach" | "exec" | "portforward", &Method::GET | &Method::POST) => {
            pod_stream::open(cluster, key, subresource, request).await
        }
        ("ephemeralcontainers" | "log" | "attach" | "exec" | "portforward", _) => Err(Refusal::no_method()),
        _ => Err(Refusal::no_resource()),
    }
}

async fn grant(cluster: &Arc<Cluster>, request: Request<Body>) -> Result<Response, Refusal> {
    if *request.method() != Method::POST {
        return Err(Refusal::no_method());
    }
    let (parts, wish): (_, Wish) = read(request).await?;
    if let Some(connection) = parts.extensions.get::<Connection>() {
        connection.spare();
    }
    cluster.faults.grant(&wish);
    if wish.forget_history {
        cluster.store.compact();
    }
    if let Some(down) = wish.node_down {
        // The node exists from the start.
        let _ = cluster.store.update(&Key::new(Kind::Node, "", super::cluster::NODE), |node| {
            node["status"] = fixtures::node(!down)["status"].take();
            Ok(())
        });
        for pod in cluster.all_pods() {
            // A pod that is gone meanwhile has no status.
            let _ = cluster.store.update(&pod.key, |object| {
                pod_status::conclude(object, !down);
                Ok(())
            });
            controller::sync_endpoints(cluster, &pod.key.namespace);
        }
    }
    Ok(Json(json!({})).into_response())
}

async fn query<T: DeserializeOwned + Send>(mut parts: Parts) -> Result<(Parts, T), Refusal> {
    let query = axum::extract::Query::<T>::from_request_parts(&mut parts, &()).await;
    let axum::extract::Query(query) = query.map_err(|error| Refusal::bad_request(error.to_string()))?;
    Ok((parts, query))
}

async fn read<T: DeserializeOwned>(request: Request<Body>) -> Result<(Parts, T), Refusal> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LONGEST_BODY).await.map_err(|error| Refusal::bad_request(error.to_string()))?;
    let read = serde_json::from_slice(&body).map_err(|error| Refusal::bad_request(error.to_string()))?;
    Ok((parts, read))
}

type Edit = fn(&mut Value, &Value);

async fn read_patch(request: Request<Body>) -> Result<(Value, Edit), Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let edit: Edit = match kind.split(';').next().unwrap_or_default() {
        "application/merge-patch+json" => patch::merge,
        "application/strategic-merge-patch+json" => patch::strategic,
        _ => return Err(Refusal::media_type()),
    };
    Ok((read(request).await?.1, edit))
}
