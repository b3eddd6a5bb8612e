//! The real servers: Open Policy Agent and Ory Oathkeeper, with the files that ship in `config/`.
//!
//! `make e2e-authorize` builds them and names them by `PORTHOLE_TEST_OPA` and `PORTHOLE_TEST_OATHKEEPER`; without them there
//! is nothing to show here, which is said where nobody can miss it.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::shipped;
use crate::house::text;

/// A server that runs; it ends with the value.
pub struct Part {
    child: Child,
    pub url: String,
}

impl Part {
    /// Starts a program and waits until it says that it is ready.
    fn start(mut command: Command, port: u16, ready: &str, folder: &Path) -> Part {
        let log = fs::File::create(folder.join("log")).expect("writable");
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log).spawn();
        let part = Part { child: child.expect("it starts"), url: format!("http://127.0.0.1:{port}") };
        let mut curl = Command::new("curl");
        // It asks again by itself while nobody listens there, or what listens is not ready.
        curl.args(["-sS", "--fail", "--retry", "30", "--retry-delay", "1", "--retry-all-errors", "-o", "/dev/null"]);
        let output = curl.arg(format!("{}{ready}", part.url)).output().expect("curl is installed");
        let said = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(output.status.success(), "{command:?} is not ready: {}\n{}", text(&output.stderr), said());
        part
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // One that has ended already needs no end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a program is; none, loudly, where it was not built.
pub fn program(variable: &str, name: &str) -> Option<PathBuf> {
    let program = std::env::var_os(variable).map(PathBuf::from);
    if program.is_none() {
        // Not by a macro: the test harness would keep that to itself.
        let line =
            format!("SKIPPED: answers of {name}, which is not built (make e2e-authorize builds it; it needs Go)\n");
        std::io::stderr().write_all(line.as_bytes()).expect("stderr");
    }
    program
}

/// Open Policy Agent with `config/rego`.
pub fn opa(folder: &Path) -> Option<Part> {
    opa_with(folder, Path::new(&shipped("rego")))
}

pub fn opa_with(folder: &Path, policy: &Path) -> Option<Part> {
    let program = program("PORTHOLE_TEST_OPA", "Open Policy Agent")?;
    let port = free_port();
    let mut command = Command::new(program);
    command.args(["run", "--server", "--disable-telemetry", "--log-level", "error", "--addr"]);
    command.arg(format!("127.0.0.1:{port}")).arg(policy).current_dir(folder);
    Some(Part::start(command, port, "/health", folder))
}

/// Oathkeeper with `config/oathkeeper`, on ports of its own.
pub fn oathkeeper(folder: &Path) -> Option<Part> {
    oathkeeper_with(folder, &shipped("oathkeeper/rules.json"))
}

pub fn oathkeeper_with(folder: &Path, rules: &str) -> Option<Part> {
    let program = program("PORTHOLE_TEST_OATHKEEPER", "Ory Oathkeeper")?;
    let port = free_port();
    let config = fs::read_to_string(shipped("oathkeeper/config.yaml")).expect("it ships");
    let config = config
        .replace("4456", &port.to_string())
        .replace("4455", &free_port().to_string())
        .replace("9000", &free_port().to_string())
        .replace("/etc/oathkeeper/rules.json", rules);
    fs::write(folder.join("config.yaml"), config).expect("writable");
    let mut command = Command::new(program);
    command.args(["serve", "--config", "config.yaml", "--sqa-opt-out"]).current_dir(folder);
    Some(Part::start(command, port, "/health/ready", folder))
}

/// The path that the shipped rules match, as `config/oathkeeper/config.yaml` tells it.
pub const OATHKEEPER_PATH: &str =
    "/decisions/{groups}/{subject}/{action}/{namespace}/{profile}/{source}/{host}/{port}/{command}";

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}
