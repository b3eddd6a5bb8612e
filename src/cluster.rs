//! The cluster: from a name to a pod, from a pod to a container, from a container to a process.
//!
//! kube's types stop here. Everything that follows `resolve` takes a `Grant`, so nothing enters a pod that the `Gate`
//! has not let in.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::binding::Known;
use crate::authorize::{Action, Grant, SFTP};
use crate::config;
use crate::target::TargetName;

mod api;
mod attach;
mod bindings;
mod cache;
mod container;
mod error;
mod hangup;
mod marker;
mod output;
mod places;
mod pod;
mod process;
mod resolve;
mod script;
mod security;
mod shown;
mod stream;
#[cfg(test)]
mod tests;
mod tunnel;

pub use api::ApiServer;
pub use attach::Container;
pub use bindings::{Named, RevokeError, StoredBindings, revoke};
use cache::Cache;
pub use error::{ConnectError, DialError, Lost, ResolveError, StartError};
pub use output::{Chunk, Output};
pub use places::{Place, Places};
pub use process::{Control, End, Input, Launch, Process, Program, WindowSize};
pub use resolve::Target;
pub use script::COMMAND_MAX_BYTES;
pub use shown::Shown;
pub use tunnel::{Tunnel, TunnelReader, TunnelWriter};

/// A connection to one Kubernetes API server, and what is known of its pods.
pub struct Cluster {
    api: ApiServer,
    cache: Arc<Cache>,
    latest: places::Latest,
    start_deadline: Duration,
    request_timeout: Duration,
}

impl Cluster {
    /// Returns when the state of pods, namespaces, workloads and Services is known. `start_deadline` bounds this, and later
    /// each start of a container.
    pub async fn connect(
        api: ApiServer,
        config: &config::Cluster,
        start_deadline: Duration,
    ) -> Result<Cluster, ConnectError> {
        let cache = Cache::fill(&api.client(), start_deadline).await?;
        Ok(Cluster {
            api,
            cache,
            latest: places::Latest::default(),
            start_deadline,
            request_timeout: config.request_timeout,
        })
    }

    /// Finds the place that a name means, for this person. Asks nobody: what the watches have told decides.
    ///
    /// A place that cannot be entered now is a place all the same; `start` and `dial` say why it cannot be entered, once
    /// there is a grant.
    pub fn resolve(&self, name: &TargetName, subject: &str) -> Result<Target, ResolveError> {
        resolve::resolve(&self.cache, name, subject)
    }

    /// The same place with the labels that it has by now; as it was, where the pod has gone.
    pub fn as_it_is(&self, target: &Target) -> Target {
        resolve::as_it_is(&self.cache, target)
    }

    /// All that is there, as it is now or was a moment ago. What a person may see of it is for the `Gate` to say.
    pub fn places(&self) -> Arc<Places> {
        self.latest.look(&self.cache)
    }

    /// Returns when there may be other places than these, or they may look otherwise; which may be at once. Cancel safe.
    pub async fn places_changed(&self, since: &Places) {
        self.cache.changed(since.version()).await;
    }

    /// Starts an ephemeral container for one process; returns when it runs and waits for its order. Nothing of the
    /// program has begun then: that is `Container::run`'s.
    pub async fn start<'a>(&'a self, grant: &'a Grant, launch: Launch<'a>) -> Result<Container<'a>, StartError> {
        // A grant is for the very command that the authorizer was asked about.
        let fits = match (grant.action(), &launch.program) {
            (Action::Shell, Program::Shell) => true,
            (Action::Files { command, .. }, Program::Sftp { read_only }) => {
                command == SFTP && *read_only == grant.obligations().read_only
            }
            (Action::Exec { command } | Action::Files { command, .. }, Program::Command(launched)) => {
                command == launched
            }
            _ => false,
        };
        if !fits || grant.profile() != launch.profile_name {
            let detail =
                format!("a grant to {} with the profile {} is none for this", grant.action().name(), grant.profile());
            return Err(StartError::new("wrong_action", "this was not granted").detailed(detail));
        }
        process::check(&launch.program)?;
        if let Some(obstacle) = grant.target().obstacle() {
            return Err(StartError::new(obstacle.code, obstacle.person.clone()));
        }
        let running = container::start(&self.api, &self.cache, grant, &launch, self.start_deadline).await?;
        Ok(Container { api: &self.api, grant, launch, running, deadline: self.start_deadline })
    }

    /// Connects to a port of the pod, for a grant to forward.
    pub async fn dial(&self, grant: &Grant) -> Result<Tunnel, DialError> {
        tunnel::dial(&self.api, &self.cache, grant, self.request_timeout).await
    }

    /// The bindings of keys to people that are kept in the cluster; returns when `known` knows them all.
    pub async fn bindings(
        &self,
        namespace: Option<&str>,
        known: Arc<Known>,
        deadline: Duration,
    ) -> Result<StoredBindings, ConnectError> {
        StoredBindings::open(&self.api, namespace, known, deadline).await
    }

    /// Stops watching. Processes and tunnels that exist go on, but the status of a container is not learned any more.
    pub async fn close(&self) {
        self.cache.close().await;
    }
}
