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
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}+{}", self.namespace, self.pod, self.container)
    }
}
