//! The node's events: why a container does not start, said before the pod's status says it.
//!
//! A kubelet tells an event at once and, but for a program that does not start, the status only when it has synced the
//! pod again, some ten seconds later. Who waits for the status alone learns of a bad image late, so the emulator is as
//! late as a real one: the times and words here are those of Kubernetes 1.36.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cluster::{Cluster, NODE, Pod};
use super::resource::Kind;
use super::store::{Key, now, text};

/// From the event to the status.
const STATUS_DELAY: Duration = Duration::from_secs(10);
/// The same where the container was made and its program does not start.
const START_STATUS_DELAY: Duration = Duration::from_secs(1);
/// From the first pull's status to the word that there is a back-off.
pub(super) const PULL_BACKOFF: Duration = Duration::from_secs(14);

/// How late the status is for this reason.
pub(super) fn status_delay(reason: &str) -> Duration {
    if reason == "RunContainerError" { START_STATUS_DELAY } else { STATUS_DELAY }
}

/// Tells the events of one container.
pub(super) struct Recorder<'a> {
    pub cluster: &'a Cluster,
    pub pod: &'a Pod,
    pub container: &'a str,
    pub ephemeral: bool,
}

/// Drops what was told of a pod that is gone. (A real API server drops events by their age.)
pub(super) fn forget(cluster: &Cluster, pod: &Pod) {
    let (_, events) = cluster.store.list(Kind::Event, Some(&pod.key.namespace));
    for event in events.iter().filter(|event| text(event, "/involvedObject/uid") == pod.uid) {
        cluster.store.delete(&Key::of(Kind::Event, event));
    }
}

impl Recorder<'_> {
    /// What a kubelet says when a container cannot be made: `reason` and `message` are those of its later status.
    pub(super) fn trouble(&self, image: &str, reason: &str, message: &str) {
        match reason {
            "ErrImagePull" => {
                self.tell("Normal", "Pulling", &format!("Pulling image {image:?}"));
                self.tell("Warning", "Failed", &format!("Failed to pull image {image:?}: {message}"));
                self.tell("Warning", "Failed", "Error: ErrImagePull");
            }
            "ImagePullBackOff" => {
                self.tell("Normal", "BackOff", &format!("Back-off pulling image {image:?}"));
                self.tell("Warning", "Failed", "Error: ImagePullBackOff");
            }
            _ => self.tell("Warning", "Failed", &format!("Error: {message}")),
        }
    }

    fn tell(&self, kind: &str, reason: &str, message: &str) {
        let Recorder { cluster, pod, container, ephemeral } = self;
        let list = if *ephemeral { "ephemeralContainers" } else { "containers" };
        let event = json!({
            "metadata": {
                // The moment in hexadecimal, so that a list is in the order of events.
                "name": format!("{}.{:016x}", pod.key.name, Timestamp::now().as_nanosecond()),
                "namespace": pod.key.namespace,
            },
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": pod.key.namespace,
                "name": pod.key.name,
                "uid": pod.uid,
                "fieldPath": format!("spec.{list}{{{container}}}"),
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "source": { "component": "kubelet", "host": NODE },
            "reportingComponent": "kubelet",
            "reportingInstance": NODE,
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "eventTime": Value::Null,
            "count": 1,
        });
        if let Err(error) = cluster.store.create(Kind::Event, event) {
            tracing::debug!(?error, "an event of that name is there already");
        }
    }
}
