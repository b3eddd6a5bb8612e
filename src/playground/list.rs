//! LIST and WATCH.
//!
//! A watch reads the store's history from the version that the client names, so between a list and a watch
//! nothing is missed and nothing comes twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::cluster::Cluster;
use super::resource::{Kind, Place};
use super::selector::Selector;
use super::status::Refusal;
use super::store::Event;

/// An API server ends a watch that names no time after half an hour to an hour.
const LONGEST_WATCH: Duration = Duration::from_secs(1800);
/// How often a quiet watch tells its client how far it is, where the client wants to know.
const BOOKMARK: Duration = Duration::from_secs(60);

/// The query of a list or a watch. `limit` and `continue` are ignored: everything comes in one page.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Query {
    watch: String,
    label_selector: String,
    field_selector: String,
    resource_version: String,
    timeout_seconds: Option<u64>,
    allow_watch_bookmarks: String,
    send_initial_events: String,
}

fn holds(flag: &str) -> bool {
    flag == "1" || flag == "true"
}

/// What the client wants of an object: all, or its metadata.
#[derive(Clone, Copy)]
pub(super) enum View {
    Whole,
    Metadata,
}

impl View {
    pub(super) fn wanted(headers: &HeaderMap) -> View {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let first = accept.split(',').next().unwrap_or_default();
        if first.contains("as=PartialObjectMetadata") { View::Metadata } else { View::Whole }
    }

    pub(super) fn of(self, object: &Value) -> Value {
        match self {
            View::Whole => object.clone(),
            View::Metadata => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            }),
        }
    }
}

pub(super) fn list_or_watch(
    cluster: &Arc<Cluster>,
    place: &Place,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let selector = Selector::parse(&query.label_selector, &query.field_selector)?;
    let view = View::wanted(headers);
    if holds(&query.watch) {
        return watch(cluster, place, query, selector, view);
    }
    let (version, found) = cluster.store.list(place.kind, place.namespace.as_deref());
    let items: Vec<Value> =
        found.iter().filter(|object| selector.matches(object)).map(|object| view.of(object)).collect();
    let (kind, api) = match view {
        View::Whole => (format!("{}List", place.kind.name()), place.kind.api_version()),
        View::Metadata => ("PartialObjectMetadataList".into(), "meta.k8s.io/v1"),
    };
    let metadata = json!({ "resourceVersion": version.to_string() });
    Ok(Json(json!({ "kind": kind, "apiVersion": api, "metadata": metadata, "items": items })).into_response())
}

/// A watch under way: what is to be sent, and from where to read on.
struct Watch {
    cluster: Arc<Cluster>,
    kind: Kind,
    namespace: Option<String>,
    selector: Selector,
    view: View,
    bookmarks: bool,
    version: u64,
    changes: tokio::sync::watch::Receiver<u64>,
    ready: VecDeque<Value>,
    ends: Instant,
    over: bool,
}

fn watch(
    cluster: &Arc<Cluster>,
    place: &Place,
    query: &Query,
    selector: Selector,
    view: View,
) -> Result<Response, Refusal> {
    let changes = cluster.store.changes();
    let (now, found) = cluster.store.list(place.kind, place.namespace.as_deref());
    let from_start = matches!(query.resource_version.as_str(), "" | "0");
    let initial = holds(&query.send_initial_events);
    let version = if from_start || initial {
        now
    } else {
        let asked = &query.resource_version;
        let why =
            format!("resourceVersion: Invalid value: {asked:?}: strconv.ParseUint: parsing {asked:?}: invalid syntax");
        let invalid = |_| Refusal::bad_request(why);
        query.resource_version.parse().map_err(invalid)?
    };
    let longest = query.timeout_seconds.map_or(LONGEST_WATCH, Duration::from_secs).min(LONGEST_WATCH);
    let mut watch = Watch {
        cluster: cluster.clone(),
        kind: place.kind,
        namespace: place.namespace.clone(),
        selector,
        view,
        bookmarks: holds(&query.allow_watch_bookmarks),
        version,
        changes,
        ready: VecDeque::new(),
        ends: Instant::now() + longest,
        over: false,
    };
    if initial || from_start && query.send_initial_events.is_empty() {
        for object in found.iter().filter(|object| watch.selector.matches(object)) {
            watch.ready.push_back(json!({ "type": "ADDED", "object": view.of(object) }));
        }
    }
    if initial {
        watch.ready.push_back(watch.bookmark(json!({ "k8s.io/initial-events-end": "true" })));
    }
    let lines = futures_util::stream::unfold(watch, |mut watch| async move {
        let line = watch.next().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(format!("{line}\n").into()), watch))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response())
}

impl Watch {
    async fn next(&mut self) -> Option<Value> {
        let mut bookmark = Instant::now() + BOOKMARK;
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            self.changes.borrow_and_update();
            match self.cluster.store.since(self.version) {
                Ok(events) => {
                    for event in events {
                        self.version = event.version;
                        self.ready.extend(self.tell(&event));
                    }
                }
                Err(refusal) => {
                    self.over = true;
                    return Some(json!({ "type": "ERROR", "object": refusal.status() }));
                }
            }
            if !self.ready.is_empty() {
                continue;
            }
            let stopping = self.cluster.stopping.clone();
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = sleep_until(bookmark), if self.bookmarks => {
                    bookmark += BOOKMARK;
                    return Some(self.bookmark(json!({})));
                }
                () = sleep_until(self.ends) => return None,
                () = stopping.cancelled() => return None,
            }
        }
    }

    /// An event as this watcher sees it: what leaves its selection is deleted for it, what enters is added.
    fn tell(&self, event: &Event) -> Option<Value> {
        let ours = |object: &Option<Arc<Value>>| {
            let object = object.as_ref()?;
            let namespace = object["metadata"]["namespace"].as_str();
            let here = self.namespace.is_none() || self.namespace.as_deref() == namespace;
            (event.kind == self.kind && here && self.selector.matches(object)).then(|| object.clone())
        };
        let (kind, object) = match (ours(&event.before), ours(&event.after)) {
            (None, Some(object)) => ("ADDED", object),
            (Some(_), Some(object)) => ("MODIFIED", object),
            (Some(before), None) => ("DELETED", event.after.clone().unwrap_or(before)),
            (None, None) => return None,
        };
        Some(json!({ "type": kind, "object": self.view.of(&object) }))
    }

    fn bookmark(&self, annotations: Value) -> Value {
        let mut metadata = json!({ "resourceVersion": self.version.to_string(), "creationTimestamp": null });
        if annotations.as_object().is_some_and(|annotations| !annotations.is_empty()) {
            metadata["annotations"] = annotations;
        }
        let (kind, api) = match self.view {
            View::Whole => (self.kind.name(), self.kind.api_version()),
            View::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1"),
        };
        let mut object = json!({ "kind": kind, "apiVersion": api, "metadata": metadata });
        if self.kind == Kind::Pod && matches!(self.view, View::Whole) {
            // As Go writes an empty one; strict readers want the fields.
            object["spec"] = json!({ "containers": null });
            object["status"] = json!({});
        }
        json!({ "type": "BOOKMARK", "object": object })
    }
}
