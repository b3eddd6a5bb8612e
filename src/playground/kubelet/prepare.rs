//! From a container's specification and its image to what is started: the program, its environment, its user.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::Isolation;
use super::super::cluster::{Cluster, Pod};
use super::super::control::{Mount, Place, Program, Root, Run};
use super::super::image::{self, Image};
use super::super::store::{items, text};
use super::{Trouble, directory};

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
/// What to start, or why it cannot be.
pub(super) fn prepare(
    cluster: &Cluster,
    pod: &Pod,
    object: &Value,
    spec: &Value,
    image: &Image,
) -> Result<Run, Trouble> {
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
        return Err(Trouble { reason: "CreateContainerConfigError", message });
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
    let io = |error: std::io::Error| Trouble { reason: "CreateContainerError", message: error.to_string() };
    let place = match isolation {
        Isolation::None => Place::Host,
        Isolation::Namespaces => Place::Container {
            shares,
            root: Root {
                mountpoint: cluster.launcher.mountpoint(),
                programs: image.programs,
                copiers: image.copiers,
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
