//! How a pod reads in a list: the words and numbers of `kubectl get pods`, so that who knows one list knows the other.
//!
//! Guards: a state is words of others (the kubelet's, a runtime's), and goes to terminals: it is short, printable ASCII.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// The longest state that is kept. `CreateContainerConfigError`, the longest that a kubelet commonly says, has 26.
const STATE_MAX_CHARS: usize = 40;

/// One pod's line, without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// `Running`, `CrashLoopBackOff`, `Init:0/2`, `Terminating`, …
    pub state: String,
    /// Containers that are ready, and those that should be: sidecars among them.
    pub ready: usize,
    pub total: usize,
    pub restarts: u32,
    pub created: Option<Timestamp>,
}

impl Shown {
    /// As kubectl's printer decides it: what keeps a pod from starting first, then the first container that has a reason.
    pub(super) fn read(pod: &Pod) -> Shown {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let of = |list: Option<&Vec<ContainerStatus>>| list.cloned().unwrap_or_default();
        let apps = of(status.and_then(|status| status.container_statuses.as_ref()));
        let inits = of(status.and_then(|status| status.init_container_statuses.as_ref()));
        let sidecar = |name: &str| {
            let specs = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
            specs.iter().any(|spec| spec.name == name && spec.restart_policy.as_deref() == Some("Always"))
        };
        let condition = |kind: &str| {
            let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
            conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
        };
        let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
        let own = status.and_then(|status| status.reason.as_deref()).filter(|reason| !reason.is_empty());

        let mut state = own.unwrap_or(phase).to_owned();
        let (mut ready, mut restarts) = (0, count(&inits));
        let mut starting = false;
        for (at, init) in inits.iter().enumerate() {
            let stays = sidecar(&init.name);
            let over = init.state.as_ref().and_then(|state| state.terminated.as_ref());
            let waits = init.state.as_ref().and_then(|state| state.waiting.as_ref()?.reason.as_deref());
            if over.is_some_and(|over| over.exit_code == 0) {
                continue;
            }
            if stays && init.started == Some(true) {
                ready += usize::from(init.ready);
                continue;
            }
            state = match (over, waits.filter(|reason| !["", "PodInitializing"].contains(reason))) {
                (Some(_), _) => format!("Init:{}", ended(init)),
                (None, Some(reason)) => format!("Init:{reason}"),
                (None, None) => format!("Init:{at}/{}", inits.len()),
            };
            starting = true;
            break;
        }
        if !starting || condition("Initialized") {
            let mut runs = false;
            restarts = count(inits.iter().filter(|init| sidecar(&init.name))).saturating_add(count(&apps));
            for app in apps.iter().rev() {
                let is = app.state.as_ref();
                let waits = is.and_then(|state| state.waiting.as_ref()?.reason.as_deref());
                if let Some(reason) = waits.filter(|reason| !reason.is_empty()) {
                    state = reason.to_owned();
                } else if is.is_some_and(|state| state.terminated.is_some()) {
                    state = ended(app);
                } else if app.ready && is.is_some_and(|state| state.running.is_some()) {
                    runs = true;
                    ready += 1;
                }
            }
            if state == "Completed" && runs {
                state = if condition("Ready") { "Running" } else { "NotReady" }.to_owned();
            }
        }
        if pod.metadata.deletion_timestamp.is_some() && !["Succeeded", "Failed"].contains(&phase) {
            state = if own == Some("NodeLost") { "Unknown" } else { "Terminating" }.to_owned();
        }
        let sidecars = inits.iter().filter(|init| sidecar(&init.name)).count();
        Shown {
            state: state.chars().filter(char::is_ascii_graphic).take(STATE_MAX_CHARS).collect(),
            ready,
            total: spec.map_or(0, |spec| spec.containers.len()) + sidecars,
            restarts,
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        }
    }
}

fn count<'a>(statuses: impl IntoIterator<Item = &'a ContainerStatus>) -> u32 {
    let restarts = statuses.into_iter().map(|status| u32::try_from(status.restart_count).unwrap_or_default());
    restarts.fold(0, u32::saturating_add)
}

/// The word for a container that has ended.
fn ended(status: &ContainerStatus) -> String {
    let over = status.state.as_ref().and_then(|state| state.terminated.as_ref());
    let (signal, code) = over.map_or((None, 0), |over| (over.signal.filter(|signal| *signal != 0), over.exit_code));
    match (over.and_then(|over| over.reason.as_deref()).filter(|reason| !reason.is_empty()), signal) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(signal)) => format!("Signal:{signal}"),
        (None, None) => format!("ExitCode:{code}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(status: Value, more: Value) -> Shown {
        let mut pod = json!({
            "metadata": { "name": "web", "namespace": "demo", "uid": "1", "creationTimestamp": "2026-01-02T03:04:05Z" },
            "spec": { "containers": [{ "name": "a" }, { "name": "b" }] },
            "status": status,
        });
        if let (Some(pod), Value::Object(more)) = (pod.as_object_mut(), more) {
            pod.extend(more);
        }
        Shown::read(&serde_json::from_value(pod).unwrap())
    }

    fn container(name: &str, state: Value, ready: bool, restarts: u32) -> Value {
        json!({ "name": name, "image": "i", "imageID": "", "ready": ready, "restartCount": restarts, "state": state })
    }

    #[test]
    fn a_pod_reads_as_kubectl_prints_it() {
        let running = json!({ "running": {} });
        let both = |second: Value| json!({ "phase": "Running", "containerStatuses": [container("a", running.clone(), true, 1), second] });
        let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
        for (status, state, ready, restarts) in [
            (json!({}), "Pending", 0, 0),
            (both(container("b", running.clone(), true, 2)), "Running", 2, 3),
            (both(container("b", waiting.clone(), false, 7)), "CrashLoopBackOff", 1, 8),
            (both(container("b", json!({ "terminated": { "exitCode": 3 } }), false, 0)), "ExitCode:3", 1, 1),
            (
                both(container("b", json!({ "terminated": { "exitCode": 137, "signal": 9 } }), false, 0)),
                "Signal:9",
                1,
                1,
            ),
            (
                both(container("b", json!({ "terminated": { "exitCode": 0, "reason": "Completed" } }), false, 0)),
                "NotReady",
                1,
                1,
            ),
            (json!({ "phase": "Failed", "reason": "Evicted" }), "Evicted", 0, 0),
            (
                json!({ "phase": "Pending", "initContainerStatuses": [container("i", waiting, false, 4)] }),
                "Init:CrashLoopBackOff",
                0,
                4,
            ),
            (
                json!({ "phase": "Pending", "initContainerStatuses": [container("i", running.clone(), false, 0)] }),
                "Init:0/1",
                0,
                0,
            ),
        ] {
            let shown = shown(status.clone(), json!({}));
            assert_eq!((shown.state.as_str(), shown.ready, shown.restarts), (state, ready, restarts), "{status}");
            assert_eq!((shown.total, shown.created.unwrap().to_string().as_str()), (2, "2026-01-02T03:04:05Z"));
        }
        let sidecar = json!({ "spec": {
            "containers": [{ "name": "a" }],
            "initContainers": [{ "name": "s", "restartPolicy": "Always" }],
        }});
        let mut started = container("s", running.clone(), true, 1);
        started["started"] = json!(true);
        let status = json!({
            "phase": "Running",
            "initContainerStatuses": [started],
            "containerStatuses": [container("a", running, true, 0)],
        });
        let with = shown(status, sidecar);
        assert_eq!((with.state.as_str(), with.ready, with.total, with.restarts), ("Running", 2, 2, 1));
    }

    #[test]
    fn no_escape_of_a_runtime_becomes_a_state() {
        let state = json!({ "waiting": { "reason": format!("\u{1b}[2J\u{9b}31m\nOops{}", "x".repeat(99)) } });
        let shown = shown(json!({ "containerStatuses": [container("a", state, false, 0)] }), json!({}));
        assert!(shown.state.starts_with("[2J31mOopsx") && shown.state.len() == STATE_MAX_CHARS, "{:?}", shown.state);
    }
}
