//! From a name to one pod.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// One running pod, and one container in it. Made only by `resolve`.
#[derive(Debug, Clone)]
pub struct Target {
    namespace: String,
    namespace_labels: BTreeMap<String, String>,
    pod: String,
    pod_uid: String,
    pod_labels: BTreeMap<String, String>,
    pod_ips: Vec<IpAddr>,
    workload: Option<String>,
    container: String,
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
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}+{}", self.namespace, self.pod, self.container)
    }
}
