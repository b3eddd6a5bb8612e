//! What is known of the cluster: kept up by watches, read without asking anybody.
//!
//! A login costs no request this way. Only what resolving a name needs is kept: pods in short, the labels of namespaces,
//! the selectors of Services, and the owners of those objects that stand between a pod and the workload that a person
//! knows. Whoever waits for one pod (`follow`) is woken for that pod alone.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::{ConnectError, chain};
use super::pod::{Owner, PodState};

/// Between tries to watch again. The longest is what a session may wait, after the API server is back, to learn of a
/// container's start or end.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// A namespace and a name in it.
type Key = (String, String);

/// The kept state; nothing of it is known to begin with.
#[derive(Default)]
pub(super) struct Cache {
    pub pods: Kept<Key, Arc<PodState>>,
    pub namespaces: Kept<String, BTreeMap<String, String>>,
    /// The selectors of Services that have one.
    pub services: Kept<Key, BTreeMap<String, String>>,
    pub replica_sets: Kept<Key, Owner>,
    pub jobs: Kept<Key, Owner>,
    followed: Arc<Followed>,
    /// Moves with all that a list of places shows.
    version: watch::Sender<u64>,
    stop: CancellationToken,
    watches: TaskTracker,
}

/// One kind of object, each in the short form `V`.
pub(super) struct Kept<K, V> {
    objects: RwLock<HashMap<K, V>>,
    /// Why the watch is not running; none while it is.
    trouble: watch::Sender<Option<String>>,
}

/// How an object is read: its key, and its short form unless it is of no use.
type Read<O, K, V> = fn(&O) -> Option<(K, Option<V>)>;

/// The pods that somebody waits for, by uid.
#[derive(Debug, Default)]
struct Followed(Mutex<HashMap<String, watch::Sender<Sight>>>);

/// What is seen of a followed pod.
#[derive(Debug, Clone)]
pub(super) enum Sight {
    There(Arc<PodState>),
    /// Deleted; this is the last that was seen of it.
    Gone(Arc<PodState>),
}

/// The sight of one pod, as it changes.
#[derive(Debug)]
pub(super) struct Follow {
    uid: String,
    sights: watch::Receiver<Sight>,
    followed: Arc<Followed>,
}

impl Cache {
    /// Starts the watches, and returns when each has listed what is there.
    pub async fn fill(client: &Client, deadline: Duration) -> Result<Arc<Cache>, ConnectError> {
        let cache = Arc::new(Cache::default());
        cache.watch_pods(client);
        cache.watch(
            client,
            |cache| &cache.namespaces,
            |space: &PartialObjectMeta<Namespace>| {
                Some((space.metadata.name.clone()?, Some(space.metadata.labels.clone().unwrap_or_default())))
            },
        );
        cache.watch(
            client,
            |cache| &cache.services,
            |service: &Service| {
                let selector =
                    service.spec.as_ref().and_then(|spec| spec.selector.clone()).filter(|all| !all.is_empty());
                Some((key(&service.metadata)?, selector))
            },
        );
        cache.watch(
            client,
            |cache| &cache.replica_sets,
            |set: &PartialObjectMeta<ReplicaSet>| {
                Some((key(&set.metadata)?, set.metadata.owner_references.as_deref().and_then(Owner::of)))
            },
        );
        cache.watch(
            client,
            |cache| &cache.jobs,
            |job: &PartialObjectMeta<Job>| {
                Some((key(&job.metadata)?, job.metadata.owner_references.as_deref().and_then(Owner::of)))
            },
        );
        let filled = async {
            cache.pods.filled().await;
            cache.namespaces.filled().await;
            cache.services.filled().await;
            cache.replica_sets.filled().await;
            cache.jobs.filled().await;
        };
        if tokio::time::timeout(deadline, filled).await.is_err() {
            let troubles = [
                ("pods", cache.pods.trouble()),
                ("namespaces", cache.namespaces.trouble()),
                ("services", cache.services.trouble()),
                ("replicasets", cache.replica_sets.trouble()),
                ("jobs", cache.jobs.trouble()),
            ];
            let first =
                troubles.into_iter().find_map(|(kind, trouble)| Some(format!("cannot watch {kind}: {}", trouble?)));
            cache.close().await;
            let detail = first.unwrap_or_else(|| "the api server is slow to list what is there".to_owned());
            return Err(ConnectError::new(
                "api_unavailable",
                format!("no view of the cluster within {deadline:?}: {detail}"),
            ));
        }
        Ok(cache)
    }

    pub async fn close(&self) {
        self.stop.cancel();
        self.watches.close();
        self.watches.wait().await;
    }

    /// Follows a pod; none if there is no such pod, or another one of its name.
    pub fn follow(&self, namespace: &str, name: &str, uid: &str) -> Option<Follow> {
        let mut followed = self.followed.lock();
        // Looked up under the lock, so that no change is missed between the look and the first wait.
        let pod = self.pods.get(&(namespace.to_owned(), name.to_owned())).filter(|pod| pod.uid == uid)?;
        let sender = followed.entry(uid.to_owned()).or_insert_with(|| watch::channel(Sight::There(pod)).0);
        Some(Follow { uid: uid.to_owned(), sights: sender.subscribe(), followed: Arc::clone(&self.followed) })
    }

    /// Moves with every change that is kept.
    pub fn version(&self) -> u64 {
        *self.version.borrow()
    }

    /// Returns when the version is another one.
    pub async fn changed(&self, since: u64) {
        // The sender lives in self.
        let _ = self.version.subscribe().wait_for(|version| *version != since).await;
    }

    fn moved(&self) {
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Those who wait for a pod are woken for it.
    fn watch_pods(self: &Arc<Self>, client: &Client) {
        let cache = Arc::clone(self);
        let read = |pod: &Pod| PodState::read(pod).map(Arc::new);
        let name = |pod: &PodState| (pod.namespace.clone(), pod.name.clone());
        self.watches.spawn(keep(Api::<Pod>::all(client.clone()), self.stop.clone(), read, move |news| {
            match news {
                News::Trouble(trouble) => cache.pods.trouble_is(trouble),
                News::Listed(pods) => {
                    cache.pods.replace(pods.into_iter().map(|pod| (name(&pod), pod)).collect());
                    cache.followed.look(&cache.pods);
                }
                News::Is(pod) => {
                    let before = cache.pods.put(name(&pod), Some(Arc::clone(&pod)));
                    // Its name has passed to another pod, and the deletion in between was not told.
                    if let Some(before) = before.filter(|before| before.uid != pod.uid) {
                        cache.followed.saw(&before.uid, Sight::Gone(before.clone()));
                    }
                    cache.followed.saw(&pod.uid, Sight::There(Arc::clone(&pod)));
                }
                News::Gone(pod) => {
                    cache.pods.put(name(&pod), None);
                    cache.followed.saw(&pod.uid, Sight::Gone(Arc::clone(&pod)));
                }
            }
            cache.moved();
        }));
    }

    /// Keeps what `read` makes of each object.
    fn watch<O, K, V>(self: &Arc<Self>, client: &Client, kept: fn(&Cache) -> &Kept<K, V>, read: Read<O, K, V>)
    where
        O: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
        K: Eq + Hash + Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        let cache = Arc::clone(self);
        self.watches.spawn(keep(Api::<O>::all(client.clone()), self.stop.clone(), read, move |news| {
            let kept = kept(&cache);
            match news {
                News::Trouble(trouble) => kept.trouble_is(trouble),
                News::Listed(all) => {
                    kept.replace(all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
                }
                News::Is((key, value)) => drop(kept.put(key, value)),
                News::Gone((key, _)) => drop(kept.put(key, None)),
            }
            cache.moved();
        }));
    }
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Kept<K, V> {
        let trouble = watch::channel(Some("it has not answered yet".to_owned())).0;
        Kept { objects: RwLock::default(), trouble }
    }
}

impl<K: Eq + Hash, V> Kept<K, V> {
    pub fn get(&self, key: &K) -> Option<V>
    where
        V: Clone,
    {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub fn all(&self) -> HashMap<K, V>
    where
        K: Clone,
        V: Clone,
    {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything that `matches`.
    pub fn find(&self, matches: impl Fn(&K, &V) -> bool) -> Vec<V>
    where
        V: Clone,
    {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.iter().filter(|(key, value)| matches(key, value)).map(|(_, value)| value.clone()).collect()
    }

    /// Why the watch is not running.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    async fn filled(&self) {
        // The sender lives in self.
        let _ = self.trouble.subscribe().wait_for(Option::is_none).await;
    }

    fn trouble_is(&self, trouble: Option<String>) {
        self.trouble.send_replace(trouble);
    }

    pub fn replace(&self, objects: HashMap<K, V>) {
        *self.objects.write().unwrap_or_else(PoisonError::into_inner) = objects;
        self.trouble_is(None);
    }

    pub fn put(&self, key: K, value: Option<V>) -> Option<V> {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        match value {
            Some(value) => objects.insert(key, value),
            None => objects.remove(&key),
        }
    }
}

impl Followed {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, watch::Sender<Sight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, uid: &str, sight: Sight) {
        if let Some(sender) = self.lock().get(uid) {
            sender.send_replace(sight);
        }
    }

    /// Shows every follower what a new list says.
    fn look(&self, pods: &Kept<Key, Arc<PodState>>) {
        let there: HashMap<_, _> = pods.find(|_, _| true).into_iter().map(|pod| (pod.uid.clone(), pod)).collect();
        for (uid, sender) in self.lock().iter() {
            sender.send_modify(|sight| {
                *sight = match there.get(uid) {
                    Some(pod) => Sight::There(Arc::clone(pod)),
                    None => Sight::Gone(Arc::clone(sight.pod())),
                };
            });
        }
    }
}

impl Sight {
    pub fn pod(&self) -> &Arc<PodState> {
        match self {
            Sight::There(pod) | Sight::Gone(pod) => pod,
        }
    }
}

impl Follow {
    pub fn sight(&self) -> Sight {
        self.sights.borrow().clone()
    }

    /// Waits until `decide` makes something of what is seen.
    pub async fn until<T>(&mut self, mut decide: impl FnMut(&Sight) -> Option<T>) -> T {
        loop {
            let decided = decide(&self.sights.borrow_and_update());
            if let Some(decided) = decided {
                return decided;
            }
            if self.sights.changed().await.is_err() {
                // The sender lives in the cache's list for as long as we are on it.
                return std::future::pending().await;
            }
        }
    }
}

impl Clone for Follow {
    fn clone(&self) -> Follow {
        Follow { uid: self.uid.clone(), sights: self.sights.clone(), followed: Arc::clone(&self.followed) }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let mut followed = self.followed.lock();
        if followed.get(&self.uid).is_some_and(|sender| sender.receiver_count() <= 1) {
            followed.remove(&self.uid);
        }
    }
}

/// What a watch tells, each object in its short form.
pub(super) enum News<T> {
    /// Everything that is there now.
    Listed(Vec<T>),
    Is(T),
    Gone(T),
    /// The watch is not running, for this reason; none when it is again.
    Trouble(Option<String>),
}

/// Watches one kind of object until `stop`, whatever the API server does.
pub(super) async fn keep<O, T>(
    api: Api<O>,
    stop: CancellationToken,
    read: impl Fn(&O) -> Option<T>,
    mut tell: impl FnMut(News<T>),
) where
    O: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let kind = O::kind(&()).into_owned();
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    let mut listed = Vec::new();
    let mut pause = PAUSE_MIN;
    let mut troubled = false;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = stop.cancelled() => return,
        };
        let news = match event {
            Some(Ok(Event::Init)) => {
                listed = Vec::new();
                continue;
            }
            Some(Ok(Event::InitApply(object))) => {
                listed.extend(read(&object));
                continue;
            }
            Some(Ok(Event::InitDone)) => Some(News::Listed(std::mem::take(&mut listed))),
            Some(Ok(Event::Apply(object))) => read(&object).map(News::Is),
            Some(Ok(Event::Delete(object))) => read(&object).map(News::Gone),
            Some(Err(error)) => {
                let text = chain(&error);
                if !troubled {
                    tracing::warn!(
                        kind,
                        error = text,
                        "the watch has stopped: what is known grows old until it goes on"
                    );
                }
                troubled = true;
                tell(News::Trouble(Some(text)));
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                    () = stop.cancelled() => return,
                }
                continue;
            }
            None => return,
        };
        if troubled {
            tracing::info!(kind, "watching again");
            tell(News::Trouble(None));
        }
        (pause, troubled) = (PAUSE_MIN, false);
        if let Some(news) = news {
            tell(news);
        }
    }
}

fn key(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<Key> {
    Some((meta.namespace.clone()?, meta.name.clone()?))
}
