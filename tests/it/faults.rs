//! When the cluster fails under a session: the person gets a line and 254 within seconds, never a hang and never 0, and
//! nothing is left in the pod.
//!
//! These tests break the cluster, so each has one of its own where that is the playground; on a real one they must run
//! alone.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::house::{Cluster, House, Plan, finish, playground, read_until, text};
use crate::registry::Registry;

/// A cluster that may be broken.
struct Fragile {
    kubeconfig: PathBuf,
    /// The real one's state folder.
    state: Option<PathBuf>,
    _playground: Option<(tempfile::TempDir, Cluster)>,
}

impl Fragile {
    fn new() -> Fragile {
        if let Some(real) = Fragile::real() {
            return real;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let cluster = playground(&folder.path().join("state"));
        Fragile { kubeconfig: cluster.kubeconfig.clone(), state: None, _playground: Some((folder, cluster)) }
    }

    /// The real one, if there is one.
    fn real() -> Option<Fragile> {
        let kubeconfig = std::env::var_os("PORTHOLE_TEST_KUBECONFIG").map(PathBuf::from)?;
        let state = kubeconfig.parent().map(PathBuf::from);
        Some(Fragile { kubeconfig, state, _playground: None })
    }

    fn house(&self) -> House {
        House::build(Plan { kubeconfig: Some(self.kubeconfig.clone()), ..Plan::default() })
    }

    /// The first value of the kubeconfig with this key, in block or flow style.
    fn value(&self, key: &str) -> String {
        let text = std::fs::read_to_string(&self.kubeconfig).expect("readable");
        let (_, rest) = text.split_once(key).expect("a kubeconfig has it");
        let end = rest.find([',', '}', '\n']).unwrap_or(rest.len());
        rest[..end].trim().trim_matches('"').to_owned()
    }

    fn server(&self) -> String {
        self.value("server:")
    }

    /// Kills the API server and starts it again; every connection to it is cut.
    fn restart_api_server(&self) {
        match &self.state {
            Some(state) => restart(state, "kube-apiserver"),
            None => self.curl(&["-X", "POST", "-d", r#"{"dropConnections": true}"#], "/playground/faults"),
        }
    }

    fn delete_pod(&self, pod: &str) {
        match &self.state {
            Some(state) => {
                let mut kubectl = Command::new(state.join("bin/kubectl"));
                kubectl.arg("--kubeconfig").arg(state.join("kubeconfig"));
                let deleted = finish(kubectl.args(["-n", "demo", "delete", "pod", pod, "--wait=false"]));
                assert!(deleted.status.success(), "{deleted:?}");
            }
            None => self.curl(&["-X", "DELETE"], &format!("/api/v1/namespaces/demo/pods/{pod}")),
        }
    }

    fn curl(&self, arguments: &[&str], path: &str) {
        let header = format!("Authorization: Bearer {}", self.value("token:"));
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body", "-H", &header, "-H", "Content-Type: application/json"]).args(arguments);
        let output = finish(curl.arg(format!("{}{path}", self.server())));
        assert!(output.status.success(), "{output:?}");
    }
}

/// Kills a program of the real cluster and starts it again; returns when the cluster is as it was.
fn restart(state: &Path, program: &str) {
    let scripts = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster"));
    for script in [&["process", "restart", program, "KILL"][..], &["up"]] {
        let mut command = Command::new(scripts.join(script[0]));
        let output = command.args(&script[1..]).env("PORTHOLE_CLUSTER_STATE", state).output().expect("it runs");
        assert!(output.status.success(), "{script:?}: {output:?}");
    }
}

/// A session that is in the middle of something.
struct Busy {
    client: Child,
    pod: String,
}

impl Busy {
    fn open(house: &House) -> Busy {
        let mut client = house.client("ssh");
        client.args(["demo.web@porthole", "echo in $(hostname).; while :; do echo x; sleep 1; done"]);
        let mut client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ssh starts");
        let seen = read_until(client.stdout.as_mut().expect("piped"), ".\n");
        let pod = seen.trim().trim_end_matches('.').rsplit(' ').next().expect("a name").to_owned();
        Busy { client, pod }
    }

    fn end(self) -> (Option<i32>, String) {
        let output = self.client.wait_with_output().expect("a child of ours");
        (output.status.code(), text(&output.stderr))
    }
}

#[test]
fn a_session_whose_api_server_is_killed_ends_with_a_line_and_the_next_one_works() {
    let cluster = Fragile::new();
    let house = cluster.house();
    let busy = Busy::open(&house);
    cluster.restart_api_server();
    let (status, said) = busy.end();
    assert_eq!(status, Some(254), "{said}\n{}", house.log());
    assert!(said.starts_with("porthole: ") && said.contains("(session "), "{said}");
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3), "{}", house.log());
    let ended = house.await_audit("container's end", |event| event["event"] == "container_ended");
    assert_eq!(ended["code"], "terminated", "{}", house.log());
}

#[test]
fn a_session_whose_node_restarts_its_programs_ends_with_a_line_and_leaves_nothing() {
    let Some(cluster @ Fragile { state: Some(state), .. }) = &Fragile::real() else {
        eprintln!("SKIPPED: a kubelet and a container runtime are a real cluster's: make e2e");
        return;
    };
    for program in ["kubelet", "containerd"] {
        let house = cluster.house();
        let busy = Busy::open(&house);
        restart(state, program);
        let (status, said) = busy.end();
        assert_eq!(status, Some(254), "{program}: {said}\n{}", house.log());
        assert!(said.starts_with("porthole: ") && said.contains("(session "), "{program}: {said}");
        assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3), "{program}: {}", house.log());
        let ended = house.await_audit("container's end", |event| event["event"] == "container_ended");
        assert_eq!(ended["code"], "terminated", "{program}: {}", house.log());
    }
}

#[test]
fn an_image_that_the_nodes_disk_cannot_hold_is_said_so() {
    let Some(cluster @ Fragile { state: Some(state), .. }) = &Fragile::real() else {
        eprintln!("SKIPPED: a node with a disk is a real cluster's: make e2e");
        return;
    };
    let registry = Registry::with_layer(8 << 20);
    let config = format!("[profiles.big]\nimage = \"{}\"\n", registry.image());
    let house = House::build(Plan { config, kubeconfig: Some(cluster.kubeconfig.clone()), ..Plan::default() });
    let _full = SmallDisk::under(state.join("containerd/io.containerd.content.v1.content"));
    let started = Instant::now();
    let output = house.ssh("demo.db~big", "true");
    assert_eq!(output.status.code(), Some(254), "{output:?}");
    // Of a pod that had many events lately a kubelet tells none for a while, and the status is ten seconds late.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    let line = text(&output.stderr);
    assert!(line.contains("no space left on device") && line.contains("(session "), "{line}");
    assert_eq!(house.ssh("demo.db", "exit 3").status.code(), Some(3), "the pod is as usable as before");
}

/// A disk with what is in a folder and little room for more, in that folder's place until it is dropped.
struct SmallDisk {
    folder: PathBuf,
    disk: tempfile::TempDir,
}

impl SmallDisk {
    fn under(folder: PathBuf) -> SmallDisk {
        let disk = SmallDisk { folder, disk: tempfile::tempdir().expect("a folder") };
        let script = "mount -t tmpfs none $2 && cp -a $1/. $2/ && \
                      used=$(df --output=used -k $2 | tail -1) && mount -o remount,size=$((used + 1024))k $2 && \
                      mount --bind $2 $1";
        disk.run(script);
        disk
    }

    fn run(&self, script: &str) {
        let mut shell = Command::new("sh");
        let output =
            shell.args(["-c", script, "sh"]).arg(&self.folder).arg(self.disk.path()).output().expect("it runs");
        assert!(std::thread::panicking() || output.status.success(), "{output:?}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.run("umount --lazy $1; umount --lazy $2");
    }
}

#[test]
fn a_session_whose_pod_is_deleted_ends_with_a_line_and_the_next_one_finds_another_pod() {
    let cluster = Fragile::new();
    let house = cluster.house();
    let busy = Busy::open(&house);
    let pod = busy.pod.clone();
    cluster.delete_pod(&pod);
    let (status, said) = busy.end();
    assert!(status == Some(254) || status.is_some_and(|status| status > 128), "{status:?}: {said}\n{}", house.log());
    let next = house.ssh("demo.web", "hostname");
    assert!(next.status.success() && text(&next.stdout).trim() != pod, "{next:?}");
}

#[test]
fn a_stream_that_a_proxy_cuts_is_lost_and_never_a_success() {
    let cluster = Fragile::new();
    let server = cluster.server();
    let proxy = Proxy::before(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    let through =
        std::fs::read_to_string(&cluster.kubeconfig).expect("readable").replace(&server, &proxy.address(&server));
    std::fs::write(&kubeconfig, through).expect("writable");
    let house = House::build(Plan { kubeconfig: Some(kubeconfig), ..Plan::default() });
    let busy = Busy::open(&house);
    proxy.cut();
    let (status, said) = busy.end();
    assert_eq!(status, Some(254), "{said}\n{}", house.log());
    let ended = house.await_audit("container's end", |event| event["event"] == "container_ended");
    assert_eq!(ended["code"], "terminated", "{}", house.log());
}

#[test]
fn a_cluster_that_does_not_answer_is_said_within_the_deadline() {
    let cluster = Fragile::new();
    let server = cluster.server();
    let proxy = Proxy::before(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    let through =
        std::fs::read_to_string(&cluster.kubeconfig).expect("readable").replace(&server, &proxy.address(&server));
    std::fs::write(&kubeconfig, through).expect("writable");
    // A start of a healthy cluster may take longer than the deadline that this test can wait for.
    let patient = House::build(Plan { kubeconfig: Some(kubeconfig.clone()), ..Plan::default() });
    assert_eq!(patient.ssh("demo.web", "exit 3").status.code(), Some(3), "{}", patient.log());
    let config = "[session]\nstart-deadline = \"3s\"\n[cluster]\nrequest-timeout = \"2s\"\n".to_owned();
    let house = House::build(Plan { config, kubeconfig: Some(kubeconfig), ..Plan::default() });
    proxy.stall();
    let started = Instant::now();
    let output = house.ssh("demo.web", "true");
    assert_eq!(output.status.code(), Some(254), "{output:?}");
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    assert!(text(&output.stderr).contains("(session "), "{output:?}");
}

/// Stands between Porthole and the API server.
struct Proxy {
    port: u16,
    state: Arc<Mutex<ProxyState>>,
}

#[derive(Default)]
struct ProxyState {
    open: Vec<TcpStream>,
    /// Connections are taken and nothing is carried.
    stalled: bool,
}

impl Proxy {
    fn before(server: &str) -> Proxy {
        let upstream: SocketAddr =
            server.rsplit('/').next().expect("one part").parse().expect("an address with a port");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let state: Arc<Mutex<ProxyState>> = Arc::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(upstream) else { continue };
                let mut known = shared.lock().expect("not poisoned");
                known.open.extend([near.try_clone().expect("a socket"), far.try_clone().expect("a socket")]);
                drop(known);
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || carry(from, to, &shared));
                }
            }
        });
        Proxy { port, state }
    }

    fn address(&self, server: &str) -> String {
        let scheme = server.split("://").next().expect("one part");
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Cuts every connection that stands.
    fn cut(&self) {
        for socket in self.state.lock().expect("not poisoned").open.drain(..) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    fn stall(&self) {
        self.state.lock().expect("not poisoned").stalled = true;
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &Mutex<ProxyState>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if state.lock().expect("not poisoned").stalled {
            continue;
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}
