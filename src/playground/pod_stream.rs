//! The way from a request to a pod's streams: which container, whether it runs, and then the WebSocket.
//!
//! The API server refuses what it can see in the pod's specification, with a `Status`; what only the node knows,
//! the node refuses, in plain text; and a command that does not start is said when the WebSocket is open already,
//! on its error channel. (Between Kubernetes 1.30 and 1.35 the second came as the third does.)

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use super::cluster::{Cluster, Container, Pod};
use super::control::{Place, Program};
use super::resource::Kind;
use super::status::Refusal;
use super::store::{Key, items, text};
use super::stream::{self, Upstream};
use super::websocket::{Protocol, upgrade};
use super::{Isolation, forward};
use std::os::fd::AsFd;

/// The query of attach and exec.
#[derive(Debug, Default)]
struct Options {
    container: String,
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Options {
    /// The channel on which an empty frame tells the client that it is connected.
    fn first(&self) -> u8 {
        match (self.stdout, self.stderr) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => 3,
        }
    }

    fn parse(query: &str) -> Options {
        let mut options = Options::default();
        for (name, value) in pairs(query) {
            let flag = value == "true" || value == "1";
            match name.as_str() {
                "container" => options.container = value,
                "command" => options.command.push(value),
                "stdin" => options.stdin = flag,
                "stdout" => options.stdout = flag,
                "stderr" => options.stderr = flag,
                "tty" => options.tty = flag,
                _ => {}
            }
        }
        options
    }
}

/// What attach and exec speak, the better first.
const STREAMS: [Protocol; 2] = [Protocol::V5, Protocol::V4];

/// The query of a log.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LogQuery {
    container: String,
    tail_lines: Option<usize>,
}

pub(super) async fn open(
    cluster: &Arc<Cluster>,
    key: &Key,
    subresource: &str,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let object = cluster.store.read(key).ok_or_else(|| Refusal::not_found("pods", &key.name))?;
    let query = request.uri().query().unwrap_or_default().to_owned();
    if subresource == "portforward" {
        return forward::open(cluster, &object, &query, request);
    }
    let options = Options::parse(&query);
    let name = choose(&object, &options.container)?;
    check(subresource, &object)?;
    if !options.stdin && !options.stdout && !options.stderr {
        return Ok((StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr").into_response());
    }
    let pod = cluster.pod(text(&object, "/metadata/uid"));
    let found = pod.and_then(|pod| Some((pod.running(&name)?, pod)));
    let Some((container, pod)) = found else {
        let why = match subresource {
            "attach" => format!("container {name} not found in pod {}_{}", key.name, key.namespace),
            _ => format!("container not found ({name:?})"),
        };
        return Ok((StatusCode::INTERNAL_SERVER_ERROR, why).into_response());
    };
    if subresource == "attach" {
        attach(cluster, request, &container, &options, &name, key)
    } else {
        exec(request, cluster.clone(), pod, container, options)
    }
}

fn check(subresource: &str, object: &Value) -> Result<(), Refusal> {
    let phase = text(object, "/status/phase");
    if phase == "Succeeded" || phase == "Failed" {
        let what = if subresource == "exec" { "exec into" } else { "attach to" };
        let why = format!("cannot {what} a container in a completed pod; current phase is {phase}");
        return Err(Refusal::bad_request(why));
    }
    Ok(())
}

/// The container that the client means.
fn choose(object: &Value, asked: &str) -> Result<String, Refusal> {
    let pod = text(object, "/metadata/name");
    let names = |list: &str| -> Vec<String> {
        items(object, list).iter().map(|container| text(container, "/name").to_owned()).collect()
    };
    let main = names("/spec/containers");
    if asked.is_empty() {
        return match main.as_slice() {
            [one] => Ok(one.clone()),
            many => {
                let choice = many.join(" ");
                let why = format!("a container name must be specified for pod {pod}, choose one of: [{choice}]");
                Err(Refusal::bad_request(why))
            }
        };
    }
    let known = [main, names("/spec/initContainers"), names("/spec/ephemeralContainers")].concat();
    if known.iter().any(|name| name == asked) {
        return Ok(asked.to_owned());
    }
    Err(Refusal::bad_request(format!("container {asked} is not valid for pod {pod}")))
}

fn attach(
    cluster: &Cluster,
    request: Request<Body>,
    container: &Arc<Container>,
    options: &Options,
    name: &str,
    key: &Key,
) -> Result<Response, Refusal> {
    let upstream = Upstream {
        stdin: container.stdin.clone().filter(|_| options.stdin),
        terminal: container.terminal.clone(),
        once: container.stdin_once && options.stdin,
    };
    let Some(frames) = container.taps.attach(options.stdout, options.stderr) else {
        let why = format!("container {name} not found in pod {}_{}", key.name, key.namespace);
        return Ok((StatusCode::INTERNAL_SERVER_ERROR, why).into_response());
    };
    let first = options.first();
    upgrade(cluster, request, &STREAMS, move |protocol, mut sender, receiver| async move {
        sender.say(first, "").await;
        stream::attach(sender, receiver, protocol, upstream, frames).await;
    })
}

fn exec(
    request: Request<Body>,
    cluster: Arc<Cluster>,
    pod: Arc<Pod>,
    container: Arc<Container>,
    options: Options,
) -> Result<Response, Refusal> {
    upgrade(&cluster.clone(), request, &STREAMS, move |protocol, mut sender, receiver| async move {
        sender.say(options.first(), "").await;
        let command = options.command.join(" ");
        let mut run = container.run.clone();
        run.terminal = options.tty;
        run.title = options.command.first().cloned().unwrap_or_default();
        run.program = Program::Command(options.command);
        if cluster.launcher.isolation == Isolation::Namespaces {
            run.place = Place::Inside;
        }
        if run.terminal && !run.env.iter().any(|(name, _)| name == "TERM") {
            run.env.push(("TERM".into(), "xterm".into()));
        }
        let mut spaces: Vec<_> = pod.sandbox.get().and_then(|sandbox| sandbox.identity()).into_iter().collect();
        if cluster.launcher.isolation == Isolation::Namespaces {
            spaces.push(container.process.identity.as_fd());
        }
        let started = cluster.launcher.start(run, options.stdin, &spaces).await;
        match started {
            Ok((process, streams)) => {
                let process = Arc::new(process);
                cluster.tasks.spawn(outlive_client(process.clone(), container));
                stream::exec(sender, receiver, protocol, process, streams, command).await;
            }
            Err(error) => {
                let id = super::store::new_uid().replace('-', "");
                let why = format!(
                    "error executing command in container: failed to exec in container: failed to start exec \
                     \"{id}{id}\": OCI runtime exec failed: exec failed: {error}"
                );
                stream::fail(sender, receiver, protocol, &why).await;
            }
        }
    })
}

/// The process is not the client's: it ends by itself, or with its container.
async fn outlive_client(process: Arc<super::process::Process>, container: Arc<Container>) {
    tokio::select! {
        _ = process.exited() => {}
        () = container.gone.cancelled() => {
            process.kill();
            process.exited().await;
        }
    }
}

pub(super) fn log(cluster: &Arc<Cluster>, key: &Key, query: &LogQuery) -> Result<Response, Refusal> {
    assert_eq!(key.kind, Kind::Pod);
    let object = cluster.store.read(key).ok_or_else(|| Refusal::not_found("pods", &key.name))?;
    let name = choose(&object, &query.container)?;
    let container = cluster.pod(text(&object, "/metadata/uid")).and_then(|pod| pod.container(&name));
    let Some(container) = container else {
        let statuses = ["/status/containerStatuses", "/status/ephemeralContainerStatuses"];
        let mut statuses = statuses.iter().flat_map(|list| items(&object, list));
        let status = statuses.find(|status| text(status, "/name") == name);
        let reason = status.map_or("ContainerCreating", |status| text(status, "/state/waiting/reason"));
        let why = if reason.contains("Image") { "image can't be pulled" } else { reason };
        let why = format!("container {name:?} in pod {:?} is waiting to start: {why}", key.name);
        return Err(Refusal::bad_request(why));
    };
    let log = container.taps.log();
    let from = query.tail_lines.map_or(0, |lines| {
        let ends = log.iter().enumerate().rev().skip(1).filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        if lines == 0 { log.len() } else { ends.into_iter().nth(lines - 1).unwrap_or(0) }
    });
    let tail = log.get(from..).unwrap_or_default().to_vec();
    Ok(([(header::CONTENT_TYPE, "text/plain")], tail).into_response())
}

/// A query's names and values, decoded (application/x-www-form-urlencoded).
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        rest = match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                after.get(2..).unwrap_or_default()
            }
            (b'+', _) => {
                bytes.push(b' ');
                after
            }
            _ => {
                bytes.push(*first);
                after
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
