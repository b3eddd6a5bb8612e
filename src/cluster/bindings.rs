//! Bindings of keys to people, as objects of the cluster: every replica's, and there after a restart.
//!
//! Each is a Lease. Whoever may write bindings may say who is who, so their rights are apart from all others: no
//! configuration and no secret is a Lease, and Porthole needs none of its own namespace's ConfigMaps or Secrets for this.
//! The watch tells each replica what is new and what is gone; an ended one is removed when the next is made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::api::ApiServer;
use super::cache::{News, keep};
use super::error::{ConnectError, Refused};
use crate::auth::binding::{Binding, BindingStore, BindingStoreError, Known};
use crate::config;

/// Holds the binding itself, as JSON.
const ANNOTATION: &str = "porthole/binding";
/// Ended bindings that are removed beside a new one.
const REMOVED_MAX: usize = 16;

/// The bindings of one namespace.
pub struct StoredBindings {
    api: ApiServer,
    namespace: String,
    _watch: DropGuard,
}

/// Which bindings to take back.
#[derive(Debug)]
pub enum Named {
    Subject(String),
    Fingerprint(String),
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Named::Subject(subject) => write!(f, "subject {subject:?}"),
            Named::Fingerprint(fingerprint) => write!(f, "key {fingerprint:?}"),
        }
    }
}

/// Bindings could not be taken back.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RevokeError(String);

impl StoredBindings {
    /// Returns when every binding that there is, is known.
    pub(super) async fn open(
        api: &ApiServer,
        namespace: Option<&str>,
        known: Arc<Known>,
        deadline: Duration,
    ) -> Result<StoredBindings, ConnectError> {
        let namespace = namespace.map_or_else(|| api.client().default_namespace().to_owned(), str::to_owned);
        let stop = CancellationToken::new();
        let (listed, mut first) = tokio::sync::watch::channel(false);
        tokio::spawn(keep(leases(api, &namespace), stop.clone(), read, move |news| match news {
            News::Listed(all) => {
                known.are(all);
                listed.send_replace(true);
            }
            News::Is(binding) => known.is(Arc::new(binding)),
            News::Gone(binding) => known.is_gone(&binding),
            // What is known stays in force, and grows old; `keep` says so.
            News::Trouble(_) => {}
        }));
        let watch = stop.drop_guard();
        let filled = tokio::time::timeout(deadline, first.wait_for(|listed| *listed)).await;
        if !matches!(filled, Ok(Ok(_))) {
            let detail = format!("cannot list leases in namespace {namespace} within {deadline:?} (device.bindings)");
            return Err(ConnectError::new("api_unavailable", detail));
        }
        Ok(StoredBindings { api: api.clone(), namespace, _watch: watch })
    }

    async fn write(&self, binding: &Binding) -> Result<(), Refused> {
        let name = name(&binding.fingerprint);
        let annotation = json!({ ANNOTATION: serde_json::to_string(binding).unwrap_or_default() });
        let object = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": name, "namespace": self.namespace, "annotations": annotation },
        });
        let lease: Lease = serde_json::from_value(object).expect("a lease of three plain fields");
        let created = self.api.ask("keeping a binding", |_| {
            let (api, lease) = (leases(&self.api, &self.namespace), lease.clone());
            async move {
                match api.create(&PostParams::default(), &lease).await {
                    // The key was bound before; what it says now takes the place of that.
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
                    created => created.map(|_| true),
                }
            }
        });
        if created.await? {
            return Ok(());
        }
        let patch = json!({ "metadata": { "annotations": annotation } });
        let replaced = self.api.ask("replacing a binding", |_| {
            let (api, name, patch) = (leases(&self.api, &self.namespace), name.clone(), Patch::Merge(patch.clone()));
            async move { api.patch(&name, &PatchParams::default(), &patch).await }
        });
        replaced.await.map(drop)
    }
}

impl BindingStore for StoredBindings {
    fn keep<'a>(&'a self, binding: &'a Binding) -> BoxFuture<'a, Result<(), BindingStoreError>> {
        Box::pin(async move {
            self.write(binding).await.map_err(|refused| BindingStoreError(refused.detail))?;
            // Nobody waits for it: the person has been approved.
            let (api, namespace) = (self.api.clone(), self.namespace.clone());
            tokio::spawn(async move { sweep(&api, &namespace).await });
            Ok(())
        })
    }

    fn is_lasting(&self) -> bool {
        true
    }
}

/// Takes bindings back, and returns those that there were. Every replica learns of it by its watch.
pub async fn revoke(
    config: &config::Cluster,
    namespace: Option<&str>,
    named: &Named,
) -> Result<Vec<Binding>, RevokeError> {
    let api = ApiServer::open(config).await.map_err(|error| RevokeError(error.to_string()))?;
    let namespace = namespace.map_or_else(|| api.client().default_namespace().to_owned(), str::to_owned);
    let listed = api.ask("listing bindings", |_| {
        let api = leases(&api, &namespace);
        async move { api.list(&ListParams::default()).await }
    });
    let listed = listed.await.map_err(|refused| RevokeError(refused.detail))?;
    let meant = |binding: &Binding| match named {
        Named::Subject(subject) => binding.subject == *subject,
        Named::Fingerprint(fingerprint) => binding.fingerprint == *fingerprint,
    };
    let meant: Vec<_> = listed.items.iter().filter_map(read).filter(meant).collect();
    for binding in &meant {
        remove(&api, &namespace, &binding.fingerprint).await.map_err(|refused| RevokeError(refused.detail))?;
    }
    Ok(meant)
}

/// Removes bindings that have ended, as the API server has them now: what is known here may lag behind a new one of the same
/// key. What cannot be removed now is tried again with the next one.
async fn sweep(api: &ApiServer, namespace: &str) {
    let listed = api.ask("listing bindings", |_| {
        let api = leases(api, namespace);
        async move { api.list(&ListParams::default()).await }
    });
    let listed = match listed.await {
        Ok(listed) => listed,
        Err(refused) => return tracing::warn!(detail = refused.detail, "cannot list the bindings that have ended"),
    };
    let now = Timestamp::now();
    let ended = listed.items.iter().filter(|lease| read(lease).is_some_and(|binding| now >= binding.until));
    for lease in ended.take(REMOVED_MAX) {
        if let Err(error) = remove_seen(api, namespace, lease).await {
            return tracing::warn!(%error, "cannot remove a binding that has ended");
        }
    }
}

/// Removes this very object; what was written to it since stays.
async fn remove_seen(api: &ApiServer, namespace: &str, lease: &Lease) -> kube::Result<()> {
    let Some(name) = &lease.metadata.name else { return Ok(()) };
    let seen =
        Preconditions { resource_version: lease.metadata.resource_version.clone(), uid: lease.metadata.uid.clone() };
    let only = DeleteParams { preconditions: Some(seen), ..DeleteParams::default() };
    match leases(api, namespace).delete(name, &only).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        removed => removed.map(drop),
    }
}

async fn remove(api: &ApiServer, namespace: &str, fingerprint: &str) -> Result<(), Refused> {
    let name = name(fingerprint);
    let removed = api.ask("removing a binding", |_| {
        let (api, name) = (leases(api, namespace), name.clone());
        async move {
            match api.delete(&name, &DeleteParams::default()).await {
                // Another replica was first.
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                removed => removed.map(drop),
            }
        }
    });
    removed.await
}

fn leases(api: &ApiServer, namespace: &str) -> Api<Lease> {
    Api::namespaced(api.client(), namespace)
}

/// None for a Lease of somebody else's, and for one that does not stand under its own key's name.
fn read(lease: &Lease) -> Option<Binding> {
    let text = lease.metadata.annotations.as_ref()?.get(ANNOTATION)?;
    let binding: Binding = serde_json::from_str(text).ok()?;
    (lease.metadata.name.as_deref() == Some(name(&binding.fingerprint).as_str())).then_some(binding)
}

/// A key's Lease: a fingerprint has letters that no name may have.
fn name(fingerprint: &str) -> String {
    let digest = Sha256::digest(fingerprint.as_bytes());
    let hex: String = digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
    format!("porthole-key-{hex}")
}

#[cfg(test)]
mod tests;
