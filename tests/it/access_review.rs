//! Kubernetes' own word (SubjectAccessReview), for clusters that do know their people. Only a real API server has roles to
//! ask about.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::house::{House, Plan, finish, finish_with, text};

/// What the cluster lets people do by Porthole: developers a shell in `demo`, and commands in one pod of `team`.
const ROLES: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: porthole-test-shell}
rules: [{apiGroups: [porthole.dev], resources: [pods], verbs: [shell, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: porthole-test-shell, namespace: demo}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: porthole-test-shell}
subjects: [{kind: Group, name: "sso:developers", apiGroup: rbac.authorization.k8s.io}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: porthole-test-shell, namespace: team}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: porthole-test-shell}
subjects: [{kind: User, name: "sso:somebody-else", apiGroup: rbac.authorization.k8s.io}]
"#;

const CONFIG: &str = r#"
[authorize]
ask = ["cluster"]
recheck-interval = "1s"
[authorizers.cluster]
type = "access-review"
user = "sso:{subject}"
group-prefix = "sso:"
limits = { cache-lifetime = "0s" }
"#;

fn kubectl(state: &Path, arguments: &[&str]) -> Command {
    let mut kubectl = Command::new(state.join("bin/kubectl"));
    kubectl.arg("--kubeconfig").arg(state.join("kubeconfig")).args(arguments);
    kubectl
}

/// The right to ask, which these tests give and take.
const COMPONENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/access-review/account.yaml");

/// Roles of the cluster, and Porthole's right to ask about them. They end with the value.
pub struct Roles {
    state: PathBuf,
    yaml: &'static str,
    /// What one test takes back, another may still need.
    _alone: MutexGuard<'static, ()>,
}

impl Roles {
    pub fn apply(state: &Path, yaml: &'static str) -> Roles {
        static ALONE: Mutex<()> = Mutex::new(());
        // A test that has failed took its roles with it.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        for output in [
            finish(&mut kubectl(state, &["apply", "-f", COMPONENT])),
            finish_with(&mut kubectl(state, &["apply", "-f", "-"]), yaml.as_bytes()),
        ] {
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
        Roles { state: state.to_owned(), yaml, _alone: alone }
    }

    fn take_back(&self) {
        let binding = ["-n", "demo", "delete", "rolebinding", "porthole-test-shell", "--ignore-not-found"];
        assert!(finish(&mut kubectl(&self.state, &binding)).status.success());
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        // What is gone already needs no end.
        let _ = finish(&mut kubectl(&self.state, &["delete", "--ignore-not-found", "-f", COMPONENT]));
        let roles = ["delete", "--ignore-not-found", "-f", "-"];
        let _ = finish_with(&mut kubectl(&self.state, &roles), self.yaml.as_bytes());
    }
}

/// The real cluster's kubeconfig, by Porthole's own account; none, told aloud, without a real cluster.
pub fn real() -> Option<PathBuf> {
    let kubeconfig = std::env::var_os("PORTHOLE_TEST_KUBECONFIG").map(PathBuf::from);
    if kubeconfig.is_none() {
        eprintln!("SKIPPED: SubjectAccessReview needs a real API server: make e2e");
    }
    kubeconfig
}

#[test]
fn the_clusters_own_roles_open_a_place_and_close_it_under_a_session() {
    let Some(kubeconfig) = real() else { return };
    let roles = Roles::apply(kubeconfig.parent().expect("a file in the state's folder"), ROLES);
    let house = House::build(Plan { config: CONFIG.to_owned(), ..Plan::default() });
    let shell = |place: &str| {
        let mut client = house.client("ssh");
        finish_with(client.arg(format!("{place}@porthole")), b"echo in; exit 5\n")
    };
    let open = shell("demo.web");
    assert_eq!((text(&open.stdout).as_str(), open.status.code()), ("in\n", Some(5)), "{}", text(&open.stderr));
    for place in ["team.api", "secret.vault"] {
        let closed = shell(place);
        assert_eq!(closed.status.code(), Some(254), "{place}");
        assert!(text(&closed.stderr).contains("not open to you"), "{}", text(&closed.stderr));
    }
    // Another verb of the same place.
    assert_eq!(house.ssh("demo.web", "true").status.code(), Some(254));
    let decided = house.await_audit("decision", |event| event["event"] == "decision" && event["allow"] == true);
    assert!(decided["reason"].as_str().is_some_and(|reason| reason.contains("porthole-test-shell")), "{decided}");

    let mut client = house.client("ssh");
    client.arg("demo.web@porthole").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut client = client.stderr(std::process::Stdio::piped()).spawn().expect("ssh starts");
    let mut keys = client.stdin.take().expect("piped");
    std::io::Write::write_all(&mut keys, b"echo begin\n").expect("open");
    crate::house::read_until(client.stdout.as_mut().expect("piped"), "begin\n");
    roles.take_back();
    let ended = client.wait_with_output().expect("a child");
    assert_eq!(ended.status.code(), Some(254), "{ended:?}");
    assert!(text(&ended.stderr).contains("no longer open to you"), "{}", text(&ended.stderr));
}
