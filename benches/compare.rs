//! Porthole beside `kubectl` on a real cluster, in one run: `make bench`.
//!
//! Every figure is a median over alternating rounds, so that a slow moment of the machine hits all alike. Nothing here
//! passes or fails: the table is the point. It goes to `target/bench/` as JSON and as text.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[path = "../tests/it/house.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod house;
#[path = "shared/timing.rs"]
mod timing;

use house::{House, Plan, read_until};
use timing::{BULK_BYTES, median, rate, timed};

const ROUNDS: usize = 10;
const KEYSTROKES: usize = 200;
const IDLE_SESSIONS: usize = 200;
/// A kubelet starts the containers of one pod one after the other.
const IDLE_PODS: usize = 8;

struct Bench {
    house: House,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    pod: String,
    rows: Vec<(String, String, serde_json::Value)>,
}

fn main() {
    let Some(state) = std::env::var_os("PORTHOLE_CLUSTER_STATE").map(PathBuf::from) else {
        eprintln!("SKIPPED: the bench needs a real cluster: run it by `make bench`");
        return;
    };
    // A connection per session counts against one person's limit here.
    let config = "[ssh]\nmax-connections-per-person = 1000\nmax-channels-per-person = 1000\nmax-unauthenticated = 1000\n\
                  [session]\nstart-deadline = \"10m\"\n[cluster]\nrequest-timeout = \"5m\"\n";
    let house = House::build(Plan { config: config.to_owned(), ..Plan::default() });
    let kubeconfig = state.join("kubeconfig");
    // A pod of its own, with a shell for `kubectl exec`, and no containers of earlier sessions.
    let pod = format!("bench-{}", std::process::id());
    let mut bench = Bench { house, kubectl: state.join("bin/kubectl"), kubeconfig, pod, rows: Vec::new() };
    bench.run(&bench.pod);
    bench.first_byte_and_total();
    bench.throughput();
    bench.keystrokes();
    bench.requests(&state.join("audit.log"));
    bench.memory();
    bench.write(Path::new("target/bench"));
    bench.delete(&bench.pod);
}

impl Bench {
    fn ssh(&self, flags: &[&str], command: &str) -> Command {
        let mut client = self.house.client("ssh");
        client.args(flags).arg(format!("demo.{}@porthole", self.pod)).arg(command).stderr(Stdio::null());
        client
    }

    fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.arg("--kubeconfig").arg(&self.kubeconfig).args(["-n", "demo"]).args(arguments);
        kubectl.stdin(Stdio::null()).stderr(Stdio::null());
        kubectl
    }

    /// Starts a pod with a shell, and waits until it is ready.
    fn run(&self, pod: &str) {
        let image = format!("--image={}", house::cluster().tools);
        succeeded(&mut self.kubectl(&["run", pod, &image, "--", "sleep", "infinity"]));
        succeeded(&mut self.kubectl(&["wait", "--for=condition=Ready", "pod", pod, "--timeout=50s"]));
    }

    fn delete(&self, pod: &str) {
        succeeded(&mut self.kubectl(&["delete", "pod", pod, "--now", "--wait=false"]));
    }

    fn exec(&self, flags: &[&str], command: &str) -> Command {
        self.kubectl(&[&["exec"], flags, &[&self.pod, "--", "sh", "-c", command]].concat())
    }

    fn debug(&self) -> Command {
        let image = format!("--image={}", house::cluster().tools);
        let target = format!("--target={}", self.pod);
        self.kubectl(&["debug", "-i", "--quiet", &image, &self.pod, &target, "--", "sh", "-c", "echo x"])
    }

    fn first_byte_and_total(&mut self) {
        let mut seen: [[Vec<Duration>; 2]; 3] = Default::default();
        for _ in 0..ROUNDS {
            // What `kubectl debug` prints before it is attached is lost, so it has no first byte to be counted on.
            let commands =
                [(self.ssh(&[], "echo x"), Some(2)), (self.exec(&[], "echo x"), Some(2)), (self.debug(), None)];
            for ((mut command, expected), figures) in commands.into_iter().zip(&mut seen) {
                let (first, total) = timed(&mut command, expected);
                figures[0].push(first);
                figures[1].push(total);
            }
        }
        let [ssh, exec, debug] = seen.map(|figures| figures.map(|mut times| milliseconds(median(&mut times))));
        self.row("first byte of `echo x`", &[("ssh", &ssh[0]), ("kubectl exec", &exec[0])]);
        self.row(
            "the whole of `echo x`",
            &[("ssh", &ssh[1]), ("kubectl exec", &exec[1]), ("kubectl debug", &debug[1])],
        );
    }

    fn throughput(&mut self) {
        let mut seen: [Vec<Duration>; 4] = Default::default();
        let zeros = tempfile::NamedTempFile::new().expect("a file");
        zeros.as_file().set_len(BULK_BYTES as u64).expect("room");
        let down = format!("head -c {BULK_BYTES} /dev/zero");
        for _ in 0..ROUNDS {
            for (n, mut command) in [self.ssh(&[], &down), self.exec(&[], &down)].into_iter().enumerate() {
                seen[n].push(timed(&mut command, Some(BULK_BYTES)).1);
            }
            for (n, mut command) in
                [self.ssh(&[], "cat >/dev/null"), self.exec(&["-i"], "cat >/dev/null")].into_iter().enumerate()
            {
                command.stdin(zeros.reopen().expect("it is there"));
                seen[2 + n].push(timed(&mut command, Some(0)).1);
            }
        }
        let rates = seen.map(|mut times| rate(&mut times));
        self.row("200 MB from the pod", &[("ssh", &rates[0]), ("kubectl exec", &rates[1])]);
        self.row("200 MB into the pod", &[("ssh", &rates[2]), ("kubectl exec", &rates[3])]);
    }

    fn keystrokes(&mut self) {
        let ssh = format!(
            "ssh -F {} -tt demo.{}@porthole 'stty raw -echo; echo ready; exec cat'",
            self.house.file("ssh_config").display(),
            self.pod
        );
        let exec = format!(
            "{} --kubeconfig {} -n demo exec -it {} -- sh -c 'stty raw -echo; echo ready; exec cat'",
            self.kubectl.display(),
            self.kubeconfig.display(),
            self.pod
        );
        let mut figures = Vec::new();
        for (name, line) in [("ssh", ssh), ("kubectl exec", exec)] {
            let mut child = Command::new("script")
                .args(["-qefc", &line, "/dev/null"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("script is installed");
            let (mut keys, mut screen) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
            read_until(&mut screen, "ready");
            let mut times: Vec<Duration> = (0..KEYSTROKES)
                .map(|n| {
                    let key = format!("<{n}>");
                    let started = Instant::now();
                    keys.write_all(key.as_bytes()).and_then(|()| keys.flush()).expect("open");
                    read_until(&mut screen, &key);
                    started.elapsed()
                })
                .collect();
            child.kill().expect("it runs");
            child.wait().expect("a child of ours");
            times.sort_unstable();
            figures.push((name, milliseconds(times[KEYSTROKES / 2]), milliseconds(times[KEYSTROKES * 99 / 100])));
        }
        for (what, figure) in [("keystroke echo, p50", 1), ("keystroke echo, p99", 2)] {
            let cells: Vec<_> =
                figures.iter().map(|(name, p50, p99)| (*name, if figure == 1 { p50 } else { p99 })).collect();
            self.row(what, &cells);
        }
    }

    /// Requests of Porthole's own account, from the API server's audit log.
    fn requests(&mut self, audit: &Path) {
        let count = || {
            let log = std::fs::read_to_string(audit).unwrap_or_default();
            let ours = log.lines().filter(|line| line.contains("system:serviceaccount:porthole:porthole"));
            ours.filter(|line| {
                line.contains("\"stage\":\"ResponseComplete\"") || line.contains("\"stage\":\"ResponseStarted\"")
            })
            .count()
        };
        let before = count();
        for _ in 0..ROUNDS {
            timed(&mut self.ssh(&[], "true"), Some(0));
        }
        let each = format!("{:.1}", (count() - before) as f64 / ROUNDS as f64);
        self.row("API requests for one command", &[("ssh", &each)]);
    }

    fn memory(&mut self) {
        let pods: Vec<_> = (0..IDLE_PODS).map(|index| format!("{}-{index}", self.pod)).collect();
        pods.iter().for_each(|pod| self.run(pod));
        let before = resident_kib(self.house.process_id());
        let started = Instant::now();
        let mut sessions: Vec<_> = pods
            .iter()
            .cycle()
            .take(IDLE_SESSIONS)
            .map(|pod| {
                let mut client = self.house.client("ssh");
                client.arg(format!("demo.{pod}@porthole")).arg("echo up; exec cat").stderr(Stdio::null());
                client.stdin(Stdio::piped()).stdout(Stdio::piped());
                client.spawn().expect("ssh starts")
            })
            .collect();
        let up = sessions.iter_mut().filter_map(|client| {
            let mut byte = [0];
            client.stdout.as_mut()?.read_exact(&mut byte).ok()
        });
        let up = up.count().max(1);
        let took = started.elapsed().as_secs();
        let each = (resident_kib(self.house.process_id()).saturating_sub(before)) / up as u64;
        for client in &mut sessions {
            drop(client.stdin.take());
        }
        for mut client in sessions {
            client.wait().expect("a child of ours");
        }
        self.row("memory of an idle session", &[("ssh", &format!("{each} KiB (at {up}, all up after {took} s)"))]);
        pods.iter().for_each(|pod| self.delete(pod));
    }

    fn row(&mut self, what: &str, cells: &[(&str, &String)]) {
        let mut line = format!("{what:32}");
        let mut values = serde_json::Map::new();
        for (name, value) in cells {
            write!(line, "{name}: {value:14}").expect("a string takes it");
            values.insert((*name).to_owned(), (*value).clone().into());
        }
        println!("{line}");
        self.rows.push((what.to_owned(), line, values.into()));
    }

    fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).expect("writable");
        let text: String = self.rows.iter().map(|(_, line, _)| format!("{}\n", line.trim_end())).collect();
        std::fs::write(folder.join("compare.txt"), text).expect("writable");
        let rows = self.rows.iter().map(|(what, _, values)| (what.clone(), values.clone()));
        let json = serde_json::Value::Object(rows.collect());
        std::fs::write(folder.join("compare.json"), format!("{json:#}\n")).expect("writable");
        println!("written to {}", folder.display());
    }
}

/// Runs a command that must do its work.
fn succeeded(command: &mut Command) {
    let output = command.stderr(Stdio::piped()).output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", house::text(&output.stderr));
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux has it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}
