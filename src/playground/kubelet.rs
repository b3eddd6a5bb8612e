//! The node: runs the containers that pods name, and tells what became of them in the pods' status.

mod prepare;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, Container, Pod};
use super::control::Program;
use super::event::{self, Recorder};
use super::image;
use super::output::Taps;
use super::process::Output;
use super::store::{items, now, text};
use super::{Isolation, controller, pod_status};

/// A kubelet's back-off starts at ten seconds and doubles up to five minutes; nobody plays that long.
const BACKOFF: [u64; 4] = [0, 1, 5, 10];
const TERM: i32 = 15;

/// Why a container waits instead of running, in the status's words. (A real kubelet tries again; nothing here would
/// change by that.)
struct Trouble {
    reason: &'static str,
    message: String,
}

/// Runs a pod from its creation to its deletion.
pub(super) async fn run_pod(cluster: Arc<Cluster>, pod: Arc<Pod>) {
    let mut containers = JoinSet::new();
    match cluster.launcher.sandbox(&pod.key.name, pod.address).await {
        // It is set here alone.
        Ok(sandbox) => drop(pod.sandbox.set(sandbox)),
        Err(error) => tracing::warn!(pod = pod.key.name, %error, "the pod's sandbox did not start"),
    }
    let mut started: Vec<String> = Vec::new();
    let mut stop = pod.stop.subscribe();
    loop {
        if let Some(object) = cluster.store.read(&pod.key).filter(|object| text(object, "/metadata/uid") == pod.uid) {
            for (list, ephemeral) in [("/spec/containers", false), ("/spec/ephemeralContainers", true)] {
                for spec in items(&object, list) {
                    let name = text(spec, "/name");
                    if !started.iter().any(|started| started == name) {
                        started.push(name.to_owned());
                        containers.spawn(run_container(cluster.clone(), pod.clone(), spec.clone(), ephemeral));
                    }
                }
            }
        }
        tokio::select! {
            () = pod.wake.notified() => {}
            _ = stop.wait_for(Option::is_some) => break,
            () = cluster.stopping.cancelled() => break,
        }
    }
    if !cluster.stopping.is_cancelled() {
        end_gracefully(&cluster, &pod, &mut containers).await;
    }
    for container in pod.containers() {
        container.process.kill();
    }
    while containers.join_next().await.is_some() {}
    if let Err(error) = remove_directory(&directory(&cluster, &pod)) {
        tracing::debug!(pod = pod.key.name, %error, "the pod's directory stays");
    }
    cluster.remove_pod(&pod.uid);
    event::forget(&cluster, &pod);
    controller::forget(&cluster, &pod);
}

async fn end_gracefully(cluster: &Cluster, pod: &Pod, containers: &mut JoinSet<()>) {
    for container in pod.containers() {
        if container.built_in {
            // It has no handler for a signal, and as the first of its namespace it would not notice one.
            container.process.kill();
        } else {
            container.process.signal(TERM).await;
        }
    }
    let mut stop = pod.stop.subscribe();
    let over = async { while containers.join_next().await.is_some() {} };
    tokio::pin!(over);
    loop {
        let grace = Duration::from_secs(stop.borrow_and_update().unwrap_or(0));
        tokio::select! {
            () = &mut over => return,
            () = tokio::time::sleep(grace) => return,
            () = cluster.stopping.cancelled() => return,
            // A second deletion may be in more of a hurry.
            Ok(()) = stop.changed() => {}
        }
    }
}

async fn run_container(cluster: Arc<Cluster>, pod: Arc<Pod>, spec: Value, ephemeral: bool) {
    let name = text(&spec, "/name").to_owned();
    let report = |state: Value| pod_status::set(&cluster, &pod, &name, ephemeral, state);
    for restarts in 0.. {
        let mut stop = pod.stop.subscribe();
        let outcome = tokio::select! {
            outcome = create(&cluster, &pod, &spec, ephemeral) => outcome,
            _ = stop.wait_for(Option::is_some) => return,
            () = cluster.stopping.cancelled() => return,
        };
        let container = match outcome {
            Ok(container) => container,
            Err(trouble) => {
                tokio::select! {
                    () = tell(&cluster, &pod, &spec, ephemeral, trouble) => {}
                    _ = stop.wait_for(Option::is_some) => {}
                    () = cluster.stopping.cancelled() => {}
                }
                return;
            }
        };
        let started = now();
        pod.add_container(&name, container.clone());
        report(json!({ "running": { "startedAt": started } }));
        if pod.ending() || cluster.stopping.is_cancelled() {
            container.process.kill();
        }
        let code = container.process.exited().await;
        container.running.store(false, Ordering::SeqCst);
        container.gone.cancel();
        container.taps.ended().await;
        container.taps.shorten();
        let reason = if code == 0 { "Completed" } else { "Error" };
        let id = pod_status::container_id(&pod.uid, &name, restarts);
        report(json!({ "terminated": {
            "exitCode": code, "reason": reason, "startedAt": started, "finishedAt": now(), "containerID": id,
        } }));
        let policy = cluster.store.read(&pod.key).map_or(String::new(), |pod| text(&pod, "/spec/restartPolicy").into());
        let again = policy == "Always" || policy == "OnFailure" && code != 0;
        if ephemeral || !again || pod.ending() || cluster.stopping.is_cancelled() {
            return;
        }
        let seconds = BACKOFF.get(restarts as usize).or(BACKOFF.last()).copied().unwrap_or(0);
        if seconds > 0 {
            let message = format!(
                "back-off {seconds}s restarting failed container={name} pod={}_{}({})",
                pod.key.name, pod.key.namespace, pod.uid
            );
            report(json!({ "waiting": { "reason": "CrashLoopBackOff", "message": message } }));
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            _ = stop.wait_for(Option::is_some) => return,
            () = cluster.stopping.cancelled() => return,
        }
    }
}

/// Tells why a container waits, when a kubelet would.
async fn tell(cluster: &Cluster, pod: &Pod, spec: &Value, ephemeral: bool, Trouble { reason, message }: Trouble) {
    let (name, image) = (text(spec, "/name"), text(spec, "/image"));
    let recorder = Recorder { cluster, pod, container: name, ephemeral };
    let report = |reason: &str, message: &str| {
        let waiting = json!({ "waiting": { "reason": reason, "message": message } });
        pod_status::set(cluster, pod, name, ephemeral, waiting);
    };
    recorder.trouble(image, reason, &message);
    // The pods that a playground begins with have been there for a while.
    if ephemeral {
        tokio::time::sleep(event::status_delay(reason)).await;
    }
    report(reason, &message);
    if reason == "ErrImagePull" {
        tokio::time::sleep(event::PULL_BACKOFF).await;
        let message = format!("Back-off pulling image {image:?}: ErrImagePull: {message}");
        recorder.trouble(image, "ImagePullBackOff", &message);
        report("ImagePullBackOff", &message);
    }
}

/// The container was made and its program does not start.
fn not_started(why: impl std::fmt::Display) -> Trouble {
    let message = format!(
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: {why}"
    );
    Trouble { reason: "RunContainerError", message }
}

async fn create(cluster: &Cluster, pod: &Pod, spec: &Value, ephemeral: bool) -> Result<Arc<Container>, Trouble> {
    let object = cluster.store.read(&pod.key).ok_or_else(|| not_started("the pod is gone"))?;
    let image = image::pull(text(spec, "/image")).map_err(|message| Trouble { reason: "ErrImagePull", message })?;
    let run = prepare::prepare(cluster, pod, &object, spec, &image)?;
    let target = text(spec, "/targetContainerName");
    let target = if ephemeral && !target.is_empty() {
        Some(pod.running(target).ok_or_else(|| {
            let message = format!("failed to find container {target:?}: not running");
            Trouble { reason: "CreateContainerError", message }
        })?)
    } else {
        None
    };
    let mut spaces: Vec<_> = pod.sandbox.get().and_then(|sandbox| sandbox.identity()).into_iter().collect();
    if cluster.launcher.isolation == Isolation::Namespaces {
        spaces.extend(target.as_ref().map(|target| target.process.identity.as_fd()));
    }
    let flag = |name: &str| spec.get(name).and_then(Value::as_bool).unwrap_or(false);
    let built_in = !matches!(run.program, Program::Command(_));
    let (process, streams) = cluster.launcher.start(run.clone(), flag("stdin"), &spaces).await.map_err(not_started)?;
    let terminal = match &streams.stdout {
        Some(Output::Terminal(terminal)) => Some(terminal.clone()),
        _ => None,
    };
    Ok(Arc::new(Container {
        process,
        taps: Taps::open(streams.stdout, streams.stderr),
        stdin: streams.stdin.map(|stdin| Arc::new(Mutex::new(Some(stdin)))),
        stdin_once: flag("stdinOnce"),
        terminal,
        built_in,
        running: AtomicBool::new(true),
        gone: CancellationToken::new(),
        run,
    }))
}

fn directory(cluster: &Cluster, pod: &Pod) -> PathBuf {
    cluster.launcher.root.join("pods").join(&pod.uid)
}

fn remove_directory(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
