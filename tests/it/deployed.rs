//! Porthole as an operator runs it: two replicas inside the cluster, from `deploy/`, reached through their Service.
//!
//! Only a real cluster can run it. What the replicas may do there is `deploy/`'s role and nothing else.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::house::{finish, finish_with, make_keys, read_until, text, write_ssh_config};

const NODE_PORT: u16 = 32222;
const ACCOUNT: &str = "system:serviceaccount:porthole:porthole";

/// Porthole in the cluster; its Deployment and Service end with the value.
struct Deployed {
    folder: tempfile::TempDir,
    state: PathBuf,
}

impl Deployed {
    /// Imports the program as an image and applies the manifests; returns when both replicas are ready. None, told
    /// aloud, without a real cluster.
    fn start() -> Option<Deployed> {
        let Some(kubeconfig) = std::env::var_os("PORTHOLE_TEST_KUBECONFIG").map(PathBuf::from) else {
            eprintln!("SKIPPED: Porthole inside the cluster needs a real one: make e2e");
            return None;
        };
        let state = kubeconfig.parent().expect("a file in the state's folder").to_owned();
        let folder = tempfile::tempdir().expect("a folder");
        make_keys(folder.path());
        write_ssh_config(folder.path(), NODE_PORT);
        let deployed = Deployed { folder, state };

        let image = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/images/porthole"))
            .arg(env!("CARGO_BIN_EXE_porthole"))
            .env("PORTHOLE_CLUSTER_STATE", &deployed.state)
            .output();
        succeeded(image.expect("it runs"));
        for (secret, file) in [("porthole-host-key", "host_key"), ("porthole-ca", "user_ca.pub")] {
            let from = format!("--from-file={}", deployed.folder.path().join(file).display());
            let dry = ["create", "secret", "generic", secret, &from, "--dry-run=client", "-o", "yaml"];
            let yaml = succeeded(finish(&mut deployed.kubectl(&dry))).stdout;
            succeeded(finish_with(&mut deployed.kubectl(&["apply", "-f", "-"]), &yaml));
        }
        let overlay = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/porthole");
        succeeded(finish(&mut deployed.kubectl(&["apply", "-k", overlay])));
        deployed.roll_out();
        Some(deployed)
    }

    fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut kubectl = kubectl(&self.state);
        kubectl.args(["-n", "porthole"]).args(arguments);
        kubectl
    }

    fn roll_out(&self) {
        succeeded(finish(&mut self.kubectl(&["rollout", "status", "deployment/porthole", "--timeout=50s"])));
    }

    fn client(&self, program: &str) -> Command {
        let mut client = Command::new(program);
        client.arg("-F").arg(self.folder.path().join("ssh_config")).stdin(Stdio::null());
        client
    }

    fn ssh(&self, command: &str) -> Output {
        finish(self.client("ssh").arg("demo.web@porthole").arg(command))
    }

    /// What each replica has written to stdout, where its audit trail goes.
    fn trails(&self) -> Vec<String> {
        let ours = ["get", "pods", "-l", "app.kubernetes.io/name=porthole", "-o", "name"];
        let names = text(&succeeded(finish(&mut self.kubectl(&ours))).stdout);
        names.lines().map(|pod| text(&succeeded(finish(&mut self.kubectl(&["logs", pod]))).stdout)).collect()
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        let gone = finish(&mut self.kubectl(&["delete", "deployment,service", "porthole", "--wait=false"]));
        assert!(std::thread::panicking() || gone.status.success(), "{gone:?}");
    }
}

fn succeeded(output: Output) -> Output {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    output
}

#[test]
fn two_replicas_in_the_cluster_serve_ssh_through_their_service_and_roll_without_a_gap() {
    let Some(deployed) = Deployed::start() else { return };

    // The node learns of a new Service a moment after its pods are ready, and refuses until then.
    let mut first = deployed.client("ssh");
    first.args(["-o", "ConnectionAttempts=20", "demo.web@porthole", "hostname; echo to stderr >&2; exit 7"]);
    let output = finish(&mut first);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(7), "to stderr\n"), "{output:?}");
    assert!(text(&output.stdout).starts_with("web-"), "{output:?}");
    let notes = deployed.folder.path().join("notes.txt");
    std::fs::write(&notes, "notes").expect("writable");
    let copied = finish(deployed.client("scp").arg(&notes).arg("demo.web@porthole:/tmp/notes.txt"));
    assert!(copied.status.success(), "{copied:?}");

    // The Service spreads connections over both.
    let served =
        |trails: &[String]| trails.len() == 2 && trails.iter().all(|trail| trail.contains("\"process_ended\""));
    let both = (0..20).any(|_| {
        assert_eq!(deployed.ssh("exit 3").status.code(), Some(3));
        served(&deployed.trails())
    });
    assert!(both, "20 connections, and one replica has seen none: {:#?}", deployed.trails());

    // A new version comes: what runs goes on, what begins is served.
    let mut client = deployed.client("ssh");
    client.args(["demo.web@porthole", "echo begin; read line; echo got $line; exit 6"]);
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ssh starts");
    let mut output = client.stdout.take().expect("piped");
    read_until(&mut output, "begin\n");
    succeeded(finish(&mut deployed.kubectl(&["rollout", "restart", "deployment/porthole"])));
    deployed.roll_out();
    assert_eq!(deployed.ssh("exit 5").status.code(), Some(5));
    client.stdin.take().expect("piped").write_all(b"word\n").expect("open");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("text");
    assert_eq!((rest.as_str(), client.wait().expect("a child").code()), ("got word\n", Some(6)));
}

#[test]
fn the_account_may_do_what_the_manifests_say_and_no_more() {
    let Some(kubeconfig) = std::env::var_os("PORTHOLE_TEST_KUBECONFIG").map(PathBuf::from) else {
        eprintln!("SKIPPED: the rights of an account are a real cluster's: make e2e");
        return;
    };
    let state = kubeconfig.parent().expect("a file in the state's folder");
    let list = ["auth", "can-i", "--list", "--as", ACCOUNT, "-n", "demo"];
    let listed = text(&succeeded(finish(kubectl(state).args(list))).stdout);
    // Resources, and the verbs in the last brackets; what every account may ask of itself is left out.
    let mut rights: Vec<(String, String)> = listed
        .lines()
        .skip(1)
        .filter_map(|line| {
            let resource = line.split_whitespace().next()?;
            let verbs = line.rsplit_once('[')?.1.trim_end_matches(']');
            (!resource.starts_with('[') && !resource.starts_with("self"))
                .then(|| (resource.to_owned(), verbs.to_owned()))
        })
        .collect();
    rights.sort();
    let expected = [
        ("daemonsets.apps", "get list watch"),
        ("deployments.apps", "get list watch"),
        ("endpointslices.discovery.k8s.io", "get list watch"),
        ("events", "list watch"),
        ("jobs.batch", "get list watch"),
        ("namespaces", "get list watch"),
        ("pods", "get list watch"),
        ("pods/attach", "get create"),
        ("pods/ephemeralcontainers", "patch"),
        ("pods/exec", "get create"),
        ("pods/portforward", "get create"),
        ("replicasets.apps", "get list watch"),
        ("services", "get list watch"),
        ("statefulsets.apps", "get list watch"),
    ];
    let expected = expected.map(|(resource, verbs)| (resource.to_owned(), verbs.to_owned()));
    assert_eq!(rights, expected, "{listed}");
}

/// The administrator's.
fn kubectl(state: &Path) -> Command {
    let mut kubectl = Command::new(state.join("bin/kubectl"));
    kubectl.arg("--kubeconfig").arg(state.join("kubeconfig"));
    kubectl
}
