//! What the API server remembers: objects, and the latest changes to them for those who watch.
//!
//! Every change takes the next resource version, and a watcher reads changes in that order from where it is, so
//! it misses none; one that has fallen behind what is remembered is told so (410) and lists again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::resource::Kind;
use super::status::Refusal;

/// Changes remembered for watchers; each holds two objects of some kilobytes.
const HISTORY: usize = 100;

pub(super) struct Store {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

struct Inner {
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

#[derive(Clone)]
pub(super) struct Event {
    pub version: u64,
    pub kind: Kind,
    pub before: Option<Arc<Value>>,
    /// `None` when the object is gone.
    pub after: Option<Arc<Value>>,
}

impl Key {
    pub(super) fn new(kind: Kind, namespace: &str, name: &str) -> Key {
        Key { kind, namespace: namespace.into(), name: name.into() }
    }

    pub(super) fn of(kind: Kind, object: &Value) -> Key {
        Key::new(kind, text(object, "/metadata/namespace"), text(object, "/metadata/name"))
    }
}

/// The string at a JSON pointer, or the empty one.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer, or the empty one.
pub(super) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(super) fn new_uid() -> String {
    let [a, b] = [rand::random::<u64>(), rand::random::<u64>()];
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 52,
        b & 0xffff_ffff_ffff
    )
}

impl Store {
    pub(super) fn new() -> Store {
        // A real cluster's versions are never small, and 0 has a meaning of its own.
        let inner = Inner { version: 1000, objects: BTreeMap::new(), history: VecDeque::new() };
        Store { inner: Mutex::new(inner), changed: watch::Sender::new(1000) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told of each new version.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn create(&self, kind: Kind, mut object: Value) -> Result<Arc<Value>, Refusal> {
        let key = Key::of(kind, &object);
        let mut inner = self.lock();
        if inner.objects.contains_key(&key) {
            return Err(Refusal::exists(kind.plural(), &key.name));
        }
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.name());
        object["metadata"]["uid"] = json!(new_uid());
        object["metadata"]["creationTimestamp"] = json!(now());
        Ok(self.put(&mut inner, key, object))
    }

    pub(super) fn read(&self, key: &Key) -> Option<Arc<Value>> {
        self.lock().objects.get(key).cloned()
    }

    /// The objects of a kind, in a namespace or in all, and the version at which they were so.
    pub(super) fn list(&self, kind: Kind, namespace: Option<&str>) -> (u64, Vec<Arc<Value>>) {
        let inner = self.lock();
        let found = inner
            .objects
            .iter()
            .filter(|(key, _)| key.kind == kind && namespace.is_none_or(|namespace| key.namespace == namespace))
            .map(|(_, object)| object.clone())
            .collect();
        (inner.version, found)
    }

    /// Changes an object in place; what `change` refuses stays as it was, and what it leaves alike makes no event.
    pub(super) fn update(
        &self,
        key: &Key,
        change: impl FnOnce(&mut Value) -> Result<(), Refusal>,
    ) -> Result<Arc<Value>, Refusal> {
        let mut inner = self.lock();
        let found = inner.objects.get(key).cloned();
        let before = found.ok_or_else(|| Refusal::not_found(key.kind.plural(), &key.name))?;
        let mut after = (*before).clone();
        change(&mut after)?;
        if after == *before {
            return Ok(before);
        }
        Ok(self.put(&mut inner, key.clone(), after))
    }

    pub(super) fn delete(&self, key: &Key) -> Option<Arc<Value>> {
        let mut inner = self.lock();
        let before = inner.objects.remove(key)?;
        inner.version += 1;
        let mut last = (*before).clone();
        last["metadata"]["resourceVersion"] = json!(inner.version.to_string());
        let last = Arc::new(last);
        self.record(&mut inner, Event { version: 0, kind: key.kind, before: Some(last.clone()), after: None });
        Some(last)
    }

    /// What changed after `version`.
    pub(super) fn since(&self, version: u64) -> Result<Vec<Event>, Refusal> {
        let inner = self.lock();
        let oldest = inner.history.front().map_or(inner.version, |event| event.version - 1);
        if version < oldest {
            return Err(Refusal::expired(version, oldest));
        }
        let start = inner.history.partition_point(|event| event.version <= version);
        Ok(inner.history.iter().skip(start).cloned().collect())
    }

    /// Forgets what changed, as a real one does after some minutes.
    pub(super) fn compact(&self) {
        let mut inner = self.lock();
        inner.version += 1;
        inner.history.clear();
        self.changed.send_replace(inner.version);
    }

    fn put(&self, inner: &mut Inner, key: Key, mut object: Value) -> Arc<Value> {
        inner.version += 1;
        object["metadata"]["resourceVersion"] = json!(inner.version.to_string());
        let object = Arc::new(object);
        let kind = key.kind;
        let before = inner.objects.insert(key, object.clone());
        self.record(inner, Event { version: 0, kind, before, after: Some(object.clone()) });
        object
    }

    fn record(&self, inner: &mut Inner, event: Event) {
        let version = inner.version;
        inner.history.push_back(Event { version, ..event });
        if inner.history.len() > HISTORY {
            inner.history.pop_front();
        }
        self.changed.send_replace(version);
    }
}
