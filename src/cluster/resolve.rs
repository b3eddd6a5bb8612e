//! From a name to one pod, out of what the watches have told.
//!
//! Guards: what a person may learn of a place they may not enter. A name either means a place, or there is none; that a
//! place cannot be entered just now (no pod is ready, no such container) is noted on the `Target` and said only once there
//! is a `Grant` for it. And what is not known of a place counts as a no: a namespace whose labels have not been told is
//! no namespace without labels, which a deny by label would pass over.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::cache::Cache;
use super::error::{ResolveError, brief};
use super::pod::{Kind, Owner, PodState, State};
use crate::target::TargetName;

/// One pod, and one container in it. Made only by `resolve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    namespace: String,
    namespace_labels: BTreeMap<String, String>,
    pod: String,
    pod_uid: String,
    pod_labels: BTreeMap<String, String>,
    pod_ips: Vec<IpAddr>,
    workload: Option<String>,
    container: String,
    obstacle: Option<Obstacle>,
}

/// Why a place cannot be entered now, in words for the person; a secret until the `Grant`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub code: &'static str,
    pub person: String,
}

/// What a name turned out to name.
enum Found {
    Pod(Arc<PodState>),
    /// The pods of a workload or a Service.
    Several(Vec<Arc<PodState>>),
}

impl Target {
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn namespace_labels(&self) -> &BTreeMap<String, String> {
        &self.namespace_labels
    }

    pub fn pod(&self) -> &str {
        &self.pod
    }

    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    pub fn pod_labels(&self) -> &BTreeMap<String, String> {
        &self.pod_labels
    }

    pub fn pod_ips(&self) -> &[IpAddr] {
        &self.pod_ips
    }

    /// `Kind/name` of the owner at the top of the chain; none for a bare pod.
    pub fn workload(&self) -> Option<&str> {
        self.workload.as_deref()
    }

    /// The container whose processes and files are the target.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// Whether what stands around the pod is still this.
    pub(super) fn is(&self, namespace_labels: &BTreeMap<String, String>, top: Option<&Owner>) -> bool {
        let workload = self.workload.as_deref().and_then(|workload| workload.split_once('/'));
        let top = top.map(|top| (top.kind.as_str(), top.name.as_str()));
        self.namespace_labels == *namespace_labels && workload == top
    }

    pub(super) fn obstacle(&self) -> Option<&Obstacle> {
        self.obstacle.as_ref()
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}+{}", self.namespace, self.pod, self.container)
    }
}

/// Finds the place that `name` means for the person `subject`.
///
/// A pod of exactly that name comes first, then a workload, then a Service. From several pods one that is ready is
/// chosen, the same one for the same person while it lives.
pub(super) fn resolve(cache: &Cache, name: &TargetName, subject: &str) -> Result<Target, ResolveError> {
    let found = find(cache, name.namespace(), name.name()).ok_or_else(|| ResolveError::NotFound {
        namespace: name.namespace().to_owned(),
        name: name.name().to_owned(),
    })?;
    let (pod, obstacle) = match found {
        Found::Pod(pod) => (pod, None),
        Found::Several(pods) => {
            let ready = choose(pods.iter().filter(|pod| pod.serves()), subject);
            match ready {
                Some(pod) => (pod, None),
                None => {
                    let pod = choose(&pods, subject).expect("no name is found without a pod");
                    let obstacle = none_ready(name, &pod);
                    (pod, Some(obstacle))
                }
            }
        }
    };
    let namespace_labels = cache.namespaces.get(&pod.namespace);
    let namespace_labels = namespace_labels
        .ok_or_else(|| ResolveError::NamespaceUnknown { namespace: pod.namespace.clone(), pod: pod.name.clone() })?;
    let obstacle = obstacle.or_else(|| no_entry(&pod)).or_else(|| no_container(&pod, name.container()));
    Ok(target(&pod, namespace_labels, top(cache, &pod).as_ref(), name.container(), obstacle))
}

/// A pod in a namespace with these labels, below this owner; in it the named container, or the default one.
pub(super) fn target(
    pod: &PodState,
    namespace_labels: BTreeMap<String, String>,
    top: Option<&Owner>,
    container: Option<&str>,
    obstacle: Option<Obstacle>,
) -> Target {
    Target {
        namespace_labels,
        workload: top.map(|Owner { kind, name }| format!("{kind}/{name}")),
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        pod_uid: pod.uid.clone(),
        pod_labels: pod.labels.clone(),
        pod_ips: pod.ips.clone(),
        container: container.map_or_else(|| default_container(pod), str::to_owned),
        obstacle,
    }
}

/// The same pod, as the watches have told of it since.
pub(super) fn as_it_is(cache: &Cache, target: &Target) -> Target {
    let mut now = target.clone();
    let pod = cache.pods.get(&(target.namespace.clone(), target.pod.clone()));
    if let Some(pod) = pod.filter(|pod| pod.uid == target.pod_uid) {
        now.pod_labels = pod.labels.clone();
    }
    if let Some(labels) = cache.namespaces.get(&target.namespace) {
        now.namespace_labels = labels;
    }
    now
}

fn find(cache: &Cache, namespace: &str, name: &str) -> Option<Found> {
    let key = (namespace.to_owned(), name.to_owned());
    if let Some(pod) = cache.pods.get(&key) {
        return Some(Found::Pod(pod));
    }
    let here = |pod: &PodState| pod.namespace == namespace;
    let owned = cache.pods.find(|_, pod| here(pod) && top(cache, pod).is_some_and(|owner| owner.name == name));
    let kind = |pod: &PodState| top(cache, pod).map(|owner| rank(&owner.kind));
    if let Some(first) = owned.iter().filter_map(|pod| kind(pod)).min() {
        return Some(Found::Several(owned.into_iter().filter(|pod| kind(pod).as_ref() == Some(&first)).collect()));
    }
    let selector = cache.services.get(&key)?;
    let selected = |pod: &PodState| selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
    let of_service = cache.pods.find(|_, pod| here(pod) && selected(pod));
    (!of_service.is_empty()).then_some(Found::Several(of_service))
}

/// Two workloads of one name and different kinds: the kind that serves goes first, and it is always the same one.
fn rank(kind: &str) -> (usize, String) {
    let known = ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"];
    (known.iter().position(|known| *known == kind).unwrap_or(known.len()), kind.to_owned())
}

/// The owner that a person knows: a ReplicaSet and a Job stand between the pod and its Deployment or CronJob, and only
/// those two are looked through.
pub(super) fn top(cache: &Cache, pod: &PodState) -> Option<Owner> {
    let owner = pod.owner.clone()?;
    let between = match owner.kind.as_str() {
        "ReplicaSet" => &cache.replica_sets,
        "Job" => &cache.jobs,
        _ => return Some(owner),
    };
    between.get(&(pod.namespace.clone(), owner.name.clone())).or(Some(owner))
}

/// Rendezvous hashing: each person ranks all pods, and takes the first that is there. A pod that goes moves only those who
/// were in it.
fn choose<'a>(pods: impl IntoIterator<Item = &'a Arc<PodState>>, subject: &str) -> Option<Arc<PodState>> {
    let rank = |pod: &PodState| -> [u8; 32] {
        // The length keeps two pairs from reading the same.
        let parts = [&subject.len().to_be_bytes(), subject.as_bytes(), pod.uid.as_bytes()];
        parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
    };
    pods.into_iter().max_by_key(|pod| rank(pod)).cloned()
}

fn default_container(pod: &PodState) -> String {
    let annotated = pod.default_container.as_deref().filter(|name| pod.container(name).is_some());
    let name = annotated.or_else(|| pod.containers.first().map(|container| container.name.as_str()));
    name.unwrap_or_default().to_owned()
}

fn none_ready(name: &TargetName, pod: &PodState) -> Obstacle {
    let trouble = pod.obstacle().or_else(|| pod.trouble()).unwrap_or_else(|| "it is not ready".to_owned());
    let person = format!(
        "no pod of {} is ready ({}: {}): log in to a pod by its own name, as in {}.{}",
        name.name(),
        pod.name,
        brief(&trouble),
        pod.namespace,
        pod.name,
    );
    Obstacle { code: "not_ready", person }
}

fn no_entry(pod: &PodState) -> Option<Obstacle> {
    let reason = pod.obstacle()?;
    let person = format!("no debug container can start in the pod {}: {}", pod.name, brief(&reason));
    Some(Obstacle { code: "not_ready", person })
}

fn no_container(pod: &PodState, asked: Option<&str>) -> Option<Obstacle> {
    let asked = asked?;
    let of_pod = || pod.containers.iter().filter(|container| container.kind != Kind::Ephemeral);
    match pod.container(asked).filter(|container| container.kind != Kind::Ephemeral) {
        Some(container) if container.kind == Kind::App || container.state == State::Running => None,
        Some(_) => Some(Obstacle {
            code: "not_ready",
            person: format!("the container {asked} is not running: leave out +{asked}, or wait for it"),
        }),
        None => {
            let names: Vec<_> = of_pod().map(|container| container.name.as_str()).collect();
            let person = format!("the pod has no container {asked}: use one of {}", names.join(", "));
            Some(Obstacle { code: "no_such_container", person })
        }
    }
}

#[cfg(test)]
impl Target {
    /// A place for tests of what comes after `resolve`: `labels` are those of the namespace, then the pod's.
    pub(crate) fn for_tests(
        namespace: &str,
        pod: &str,
        container: &str,
        workload: Option<&str>,
        labels: [&[(&str, &str)]; 2],
    ) -> Target {
        let owned = |labels: &[(&str, &str)]| {
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        Target {
            namespace: namespace.to_owned(),
            namespace_labels: owned(labels[0]),
            pod: pod.to_owned(),
            pod_uid: format!("uid-of-{pod}"),
            pod_labels: owned(labels[1]),
            pod_ips: vec![IpAddr::from([10, 1, 2, 3])],
            workload: workload.map(str::to_owned),
            container: container.to_owned(),
            obstacle: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::LoginName;

    /// A deny by namespace label was passed over where the pod was known before its namespace.
    #[test]
    fn a_place_whose_namespace_is_unknown_is_none() {
        let cache = Cache::default();
        let pod = serde_json::json!({
            "metadata": { "name": "web", "namespace": "demo", "uid": "1" },
            "spec": { "containers": [{ "name": "web" }] },
        });
        let pod = PodState::read(&serde_json::from_value(pod).unwrap()).unwrap();
        cache.pods.replace([(("demo".to_owned(), "web".to_owned()), Arc::new(pod))].into());
        let Ok(LoginName::Place(name)) = LoginName::parse("demo.web") else { panic!("a place") };
        let unknown = resolve(&cache, &name, "alice").unwrap_err();
        assert_eq!((unknown.code(), unknown.person().as_str()), ("namespace_unknown", crate::authorize::NOT_OPEN));
        let labels = BTreeMap::from([("frozen".to_owned(), "true".to_owned())]);
        cache.namespaces.replace([("demo".to_owned(), labels.clone())].into());
        assert_eq!(resolve(&cache, &name, "alice").unwrap().namespace_labels(), &labels);
    }
}
