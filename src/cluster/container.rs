//! The ephemeral container: made of a profile, put into the pod, and waited for until it runs.
//!
//! An ephemeral container is never removed and never starts again, so nothing is put into a pod that cannot run it as far
//! as we can know: the pod is asked for right before, its uid goes with the patch, and the namespace's Pod Security level
//! is checked here first. A patch may be sent twice: the name is this session's own, and the same container again changes
//! nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{self as core, EnvVar, EphemeralContainer, Event, Pod, PodSpec};
use kube::Api;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::json;

use super::api::ApiServer;
use super::cache::{Cache, Follow, Sight};
use super::error::{Refused, StartError, brief, chain};
use super::pod::{PodState, State};
use super::process::Launch;
use super::script;
use super::security;
use crate::authorize::Grant;

/// A container's name is a DNS label.
const NAME_MAX_BYTES: usize = 63;
/// When a container has not started after this time, the pod's events are asked why. The kubelet tells an event at once
/// and the pod's status only ten seconds later, but most containers have started by then. (Of a pod that had many events
/// lately the kubelet tells none for a while, and the status is all there is.)
const EVENTS_AFTER: Duration = Duration::from_secs(1);
/// What the kubelet says while it works on it.
const UNDER_WAY: [&str; 3] = ["", "ContainerCreating", "PodInitializing"];

/// What the kubelet says of an image that it cannot have.
const IMAGE_TROUBLES: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "RegistryUnavailable",
    "ImageInspectError",
    "SignatureValidationFailed",
];

/// A container that runs.
pub(super) struct Running {
    pub name: String,
    pub follow: Follow,
}

/// Puts the container for `launch` into the pod and returns when it runs.
pub(super) async fn start(
    api: &ApiServer,
    cache: &Cache,
    grant: &Grant,
    launch: &Launch<'_>,
    deadline: Duration,
) -> Result<Running, StartError> {
    let name = name(grant.identity().subject(), &launch.session.to_string());
    let running = put_and_wait(api, cache, grant, launch, &name, deadline).await;
    running.map(|follow| Running { name: name.clone(), follow }).map_err(|error| error.in_container(&name))
}

async fn put_and_wait(
    api: &ApiServer,
    cache: &Cache,
    grant: &Grant,
    launch: &Launch<'_>,
    name: &str,
    deadline: Duration,
) -> Result<Follow, StartError> {
    let target = grant.target();
    let namespace = target.namespace();
    let gone = || StartError::new("pod_gone", "the pod is gone: log in again");
    let pod = api.ask("asking for the pod", |client| async move {
        Api::<Pod>::namespaced(client, namespace).get(target.pod()).await
    });
    let pod = pod.await?;
    let state = PodState::read(&pod).filter(|state| state.uid == target.pod_uid()).ok_or_else(gone)?;
    if let Some(reason) = state.obstacle() {
        let person = format!("no debug container can start in the pod {}: {}", state.name, brief(&reason));
        return Err(StartError::new("not_ready", person));
    }
    let spec = pod.spec.as_ref().ok_or_else(gone)?;
    let labels = cache.namespaces.get(&namespace.to_owned()).unwrap_or_default();
    let container = spec_of(name, grant, launch, spec, &state, &labels)?;
    if let Some(failed) = fails_already(spec, &state, &container) {
        return Err(failed);
    }
    let mut follow = cache.follow(namespace, target.pod(), target.pod_uid()).ok_or_else(gone)?;

    let patch = Patch::Strategic(json!({
        "metadata": {"uid": target.pod_uid()},
        "spec": {"ephemeralContainers": [container]},
    }));
    let patched = api.ask("adding the debug container", |client| {
        let patch = &patch;
        async move {
            let pods = Api::<Pod>::namespaced(client, namespace);
            pods.patch_ephemeral_containers(target.pod(), &PatchParams::default(), patch).await
        }
    });
    patched.await?;

    let mut pulling = false;
    let waited = tokio::select! {
        started = wait(&mut follow, name) => started,
        failed = why_not(api, grant, name, &mut pulling) => Err(failed),
        () = tokio::time::sleep(deadline) => Err(late(cache, &launch.profile.image, deadline)),
    };
    match waited {
        Err(error) if error.code() == "timeout" && pulling => {
            let image = &launch.profile.image;
            let person =
                format!("the image {image} is still being pulled after {deadline:?}: log in again in a minute");
            Err(StartError::new("timeout", person))
        }
        waited => waited.map(|()| follow),
    }
}

/// Whether a container like this one is known not to start in this pod.
///
/// A container that cannot start stays in the pod, is tried again for as long as the pod lives, and slows every later one
/// down. So there is never a second of them: until the first one starts, its reason is the answer.
fn fails_already(pod: &PodSpec, state: &PodState, container: &EphemeralContainer) -> Option<StartError> {
    let of_image = pod.ephemeral_containers.iter().flatten().filter(|other| other.image == container.image);
    of_image.into_iter().find_map(|other| {
        let State::Waiting { reason, message } = state.state(&other.name) else { return None };
        let failed = (!UNDER_WAY.contains(&reason.as_str())).then(|| failed(reason, message))?;
        let same = match failed.code() {
            "image_pull" | "no_shell" => true,
            _ => other.security_context == container.security_context && other.env_from == container.env_from,
        };
        same.then_some(failed)
    })
}

/// `porthole-<person>-<session>`: so the pod's description says who was here.
fn name(subject: &str, session: &str) -> String {
    let room = NAME_MAX_BYTES.saturating_sub("porthole--".len() + session.len());
    let mut person = String::new();
    for letter in subject.chars().map(|letter| letter.to_ascii_lowercase()) {
        match letter {
            'a'..='z' | '0'..='9' => person.push(letter),
            _ if person.ends_with('-') || person.is_empty() => {}
            _ => person.push('-'),
        }
    }
    person.truncate(room);
    match person.trim_end_matches('-') {
        "" => format!("porthole-{session}"),
        person => format!("porthole-{person}-{session}"),
    }
}

fn spec_of(
    name: &str,
    grant: &Grant,
    launch: &Launch<'_>,
    pod: &PodSpec,
    state: &PodState,
    namespace_labels: &BTreeMap<String, String>,
) -> Result<EphemeralContainer, StartError> {
    let profile = launch.profile;
    let wanted = grant.target().container();
    let all = pod.containers.iter().chain(pod.init_containers.iter().flatten());
    let target = all.into_iter().find(|container| container.name == wanted);
    if let Some(State::Waiting { reason, message }) = state.container(wanted).map(|target| &target.state)
        && profile.target_processes
        && IMAGE_TROUBLES.contains(&reason.as_str())
    {
        let person = format!(
            "the container {wanted} of this pod cannot get its own image, so there is nothing to look into yet ({reason}: {})",
            brief(message),
        );
        return Err(StartError::new("target_not_running", person));
    }
    let context = security::context(launch.profile_name, profile, pod, target, namespace_labels)?;
    // The kubelet cannot join the processes of a container that does not run.
    let joins =
        profile.target_processes && state.container(wanted).is_some_and(|target| target.state == State::Running);
    let env_from = if profile.target_env { target.and_then(|target| target.env_from.clone()) } else { None };
    Ok(EphemeralContainer {
        name: name.to_owned(),
        image: Some(profile.image.clone()),
        image_pull_policy: profile.image_pull_policy.clone(),
        command: Some(script::entrypoint()),
        env: Some(env(grant, launch, target)),
        env_from,
        volume_mounts: target.filter(|_| profile.target_mounts).and_then(|target| {
            let mounts = target.volume_mounts.iter().flatten();
            let whole = mounts.filter(|mount| mount.sub_path.is_none() && mount.sub_path_expr.is_none());
            Some(whole.cloned().collect::<Vec<_>>()).filter(|mounts| !mounts.is_empty())
        }),
        security_context: Some(context),
        target_container_name: joins.then(|| wanted.to_owned()),
        stdin: Some(true),
        // Without it the end of one client's stdin would end its output too.
        stdin_once: Some(true),
        tty: launch.terminal.is_some().then_some(true),
        termination_message_policy: Some("File".to_owned()),
        ..EphemeralContainer::default()
    })
}

/// Of variables of one name the last of these counts: the target's, the profile's, ours. The client's come with the order
/// (`script`), so that they do not stay in the pod's spec.
fn env(grant: &Grant, launch: &Launch<'_>, target: Option<&core::Container>) -> Vec<EnvVar> {
    let mut all: Vec<EnvVar> = Vec::new();
    let mut set = |variable: EnvVar| {
        // A later one may refer to those before it, so a new value takes the old one's place in the order.
        match all.iter_mut().find(|old| old.name == variable.name) {
            Some(old) => *old = variable,
            None => all.push(variable),
        }
    };
    for variable in target.filter(|_| launch.profile.target_env).iter().flat_map(|target| target.env.iter().flatten()) {
        let mut variable = variable.clone();
        if let Some(source) = &mut variable.value_from
            && let Some(resource) = &mut source.resource_field_ref
        {
            // Without a name it would be the debug container's own, and it has none.
            resource.container_name.get_or_insert_with(|| grant.target().container().to_owned());
        }
        set(variable);
    }
    let literal = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(script::unexpanded(value)),
        value_from: None,
    };
    for (name, value) in &launch.profile.env {
        set(literal(name, value));
    }
    set(literal("PORTHOLE_USER", grant.identity().subject()));
    set(literal("PORTHOLE_SESSION", &launch.session.to_string()));
    all
}

/// Waits until the pod's status says that the container runs, or why not.
async fn wait(follow: &mut Follow, name: &str) -> Result<(), StartError> {
    follow
        .until(|sight| match sight {
            Sight::Gone(_) => {
                Some(Err(StartError::new("pod_gone", "the pod was deleted while the debug container started")))
            }
            Sight::There(pod) => match pod.state(name) {
                State::Running => Some(Ok(())),
                State::Waiting { reason, message } if !UNDER_WAY.contains(&reason.as_str()) => {
                    Some(Err(failed(reason, message)))
                }
                // The runtime could not execute the entrypoint; most kubelets leave such a container waiting.
                State::Terminated { reason, message, .. }
                    if ["StartError", "ContainerCannotRun"].contains(&reason.as_str()) =>
                {
                    Some(Err(failed(reason, message)))
                }
                State::Terminated { status, reason, .. } => {
                    let person = "the debug container ended before it could be used: try again";
                    Some(Err(
                        StartError::new("container_ended", person).detailed(format!("{person}: {reason} ({status})"))
                    ))
                }
                _ if pod.deleting => Some(Err(StartError::new(
                    "pod_gone",
                    "the pod is being deleted, so no debug container starts in it",
                ))),
                _ => None,
            },
        })
        .await
}

/// Watches the pod's events for the reason why the container does not start; never returns if there is none, or none can
/// be had.
async fn why_not(api: &ApiServer, grant: &Grant, name: &str, pulling: &mut bool) -> StartError {
    tokio::time::sleep(EVENTS_AFTER).await;
    let target = grant.target();
    let events = Api::<Event>::namespaced(api.client(), target.namespace());
    let ours = WatchParams::default().fields(&format!("involvedObject.uid={}", target.pod_uid()));
    // Version 0: first what has happened already.
    let mut news = match events.watch(&ours, "0").await {
        Ok(news) => news.boxed(),
        Err(error) => {
            tracing::debug!(error = chain(&error), "cannot watch events, so failures are told late");
            return std::future::pending().await;
        }
    };
    let path = format!("spec.ephemeralContainers{{{name}}}");
    while let Ok(Some(news)) = news.try_next().await {
        let (WatchEvent::Added(event) | WatchEvent::Modified(event)) = news else { continue };
        if event.involved_object.field_path.as_deref() != Some(&path) {
            continue;
        }
        let message = event.message.unwrap_or_default();
        match event.reason.as_deref() {
            Some("Pulling") => *pulling = true,
            Some("Failed") if message.starts_with("Failed to pull image") => return failed("ErrImagePull", &message),
            Some("InspectFailed") => return failed("InvalidImageName", &message),
            Some("ErrImageNeverPull") => return failed("ErrImageNeverPull", &message),
            Some("Failed") => match message.strip_prefix("Error: ").unwrap_or(&message) {
                // The reason alone; what it means was the event before it, or will be the next.
                reason @ ("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull") => {
                    return failed(reason, "");
                }
                message => return failed("CreateContainerError", message),
            },
            _ => {}
        }
    }
    std::future::pending().await
}

/// The kubelet's reason and message for a container that does not start.
fn failed(reason: &str, message: &str) -> StartError {
    let said = if message.is_empty() { reason.to_owned() } else { brief(message) };
    let (code, person) = match reason {
        _ if IMAGE_TROUBLES.contains(&reason) => {
            ("image_pull", format!("the debug image cannot be had, use another profile (name~profile): {said}"))
        }
        _ if message.contains("exec: \"sh\"") => (
            "no_shell",
            "the debug image has no shell (sh), and porthole needs one: use another profile (name~profile)".to_owned(),
        ),
        _ if message.contains("runAsNonRoot") || message.contains("non-root policy") => {
            let advice =
                "the pod may not run as root and the debug image does, use a profile with a user (name~restricted)";
            ("container_config", format!("{advice}: {said}"))
        }
        _ => ("container_config", format!("the debug container cannot start: {said}")),
    };
    let detail = format!("{reason}: {message}");
    StartError::new(code, person).detailed(detail)
}

fn late(cache: &Cache, image: &str, deadline: Duration) -> StartError {
    match cache.pods.trouble() {
        Some(trouble) => {
            let detail = format!("the container may run, but the watch does not: {trouble}");
            StartError::from(Refused { detail, ..Refused::unavailable() })
        }
        None => {
            let person =
                format!("the debug container (image {image}) did not start within {deadline:?}: try again later");
            StartError::new("timeout", person)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_named_after_person_and_session() {
        assert_eq!(name("alice", "abcdefgh-1"), "porthole-alice-abcdefgh-1");
        assert_eq!(name("Ália.O'Neil@example.com", "abcdefgh-1"), "porthole-lia-o-neil-example-com-abcdefgh-1");
        assert_eq!(name("…", "abcdefgh-1"), "porthole-abcdefgh-1");
        let long = name(&"a.".repeat(100), "abcdefgh-4294967295");
        assert!(long.len() <= NAME_MAX_BYTES && long.ends_with("a-abcdefgh-4294967295"), "{long}");
    }
}
