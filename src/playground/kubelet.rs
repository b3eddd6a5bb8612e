//! The node: runs the containers that pods name, and tells what became of them in the pods' status.

use std::net::Ipv4Addr;
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
use super::control::{Mount, Place, Program, Root, Run};
use super::image::{self, Image};
use super::output::Taps;
use super::process::Output;
use super::store::{items, now, text};
use super::{Isolation, controller, pod_status};

/// What a container runtime leaves to a container that asks for nothing: containerd's list.
const CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A kubelet's back-off starts at ten seconds and doubles up to five minutes; nobody plays that long.
const BACKOFF: [u64; 4] = [0, 1, 5, 10];
const TERM: i32 = 15;

/// Why a container is not running.
enum Trouble {
    /// It waits, for this reason.
    Waits(&'static str, String),
    /// It was started and ended at once.
    Failed(String),
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
        let started = now();
        let terminated = match outcome {
            Err(Trouble::Waits(reason, message)) => {
                report(json!({ "waiting": { "reason": reason, "message": message } }));
                if reason == "ErrImagePull" {
                    let image = text(&spec, "/image");
                    let message = format!("Back-off pulling image {image:?}: ErrImagePull: {message}");
                    report(json!({ "waiting": { "reason": "ImagePullBackOff", "message": message } }));
                }
                return;
            }
            Err(Trouble::Failed(message)) => json!({
                "exitCode": 128,
                "reason": "StartError",
                "message": format!(
                    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc \
                     create failed: unable to start container process: error during container init: {message}: unknown"
                ),
                "startedAt": "1970-01-01T00:00:00Z",
                "finishedAt": now(),
            }),
            Ok(container) => {
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
                json!({ "exitCode": code, "reason": reason, "startedAt": started, "finishedAt": now() })
            }
        };
        let mut terminated = terminated;
        terminated["containerID"] = json!(pod_status::container_id(&pod.uid, &name, restarts));
        let code = terminated["exitCode"].as_i64();
        report(json!({ "terminated": terminated }));
        let policy = cluster.store.read(&pod.key).map_or(String::new(), |pod| text(&pod, "/spec/restartPolicy").into());
        let again = policy == "Always" || policy == "OnFailure" && code != Some(0);
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

async fn create(cluster: &Cluster, pod: &Pod, spec: &Value, ephemeral: bool) -> Result<Arc<Container>, Trouble> {
    let object = cluster.store.read(&pod.key).ok_or_else(|| Trouble::Failed("the pod is gone".into()))?;
    let image = image::pull(text(spec, "/image")).map_err(|message| Trouble::Waits("ErrImagePull", message))?;
    let run = prepare(cluster, pod, &object, spec, &image)?;
    let target = text(spec, "/targetContainerName");
    let target = if ephemeral && !target.is_empty() {
        Some(pod.running(target).ok_or_else(|| {
            Trouble::Waits("CreateContainerError", format!("failed to find container {target:?}: not running"))
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
    let failed = |error: std::io::Error| Trouble::Failed(error.to_string());
    let (process, streams) = cluster.launcher.start(run.clone(), flag("stdin"), &spaces).await.map_err(failed)?;
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

/// What to start, from the specification and the image.
fn prepare(cluster: &Cluster, pod: &Pod, object: &Value, spec: &Value, image: &Image) -> Result<Run, Trouble> {
    let isolation = cluster.launcher.isolation;
    let name = text(spec, "/name");
    let context = |field: &str| {
        let own = spec.pointer(&format!("/securityContext/{field}"));
        own.or_else(|| object.pointer(&format!("/spec/securityContext/{field}"))).filter(|value| !value.is_null())
    };
    let number = |field: &str| context(field).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    let uid = number("runAsUser").unwrap_or(image.uid);
    if uid == 0 && context("runAsNonRoot").and_then(Value::as_bool) == Some(true) {
        let why = match number("runAsUser") {
            Some(_) => "container's runAsUser breaks non-root policy",
            None => "container has runAsNonRoot and image will run as root",
        };
        let Pod { key, uid, .. } = pod;
        let message = format!("{why} (pod: \"{}_{}({uid})\", container: {name})", key.name, key.namespace);
        return Err(Trouble::Waits("CreateContainerConfigError", message));
    }
    let (bind, body) = match isolation {
        Isolation::Namespaces => (Ipv4Addr::UNSPECIFIED, format!("{}\n", pod.key.name)),
        Isolation::None => (pod.address, format!("{}\n", pod.key.name)),
    };
    let (mut env, known) = environment(pod, object, spec, uid);
    let mut words: Vec<String> = Vec::new();
    for list in ["/command", "/args"] {
        words.extend(items(spec, list).iter().filter_map(|word| Some(expand(word.as_str()?, &known))));
    }
    let program = match (image.start, items(spec, "/command").is_empty()) {
        (_, false) => Program::Command(words),
        (image::Start::Command(_), true) if !words.is_empty() => Program::Command(words),
        (start, _) => start.program(bind, &body),
    };
    let shares = !text(spec, "/targetContainerName").is_empty();
    let own = directory(cluster, pod).join(name);
    let io = |error: std::io::Error| Trouble::Waits("CreateContainerError", error.to_string());
    let place = match isolation {
        Isolation::None => Place::Host,
        Isolation::Namespaces => Place::Container {
            shares,
            root: Root {
                mountpoint: cluster.launcher.mountpoint(),
                programs: image.programs,
                hostname: pod.key.name.clone(),
                namespace: pod.key.namespace.clone(),
                address: pod.address,
                uid: Some(uid),
                mounts: volumes(cluster, pod, object, spec).map_err(io)?,
            },
        },
    };
    let mut run = Run::new(isolation, place, program);
    run.terminal = spec.get("tty").and_then(Value::as_bool).unwrap_or(false);
    run.directory = spec.get("workingDir").and_then(Value::as_str).map(PathBuf::from);
    if isolation == Isolation::None {
        std::fs::create_dir_all(&own).map_err(io)?;
        env.retain(|(name, _)| name != "HOME");
        env.push(("HOME".into(), own.display().to_string()));
        run.directory = Some(own);
    }
    if run.terminal && !env.iter().any(|(name, _)| name == "TERM") {
        env.push(("TERM".into(), "xterm".into()));
    }
    run.env = env;
    run.uid = Some(uid);
    run.gid = Some(number("runAsGroup").unwrap_or(image.uid));
    run.groups = items(object, "/spec/securityContext/supplementalGroups")
        .iter()
        .chain(object.pointer("/spec/securityContext/fsGroup"))
        .filter_map(|group| u32::try_from(group.as_u64()?).ok())
        .collect();
    run.capabilities = capabilities(spec);
    run.no_new_privileges = spec.pointer("/securityContext/allowPrivilegeEscalation") == Some(&json!(false));
    Ok(run)
}

fn capabilities(spec: &Value) -> Option<Vec<String>> {
    let words = |list: &str| {
        let list = items(spec, &format!("/securityContext/capabilities/{list}"));
        list.iter().filter_map(|name| Some(name.as_str()?.trim_start_matches("CAP_").to_owned())).collect::<Vec<_>>()
    };
    let (add, drop) = (words("add"), words("drop"));
    if spec.pointer("/securityContext/privileged") == Some(&json!(true)) || add.iter().any(|name| name == "ALL") {
        return None;
    }
    let all = drop.iter().any(|name| name == "ALL");
    let mut kept: Vec<String> = CAPABILITIES
        .iter()
        .filter(|name| !all && !drop.iter().any(|dropped| dropped == *name))
        .map(|name| (*name).to_owned())
        .collect();
    kept.extend(add);
    Some(kept)
}

type Variables = Vec<(String, String)>;

/// The environment, and that part of it which `$(NAME)` may name: not what the runtime adds.
fn environment(pod: &Pod, object: &Value, spec: &Value, uid: u32) -> (Variables, Variables) {
    let mut env: Variables = [
        ("PATH", PATH),
        ("HOSTNAME", pod.key.name.as_str()),
        ("HOME", if uid == 0 { "/root" } else { "/" }),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
        ("KUBERNETES_PORT", "tcp://10.96.0.1:443"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    let mut known: Variables = env.iter().filter(|(name, _)| name.starts_with("KUBERNETES_")).cloned().collect();
    for variable in items(spec, "/env") {
        let field = text(variable, "/valueFrom/fieldRef/fieldPath");
        let value = match field {
            "" => expand(text(variable, "/value"), &known),
            "status.podIP" => pod.address.to_string(),
            field => text(object, &format!("/{}", field.replace('.', "/"))).to_owned(),
        };
        let name = text(variable, "/name").to_owned();
        for list in [&mut env, &mut known] {
            list.retain(|(other, _)| *other != name);
            list.push((name.clone(), value.clone()));
        }
    }
    (env, known)
}

/// `$(NAME)` is the variable's value, `$$(NAME)` is `$(NAME)`; what is not known stays as it is.
fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let known = after
            .strip_prefix("$(")
            .and_then(|inner| inner.split_once(')'))
            .and_then(|(name, tail)| Some((env.iter().find(|(known, _)| known == name)?.1.as_str(), tail)));
        rest = if let Some(escaped) = after.strip_prefix("$$") {
            out.push('$');
            escaped
        } else if let Some((value, tail)) = known {
            out.push_str(value);
            tail
        } else {
            out.push('$');
            after.get(1..).unwrap_or_default()
        };
    }
    out.push_str(rest);
    out
}

fn directory(cluster: &Cluster, pod: &Pod) -> PathBuf {
    cluster.launcher.root.join("pods").join(&pod.uid)
}

/// Each volume is a directory that the pod's containers share, whatever kind it says it is.
fn volumes(cluster: &Cluster, pod: &Pod, object: &Value, spec: &Value) -> std::io::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for mount in items(spec, "/volumeMounts") {
        let name = text(mount, "/name");
        if !items(object, "/spec/volumes").iter().any(|volume| text(volume, "/name") == name) {
            continue;
        }
        let source = directory(cluster, pod).join("volumes").join(name);
        std::fs::create_dir_all(&source)?;
        // As an emptyDir is.
        std::fs::set_permissions(&source, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        let read_only = mount.get("readOnly").and_then(Value::as_bool).unwrap_or(false);
        mounts.push(Mount { source, target: text(mount, "/mountPath").into(), read_only });
    }
    Ok(mounts)
}

fn remove_directory(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
