//! The resources that the emulator knows, and how their paths name them.

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Namespace,
    Pod,
    Service,
    EndpointSlice,
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    Job,
    CronJob,
    Node,
    Event,
    Lease,
}

impl Kind {
    pub(super) const ALL: [Kind; 13] = [
        Kind::Namespace,
        Kind::Pod,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::Deployment,
        Kind::StatefulSet,
        Kind::DaemonSet,
        Kind::ReplicaSet,
        Kind::Job,
        Kind::CronJob,
        Kind::Node,
        Kind::Event,
        Kind::Lease,
    ];

    pub(super) fn name(self) -> &'static str {
        self.words().0
    }

    pub(super) fn plural(self) -> &'static str {
        self.words().1
    }

    /// `v1`, or the group and the version.
    pub(super) fn api_version(self) -> &'static str {
        self.words().2
    }

    pub(super) fn namespaced(self) -> bool {
        !matches!(self, Kind::Namespace | Kind::Node)
    }

    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Kind::Namespace => ("Namespace", "namespaces", "v1"),
            Kind::Pod => ("Pod", "pods", "v1"),
            Kind::Service => ("Service", "services", "v1"),
            Kind::Node => ("Node", "nodes", "v1"),
            Kind::Event => ("Event", "events", "v1"),
            Kind::EndpointSlice => ("EndpointSlice", "endpointslices", "discovery.k8s.io/v1"),
            Kind::Deployment => ("Deployment", "deployments", "apps/v1"),
            Kind::StatefulSet => ("StatefulSet", "statefulsets", "apps/v1"),
            Kind::DaemonSet => ("DaemonSet", "daemonsets", "apps/v1"),
            Kind::ReplicaSet => ("ReplicaSet", "replicasets", "apps/v1"),
            Kind::Job => ("Job", "jobs", "batch/v1"),
            Kind::CronJob => ("CronJob", "cronjobs", "batch/v1"),
            Kind::Lease => ("Lease", "leases", "coordination.k8s.io/v1"),
        }
    }
}

/// A path of the API: what it names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub kind: Kind,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

impl Place {
    /// Reads `/api/v1/…` and `/apis/<group>/<version>/…`. Kubernetes' names need no percent-decoding.
    pub(super) fn parse(path: &str) -> Option<Place> {
        let words: Vec<&str> = path.split('/').skip(1).collect();
        let (version, rest) = match words.as_slice() {
            ["api", "v1", rest @ ..] => ("v1".to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return None,
        };
        let kind =
            |plural: &str| Kind::ALL.into_iter().find(|kind| kind.plural() == plural && kind.api_version() == version);
        let owned = |word: &&str| Some((*word).to_owned()).filter(|word| !word.is_empty());
        let (namespace, plural, rest) = match rest {
            ["namespaces", namespace, plural, rest @ ..] if kind(plural).is_some_and(Kind::namespaced) => {
                (owned(namespace), plural, rest)
            }
            [plural, rest @ ..] => (None, plural, rest),
            [] => return None,
        };
        let kind = kind(plural)?;
        let (name, subresource) = match rest {
            [] => (None, None),
            [name] => (owned(name), None),
            [name, subresource] => (owned(name), owned(subresource)),
            _ => return None,
        };
        if name.is_some() && kind.namespaced() && namespace.is_none() {
            return None;
        }
        Some(Place { kind, namespace, name, subresource })
    }
}
