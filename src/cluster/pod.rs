//! What is kept of a pod, and how it is read from what Kubernetes says.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{self as core, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::shown::Shown;

/// The container that `kubectl` takes where none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// A pod as the watch last told of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PodState {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub owner: Option<Owner>,
    pub ips: Vec<IpAddr>,
    pub deleting: bool,
    pub ready: bool,
    pub phase: Phase,
    /// Kubernetes' own words on the phase, where it has any.
    pub message: Option<String>,
    pub default_container: Option<String>,
    pub containers: Vec<Container>,
    pub shown: Shown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Pending,
    Running,
    /// `Succeeded` or `Failed`.
    Over,
    Unknown,
}

/// The controller of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub kind: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Container {
    pub name: String,
    pub kind: Kind,
    pub state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    App,
    /// Sidecars among them.
    Init,
    Ephemeral,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    Waiting {
        reason: String,
        message: String,
    },
    Running,
    Terminated {
        status: i32,
        reason: String,
        message: String,
    },
    /// Kubernetes has not said anything yet.
    Unknown,
}

impl PodState {
    /// None for what the API server never sends: an object without a name.
    pub fn read(pod: &Pod) -> Option<PodState> {
        let meta = &pod.metadata;
        let spec = pod.spec.as_ref()?;
        let status = pod.status.as_ref();
        let statuses = |of: fn(&core::PodStatus) -> &Option<Vec<core::ContainerStatus>>| {
            status.and_then(|status| of(status).as_deref()).unwrap_or_default()
        };
        let mut containers = Vec::new();
        let mut add = |name: &str, kind, statuses: &[core::ContainerStatus]| {
            let state = statuses.iter().find(|status| status.name == name).map_or(State::Unknown, State::read);
            containers.push(Container { name: name.to_owned(), kind, state });
        };
        for container in &spec.containers {
            add(&container.name, Kind::App, statuses(|status| &status.container_statuses));
        }
        for container in spec.init_containers.iter().flatten() {
            add(&container.name, Kind::Init, statuses(|status| &status.init_container_statuses));
        }
        for container in spec.ephemeral_containers.iter().flatten() {
            add(&container.name, Kind::Ephemeral, statuses(|status| &status.ephemeral_container_statuses));
        }
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ips = status.and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
        let ips = ips.iter().map(|ip| ip.ip.as_str()).chain(status.and_then(|status| status.pod_ip.as_deref()));
        let mut ips: Vec<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
        ips.dedup();
        Some(PodState {
            namespace: meta.namespace.clone()?,
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            labels: meta.labels.clone().unwrap_or_default(),
            owner: meta.owner_references.as_deref().and_then(Owner::of),
            ips,
            deleting: meta.deletion_timestamp.is_some(),
            ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            phase: match status.and_then(|status| status.phase.as_deref()) {
                Some("Pending") | None => Phase::Pending,
                Some("Running") => Phase::Running,
                Some("Succeeded" | "Failed") => Phase::Over,
                Some(_) => Phase::Unknown,
            },
            message: status.and_then(|status| {
                let unscheduled = conditions
                    .iter()
                    .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
                let condition = unscheduled.and_then(|condition| condition.message.as_ref());
                condition.or(status.message.as_ref()).or(status.reason.as_ref()).cloned()
            }),
            default_container: meta.annotations.as_ref().and_then(|all| all.get(DEFAULT_CONTAINER)).cloned(),
            containers,
            shown: Shown::read(pod),
        })
    }

    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The state of an ephemeral container; unknown also where the watch has not seen it yet.
    pub fn state(&self, ephemeral: &str) -> &State {
        self.container(ephemeral).map_or(&State::Unknown, |container| &container.state)
    }

    /// Ready, and to stay so for what is known.
    pub fn serves(&self) -> bool {
        self.ready && !self.deleting && self.phase == Phase::Running
    }

    /// Why no container can start in this pod; none where one can. A pod whose own containers cannot start has a
    /// sandbox (an address shows it), and a debug container starts there: to look into such a pod is a main use.
    pub fn obstacle(&self) -> Option<String> {
        let because = |what: &str| match &self.message {
            Some(message) => Some(format!("{what}: {message}")),
            None => Some(what.to_owned()),
        };
        match self.phase {
            _ if self.deleting => Some("it is being deleted".to_owned()),
            Phase::Over => because("it has ended"),
            Phase::Unknown => because("its node does not answer"),
            Phase::Pending if self.ips.is_empty() && !self.tried() => because("it has not started yet"),
            Phase::Pending | Phase::Running => None,
        }
    }

    /// Why the pod is not ready, by the first container that says so.
    pub fn trouble(&self) -> Option<String> {
        let troubles = self.containers.iter().filter(|container| container.kind != Kind::Ephemeral);
        troubles
            .filter_map(|container| match &container.state {
                State::Waiting { reason, .. } => Some(format!("container {} waits: {reason}", container.name)),
                State::Terminated { status, reason, .. } if container.kind == Kind::App => {
                    Some(format!("container {} has ended: {reason} ({status})", container.name))
                }
                _ => None,
            })
            .next()
    }

    /// Whether the kubelet has come as far as its containers.
    fn tried(&self) -> bool {
        let early = ["", "ContainerCreating", "PodInitializing"];
        self.containers.iter().any(|container| match &container.state {
            State::Waiting { reason, .. } => !early.contains(&reason.as_str()),
            State::Running | State::Terminated { .. } => true,
            State::Unknown => false,
        })
    }
}

impl State {
    pub fn read(status: &core::ContainerStatus) -> State {
        let Some(state) = &status.state else { return State::Unknown };
        if state.running.is_some() {
            return State::Running;
        }
        if let Some(over) = &state.terminated {
            return State::Terminated {
                status: over.exit_code,
                reason: over.reason.clone().unwrap_or_default(),
                message: over.message.clone().unwrap_or_default(),
            };
        }
        match &state.waiting {
            Some(waiting) => State::Waiting {
                reason: waiting.reason.clone().unwrap_or_default(),
                message: waiting.message.clone().unwrap_or_default(),
            },
            None => State::Unknown,
        }
    }
}

impl Owner {
    /// The managing controller among an object's owners.
    pub fn of(owners: &[OwnerReference]) -> Option<Owner> {
        let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
        Some(Owner { kind: owner.kind.clone(), name: owner.name.clone() })
    }
}
