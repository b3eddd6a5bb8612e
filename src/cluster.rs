//! The cluster: from a name to a pod, from a pod to a container, from a container to a process.
//!
//! kube's types stop here. Everything that follows `resolve` takes a `Grant`, so nothing enters a pod that the `Gate`
//! has not let in.

use std::time::Duration;

use crate::authorize::Grant;
use crate::config;
use crate::target::TargetName;

mod error;
mod process;
mod resolve;
mod tunnel;

pub use error::{ConnectError, DialError, Lost, ResolveError, StartError};
pub use process::{Chunk, Control, End, Input, Launch, Output, Process, Program, WindowSize};
pub use resolve::Target;
pub use tunnel::{Tunnel, TunnelReader, TunnelWriter};

/// A connection to one Kubernetes API server, and what is known of its pods.
pub struct Cluster {}

impl Cluster {
    /// Connects, and returns when the state of pods, namespaces, workloads and Services is known. `start_deadline` bounds
    /// this, and later each start of a container.
    pub async fn connect(_config: &config::Cluster, _start_deadline: Duration) -> Result<Cluster, ConnectError> {
        todo!()
    }

    /// Finds the place that a name means, for this person. Asks nobody: what the watches have told decides.
    pub fn resolve(&self, _name: &TargetName, _subject: &str) -> Result<Target, ResolveError> {
        todo!()
    }

    /// Starts a process in an ephemeral container of its own; returns when it runs and all that it writes from its first
    /// byte on will be read.
    pub async fn start(&self, _grant: &Grant, _launch: Launch<'_>) -> Result<Process, StartError> {
        todo!()
    }

    /// Connects to a port of the pod, for a grant to forward.
    pub async fn dial(&self, _grant: &Grant) -> Result<Tunnel, DialError> {
        todo!()
    }

    /// Stops watching. Processes and tunnels that exist go on.
    pub async fn close(&self) {
        todo!()
    }
}
