//! A Porthole of one's own for each test that wants one, on a cluster that all share.
//!
//! Everything runs as a user runs it: `porthole serve` with files in a folder, `ssh-keygen` for keys, `ssh` for the
//! rest. Nothing here waits by the clock: a server is ready when it says so, an event has happened when the audit trail
//! has it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before a test calls it stuck.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_porthole");

/// The cluster that all tests share.
pub struct Cluster {
    pub kubeconfig: PathBuf,
    /// An image with bash, coreutils, sftp-server, scp and rsync.
    pub tools: String,
    /// Whether it is a real one.
    pub real: bool,
    /// The playground lives as long as this is open.
    _lifeline: Option<ChildStdin>,
}

/// The shared cluster, started with the first use.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| match std::env::var_os("PORTHOLE_TEST_KUBECONFIG") {
        Some(kubeconfig) => Cluster {
            kubeconfig: kubeconfig.into(),
            tools: std::env::var("PORTHOLE_TEST_IMAGE").unwrap_or_else(|_| "porthole.test/tools:1".to_owned()),
            real: true,
            _lifeline: None,
        },
        // Statics are never dropped, so the folder is one that every run makes anew.
        None => playground(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("playground")),
    });
    &CLUSTER
}

/// Starts a playground with its state in `root`; it ends with the value.
pub fn playground(root: &Path) -> Cluster {
    let mut child = Command::new(PROGRAM)
        .args(["playground", "--until-stdin-ends", "--listen", "127.0.0.1:0", "--root"])
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let lifeline = child.stdin.take();
    let output = child.stdout.take().expect("piped");
    let mut greeting = BufReader::new(output);
    let mut line = String::new();
    while !line.contains("ssh -F") {
        line.clear();
        assert!(greeting.read_line(&mut line).expect("readable") > 0, "the playground ended before it was ready");
    }
    std::thread::spawn(move || {
        // Its output ends with it.
        let _ = std::io::copy(&mut greeting, &mut std::io::sink());
        child.wait()
    });
    Cluster {
        kubeconfig: root.join("kubeconfig"),
        tools: "playground/tools:1".to_owned(),
        real: false,
        _lifeline: lifeline,
    }
}

/// A running server with its files.
pub struct House {
    folder: tempfile::TempDir,
    server: Child,
    _lifeline: ChildStdin,
    pub port: u16,
    log: &'static Log,
}

/// What a server has said on stderr so far.
#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

/// Changes to the usual house.
#[derive(Default)]
pub struct Plan {
    /// Added to `porthole.toml`.
    pub config: String,
    /// In place of the usual policy.
    pub policy: Option<String>,
    /// In place of the shared cluster's.
    pub kubeconfig: Option<PathBuf>,
    /// Runs in the folder before the server starts.
    pub before: Option<Preparation>,
}

pub type Preparation = Box<dyn FnOnce(&Path)>;

impl House {
    /// A house as most tests want it: one CA, one person `dev` in group `developers`, who may do everything in the
    /// namespaces demo, team and restricted, and nothing elsewhere.
    pub fn open() -> House {
        House::build(Plan::default())
    }

    pub fn build(plan: Plan) -> House {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str| folder.path().join(name);
        make_keys(folder.path());
        fs::write(file("policy.toml"), plan.policy.as_deref().unwrap_or(POLICY)).expect("writable");
        let shared = plan.kubeconfig.unwrap_or_else(|| cluster().kubeconfig.clone());
        let config = CONFIG.replace("@KUBECONFIG@", &shared.display().to_string()).replace("@TOOLS@", &cluster().tools);
        fs::write(file("porthole.toml"), merge(&config, &plan.config)).expect("writable");

        if let Some(before) = plan.before {
            before(folder.path());
        }
        let mut server = Command::new(PROGRAM)
            .args(["serve", "--until-stdin-ends", "--config"])
            .arg(file("porthole.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lifeline = server.stdin.take().expect("piped");
        let log = Log::follow(server.stderr.take().expect("piped"));
        let ready = log.wait(|line| line.contains("\"listening\"").then(|| line.to_owned()));
        let Some(ready) = ready else { panic!("the server did not start:\n{}", log.text()) };
        let address =
            serde_json::from_str::<Value>(&ready).expect("a JSON line")["address"].as_str().map(str::to_owned);
        let port =
            address.and_then(|address| address.rsplit_once(':')?.1.parse().ok()).expect("an address with a port");

        write_ssh_config(folder.path(), port);
        House { folder, server, _lifeline: lifeline, port, log }
    }

    /// Where it takes gateways' requests, if its configuration says so.
    pub fn gateway_port(&self) -> u16 {
        let address = |line: &str| {
            let line =
                serde_json::from_str::<Value>(line).ok().filter(|line| line["message"] == "listening for gateways")?;
            line["address"].as_str()?.rsplit_once(':')?.1.parse().ok()
        };
        self.log.wait(address).expect("the server runs")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client program (`ssh`, `scp`, `sftp`) with this house's configuration.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-F").arg(self.file("ssh_config")).stdin(Stdio::null());
        command
    }

    /// Runs `command` in `place` and returns what came of it.
    pub fn ssh(&self, place: &str, command: &str) -> Output {
        let mut client = self.client("ssh");
        client.arg(format!("{place}@porthole")).arg(command);
        finish(&mut client)
    }

    pub fn process_id(&self) -> u32 {
        self.server.id()
    }

    /// What of its memory is in use now (RSS).
    pub fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process_id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it is there");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// The audit trail as it is now.
    pub fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.file("audit.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("the trail is JSON lines")).collect()
    }

    /// Waits until the audit trail holds an event that `wanted` takes, and returns it.
    pub fn await_audit(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = await_change(self.folder.path(), || self.audit().into_iter().find(|event| wanted(event)));
        found.unwrap_or_else(|| panic!("the audit trail has no {what}:\n{:#?}\n{}", self.audit(), self.log.text()))
    }

    /// Replaces a file and waits until the server has re-read it, or has said that it cannot.
    pub fn change(&self, name: &str, text: &str) {
        let said = |line: &str| line.contains("re-read").then_some(());
        let before = self.log.count(said);
        // A rename, as careful operators and Kubernetes do it: nobody sees half a file.
        fs::write(self.file("change"), text).expect("writable");
        fs::rename(self.file("change"), self.file(name)).expect("the same folder");
        self.log.wait_beyond(before, said);
    }

    /// Waits until the server has said this.
    pub fn await_log(&self, words: &str) {
        self.log.wait(|line| line.contains(words).then_some(())).expect("the server runs");
    }

    /// Waits until the server has said this more than `before` times.
    pub fn await_log_again(&self, words: &str, before: usize) {
        self.log.wait_beyond(before, |line| line.contains(words).then_some(())).expect("the server runs");
    }

    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Asks the server to stop, as Kubernetes does, and waits for its end.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        self.signal("TERM");
        self.server.wait().expect("a child of ours")
    }

    pub fn signal(&self, signal: &str) {
        let id = self.server.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().expect("kill runs").success());
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // A house whose server has ended already needs no end.
        if let Ok(None) = self.server.try_wait() {
            self.signal("TERM");
            let _ = self.server.wait();
        }
    }
}

impl Log {
    fn follow(stderr: impl std::io::Read + Send + 'static) -> &'static Log {
        let log: &'static Log = Box::leak(Box::default());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.lines.lock().expect("not poisoned").0.push(line);
                log.grown.notify_all();
            }
            log.lines.lock().expect("not poisoned").1 = true;
            log.grown.notify_all();
        });
        log
    }

    fn count(&self, wanted: impl Fn(&str) -> Option<()>) -> usize {
        self.lines.lock().expect("not poisoned").0.iter().filter_map(|line| wanted(line)).count()
    }

    /// Waits for a line that `wanted` takes; none if the server ends first.
    fn wait<T>(&self, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.wait_beyond(0, wanted)
    }

    /// Waits for the line that `wanted` takes after it took `skip` others.
    fn wait_beyond<T>(&self, skip: usize, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut lines = self.lines.lock().expect("not poisoned");
        loop {
            if let Some(found) = lines.0.iter().filter_map(|line| wanted(line)).nth(skip) {
                return Some(found);
            }
            if lines.1 {
                return None;
            }
            let (next, waited) = self.grown.wait_timeout(lines, PATIENCE).expect("not poisoned");
            assert!(!waited.timed_out(), "the server did not say it:\n{}", next.0.join("\n"));
            lines = next;
        }
    }

    fn text(&self) -> String {
        self.lines.lock().expect("not poisoned").0.join("\n")
    }
}

/// Runs a command to its end, which comes within `PATIENCE`; a stuck one is killed and told.
pub fn finish(command: &mut Command) -> Output {
    let shown = format!("{command:?}");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client starts");
    let id = child.id();
    let (done, watch) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let stuck = watch.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if stuck {
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        }
        stuck
    });
    let output = child.wait_with_output().expect("a child of ours");
    drop(done);
    assert!(!watchdog.join().expect("the watchdog ends"), "stuck for {PATIENCE:?}: {shown}\n{output:?}");
    output
}

/// Gives `input` to a command and runs it to its end.
pub fn finish_with(command: &mut Command, input: &[u8]) -> Output {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(input).and_then(|()| std::io::Seek::rewind(&mut file)).expect("writable");
    finish(command.stdin(file))
}

/// A CA, a host key, and the key of the person `dev` with a certificate.
pub fn make_keys(folder: &Path) {
    for key in ["user_ca", "host_key", "id_ed25519"] {
        keygen(folder, &["-q", "-t", "ed25519", "-N", "", "-C", key, "-f", key]);
    }
    keygen(folder, &["-q", "-s", "user_ca", "-I", "dev", "-n", "dev,group:developers", "-V", "+1h", "id_ed25519.pub"]);
}

/// What the person's `ssh` needs to know of a server on this machine with those keys.
pub fn write_ssh_config(folder: &Path, port: u16) {
    let host_key = fs::read_to_string(folder.join("host_key.pub")).expect("just made");
    fs::write(folder.join("known_hosts"), format!("porthole {host_key}")).expect("writable");
    let root = folder.display();
    let ssh_config = format!(
        "Host porthole\n HostName 127.0.0.1\n Port {port}\n HostKeyAlias porthole\n UserKnownHostsFile {root}/known_hosts\n \
         GlobalKnownHostsFile /dev/null\n StrictHostKeyChecking yes\n IdentityFile {root}/id_ed25519\n \
         CertificateFile {root}/id_ed25519-cert.pub\n IdentitiesOnly yes\n IdentityAgent none\n BatchMode yes\n LogLevel ERROR\n"
    );
    fs::write(folder.join("ssh_config"), ssh_config).expect("writable");
}

/// `ssh-keygen` in a folder.
pub fn keygen(folder: &Path, arguments: &[&str]) {
    let output =
        Command::new("ssh-keygen").args(arguments).current_dir(folder).output().expect("ssh-keygen is installed");
    assert!(output.status.success(), "ssh-keygen {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until `look` finds something; it looks again each time that a file in `folder` changes.
pub fn await_change<T>(folder: &Path, look: impl Fn() -> Option<T>) -> Option<T> {
    use notify::Watcher as _;
    let (changed, changes) = std::sync::mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |_| {
        // Nobody listens any more once something was found.
        let _ = changed.send(());
    })
    .expect("a watcher");
    watcher.watch(folder, notify::RecursiveMode::NonRecursive).expect("the folder is there");
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        changes.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads lines until one holds `mark`, and returns it.
pub fn read_until(reader: &mut impl std::io::Read, mark: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(mark.as_bytes()) {
        assert!(reader.read(&mut byte).expect("readable") == 1, "ended before {mark:?}: {:?}", text(&seen));
        seen.push(byte[0]);
    }
    text(&seen)
}

/// Adds TOML tables to a configuration: a table that both have gets the lines of both, the later key winning.
fn merge(base: &str, more: &str) -> String {
    let mut base: toml::Table = base.parse().expect("TOML");
    let more: toml::Table = more.parse().expect("TOML");
    for (key, value) in more {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(known)), toml::Value::Table(new)) => known.extend(new),
            (_, value) => drop(base.insert(key, value)),
        }
    }
    base.to_string()
}

/// A small machine with a whole cluster on it can stand still for most of a minute.
const CONFIG: &str = r#"
[listen]
address = "127.0.0.1:0"
[ssh]
host-keys = ["host_key"]
drain-deadline = "1s"
[certificate]
trusted-ca-files = ["user_ca.pub"]
[authorize]
policy-file = "policy.toml"
[cluster]
kubeconfig = "@KUBECONFIG@"
request-timeout = "60s"
[session]
start-deadline = "100s"
[audit]
file = "audit.jsonl"
[profiles.general]
image = "@TOOLS@"
[profiles.restricted]
preset = "restricted"
image = "@TOOLS@"
user = 65532
[profiles.alone]
image = "@TOOLS@"
target-processes = false
[profiles.missing]
image = "registry.invalid/debug:1"
target-processes = false
"#;

const POLICY: &str = include_str!("policy.toml");
