//! Every pod as a place in a list, out of what the watches have told; whoever shows one to a person asks the `Gate` first.
//!
//! One list is made for all who look, at most a few times a second, and what has not changed in it is the same `Arc` as in
//! the list before: a look at thousands of pods costs milliseconds, and a person's own view of them a pointer each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cache::Cache;
use super::pod::{Kind, Owner, PodState, State};
use super::resolve::{self, Target};
use super::shown::Shown;
use crate::target::{LoginName, TargetName};

/// A list that is so young serves again, whatever has changed: a cluster that changes all the time is not listed all the
/// time. Shorter than what a person would notice.
const FRESH: Duration = Duration::from_millis(250);

/// A pod in the list.
#[derive(Debug)]
pub struct Place {
    /// The pod and its default container, as a question to the `Gate`. It knows no obstacle: to enter, the name is resolved.
    target: Arc<Target>,
    state: Arc<PodState>,
    /// Kind and name, where the name can be entered.
    workload: Option<Owner>,
}

/// All places at one moment.
#[derive(Debug, Default)]
pub struct Places {
    /// By namespace, then by workload (or by its own name where a pod has none), then by name.
    pub all: Vec<Arc<Place>>,
    /// The cluster cannot be watched just now, so this may be old.
    pub stale: bool,
    version: u64,
}

/// The latest list.
#[derive(Default)]
pub(super) struct Latest(Mutex<Option<(Instant, Arc<Places>)>>);

impl Place {
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    pub fn namespace(&self) -> &str {
        &self.state.namespace
    }

    pub fn pod(&self) -> &str {
        &self.state.name
    }

    pub fn uid(&self) -> &str {
        &self.state.uid
    }

    /// The kind and the name of the workload that a person may enter in place of the pod.
    pub fn workload(&self) -> Option<(&str, &str)> {
        self.workload.as_ref().map(|owner| (owner.kind.as_str(), owner.name.as_str()))
    }

    pub fn shown(&self) -> &Shown {
        &self.state.shown
    }

    /// Those that can be entered, by name.
    pub fn containers(&self) -> impl Iterator<Item = &str> {
        let entered = self.state.containers.iter().filter(|container| match container.kind {
            Kind::App => true,
            Kind::Init => container.state == State::Running,
            Kind::Ephemeral => false,
        });
        entered.map(|container| container.name.as_str())
    }

    fn key(&self) -> (&str, &str, &str, &str) {
        let (kind, name) = self.workload().unwrap_or(("", self.pod()));
        (self.namespace(), name, kind, self.pod())
    }
}

impl Places {
    pub(super) fn version(&self) -> u64 {
        self.version
    }
}

impl Latest {
    pub fn look(&self, cache: &Cache) -> Arc<Places> {
        // Whoever comes meanwhile waits for the few milliseconds and takes the same list.
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let version = cache.version();
        if let Some((made, places)) = &*latest
            && (places.version == version || made.elapsed() < FRESH)
        {
            return Arc::clone(places);
        }
        let before = latest.take().map(|(_, places)| places).unwrap_or_default();
        let places = Arc::new(list(cache, version, &before));
        *latest = Some((Instant::now(), Arc::clone(&places)));
        places
    }
}

fn list(cache: &Cache, version: u64, before: &Places) -> Places {
    let namespaces = cache.namespaces.all();
    let known: HashMap<&str, &Arc<Place>> = before.all.iter().map(|place| (place.uid(), place)).collect();
    let place = |state: Arc<PodState>| -> Option<Arc<Place>> {
        // What is not known of a place counts as a no, as when its name is resolved.
        let labels = namespaces.get(&state.namespace)?;
        let top = resolve::top(cache, &state);
        let same = known.get(state.uid.as_str()).copied();
        let still = |same: &&Arc<Place>| Arc::ptr_eq(&same.state, &state) && same.target.is(labels, top.as_ref());
        if let Some(same) = same.filter(still) {
            return Some(Arc::clone(same));
        }
        named(&state.namespace, &state.name)?;
        let target = resolve::target(&state, labels.clone(), top.as_ref(), None, None);
        let target = match same {
            Some(same) if *same.target == target => Arc::clone(&same.target),
            _ => Arc::new(target),
        };
        let plain = |kind: &str| !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let workload = top.filter(|top| plain(&top.kind) && named(&state.namespace, &top.name).is_some());
        Some(Arc::new(Place { target, state, workload }))
    };
    let mut all: Vec<_> = cache.pods.find(|_, _| true).into_iter().filter_map(place).collect();
    all.sort_unstable_by(|one, other| one.key().cmp(&other.key()));
    Places { all, stale: cache.pods.trouble().is_some(), version }
}

/// The name under which a place can be entered; none where there is no such name, since then it is no place.
fn named(namespace: &str, name: &str) -> Option<TargetName> {
    match LoginName::parse(&format!("{namespace}.{name}")) {
        // A name with a suffix would be another place.
        Ok(LoginName::Place(place)) if place.name() == name => Some(place),
        _ => None,
    }
}

#[cfg(test)]
impl Place {
    /// A pod in a list, for tests of what shows lists; a workload is a Deployment.
    pub(crate) fn for_tests(
        namespace: &str,
        pod: &str,
        workload: Option<&str>,
        containers: &[&str],
        state: &str,
    ) -> Place {
        let containers: Vec<_> = containers.iter().map(|name| serde_json::json!({ "name": name })).collect();
        let read = serde_json::json!({
            "metadata": { "name": pod, "namespace": namespace, "uid": format!("uid-of-{pod}"), "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "containers": containers },
            "status": { "phase": state },
        });
        let read = PodState::read(&serde_json::from_value(read).expect("a pod")).expect("a named one");
        let workload = workload.map(|name| Owner { kind: "Deployment".to_owned(), name: name.to_owned() });
        let target = resolve::target(&read, std::collections::BTreeMap::new(), workload.as_ref(), None, None);
        Place { target: Arc::new(target), state: Arc::new(read), workload }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn pod(namespace: &str, name: &str, uid: &str, owner: Option<&str>) -> PodState {
        let owners: Vec<Value> = owner
            .map(|name| json!({ "apiVersion": "v1", "kind": "StatefulSet", "name": name, "uid": "o", "controller": true }))
            .into_iter()
            .collect();
        let pod = json!({
            "metadata": { "name": name, "namespace": namespace, "uid": uid, "ownerReferences": owners },
            "spec": { "containers": [{ "name": "app" }, { "name": "log" }] },
        });
        PodState::read(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    fn cache(pods: &[PodState]) -> Cache {
        let cache = Cache::default();
        let all = pods.iter().map(|pod| ((pod.namespace.clone(), pod.name.clone()), Arc::new(pod.clone())));
        cache.pods.replace(all.collect());
        cache.namespaces.replace(["a", "b"].map(|name| (name.to_owned(), BTreeMap::new())).into());
        cache
    }

    #[test]
    fn places_are_grouped_and_what_is_no_name_is_none() {
        let cache = cache(&[
            pod("b", "x", "1", None),
            pod("a", "zoo-1", "2", Some("web")),
            pod("a", "web", "3", None),
            pod("a", "api-0", "4", Some("\u{1b}[2Jweb")),
            pod("a", "y\u{1b}[2J", "5", None),
            pod("a", "z+app", "6", None),
            pod("unknown", "y", "7", None),
        ]);
        let places = list(&cache, 1, &Places::default());
        let all: Vec<_> = places.all.iter().map(|place| (place.namespace(), place.pod(), place.workload())).collect();
        assert_eq!(
            all,
            [("a", "api-0", None), ("a", "web", None), ("a", "zoo-1", Some(("StatefulSet", "web"))), ("b", "x", None)]
        );
        assert_eq!(places.all[0].containers().collect::<Vec<_>>(), ["app", "log"]);
        assert_eq!(places.all[0].target().container(), "app");
    }

    #[test]
    fn what_has_not_changed_is_the_same_and_a_question_changes_only_with_what_it_asks() {
        let (still, mut moving) = (pod("a", "still", "1", None), pod("a", "moving", "2", None));
        let cache = cache(&[still.clone(), moving.clone()]);
        let first = list(&cache, 1, &Places::default());
        moving.shown.restarts = 9;
        let key = |pod: &PodState| (pod.namespace.clone(), pod.name.clone());
        cache.pods.put(key(&moving), Some(Arc::new(moving.clone())));
        let second = list(&cache, 2, &first);
        let same = |at: usize| Arc::ptr_eq(&first.all[at], &second.all[at]);
        assert!(!same(0) && same(1));
        assert!(Arc::ptr_eq(first.all[0].target(), second.all[0].target()), "restarts are no part of the question");
        cache.namespaces.replace([("a".to_owned(), BTreeMap::from([("frozen".to_owned(), "yes".to_owned())]))].into());
        let third = list(&cache, 3, &second);
        assert!(third.all.iter().zip(&second.all).all(|(now, then)| now.target() != then.target()));
    }
}
