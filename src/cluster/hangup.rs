//! Signals, and the end of a process whose client is gone.
//!
//! Attach tells a process little: without a terminal it reads the end of its input, in one it hears nothing at all. So a
//! few lines of shell are run beside it, in the same container, which send what a terminal's hang-up would. With a shared
//! process namespace every process of the pod is in sight there; those of this container are known by their mount
//! namespace.
//!
//! Guards: nothing but this container's processes gets a signal, and no container is left running.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Resource as _;
use kube::api::AttachParams;
use serde_json::Value;

use super::api::ApiServer;
use super::cache::{Follow, Sight};
use super::error::{Lost, chain};
use super::pod::State;
use super::stream::{self, Came};

/// The signals of RFC 4254 section 6.10.
const SIGNALS: [&str; 13] =
    ["ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"];
/// For one run of a script in the container.
const EXEC_TIMEOUT: Duration = Duration::from_secs(10);
/// From a script's end to the status that says the container has terminated; the kubelet takes up to some seconds.
const STATUS_TIMEOUT: Duration = Duration::from_secs(8);
/// Tries to end a container, and the pause after the first where the API server is away; doubled up to the longest. About a
/// minute in all.
const END_TRIES: u32 = 12;
const END_PAUSE: Duration = Duration::from_millis(500);
const END_PAUSE_MAX: Duration = Duration::from_secs(8);

/// Where a process is.
#[derive(Debug)]
pub(super) struct Place {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    /// The process id of the wrapper, as the container sees it.
    pub wrapper: u32,
}

/// Sends a signal to the program: to the wrapper's children, and whatever shares its process group, as a terminal and
/// sshd do.
pub(super) async fn signal(api: &ApiServer, place: &Place, name: &str) -> Result<(), Lost> {
    if !SIGNALS.contains(&name) {
        return Err(Lost(format!("there is no signal {name}")));
    }
    let act = format!("{{ {STAT}; }} 2>/dev/null <$d/stat && {{ [ $2 = $w ] || [ $3 = $w ]; }} && kill -s {name} $p");
    run(api, place, &format!("{}; exit 0", each(&act))).await
}

/// Ends every process of the container, and with them the container; false where it was not seen to end.
pub(super) async fn end(api: &ApiServer, place: &Place, mut follow: Follow) -> bool {
    let mut away = END_PAUSE;
    for _ in 0..END_TRIES {
        if ended(&follow, place) {
            return true;
        }
        let pause = match run(api, place, &last()).await {
            Ok(()) => STATUS_TIMEOUT,
            Err(error) => {
                tracing::debug!(container = place.container, pod = place.pod, %error, "cannot end the container yet");
                let pause = away;
                away = (away * 2).min(END_PAUSE_MAX);
                pause
            }
        };
        let over = follow.until(|sight| is_over(sight, place).then_some(()));
        let _ = tokio::time::timeout(pause, over).await;
    }
    let gone = ended(&follow, place);
    if !gone {
        let Place { namespace, pod, container, .. } = place;
        tracing::error!(namespace, pod, container, "the container did not end: its processes may still run");
    }
    gone
}

fn ended(follow: &Follow, place: &Place) -> bool {
    is_over(&follow.sight(), place)
}

fn is_over(sight: &Sight, place: &Place) -> bool {
    matches!(sight, Sight::Gone(_)) || matches!(sight.pod().state(&place.container), State::Terminated { .. })
}

/// Reads what stands behind the last `)` of a `stat` into `$1` (state), `$2` (parent), `$3` (process group).
const STAT: &str = "read -r l && set -- ${l##*) }";

/// Does `act` for each process of this container: `$p`, in the folder `$d`. Not for the wrapper, the script itself, and the
/// wrapper's parent, which is the runtime's where one is in sight.
fn each(act: &str) -> String {
    format!(
        "for d in /proc/[0-9]*; do p=${{d#/proc/}}; \
         [ $p != $$ ] && [ $p != $w ] && [ $p != $a ] && [ $d/ns/mnt -ef /proc/$$/ns/mnt ] && {act}; done"
    )
}

/// Hang-up, up to a second to act on it, then the kill; the wrapper goes last. As process 1 of its own namespace it cannot
/// be killed from inside, but it ends when its child has.
fn last() -> String {
    format!(
        "{hang_up}; i=0; while [ $i -lt 10 ]; do n=; {count}; [ \"$n\" ] || break; i=$((i+1)); sleep .1 || sleep 1; done; \
         {kill}; sleep .1; {kill}; kill -s KILL $w; exit 0",
        hang_up = each("kill -s HUP $p && kill -s CONT $p"),
        count = each("n=1"),
        kill = each("kill -s KILL $p"),
    )
}

/// Runs a script in the container. An error says only that it may not have run.
async fn run(api: &ApiServer, place: &Place, script: &str) -> Result<(), Lost> {
    let script = format!("w={}; {{ {STAT}; }} 2>/dev/null </proc/$w/stat; a=$2; a=${{a:-0}}; {script}", place.wrapper);
    let ran = async {
        let url = Pod::url_path(&(), Some(&place.namespace));
        let parameters = AttachParams::default().container(&place.container).stdin(false).stdout(true).stderr(true);
        let command = ["sh", "-c", &script];
        let request = kube::core::Request::new(&url).exec(&place.pod, command, &parameters);
        let request = request.map_err(|error| Lost(error.to_string()))?;
        let connection = api.client().connect(request).await.map_err(|error| Lost(chain(&error)))?;
        let (_, mut receiver) = stream::carry(connection).await;
        loop {
            match receiver.next().await {
                // The status; a script that was killed with its container has done its work.
                Came::Message { channel: 3, bytes } => return told(&bytes),
                Came::Message { .. } => {}
                Came::End(_) => return Ok(()),
            }
        }
    };
    tokio::time::timeout(EXEC_TIMEOUT, ran)
        .await
        .unwrap_or_else(|_| Err(Lost(format!("no end within {EXEC_TIMEOUT:?}"))))
}

/// A script that could not be run at all is told by a status without an exit code.
fn told(status: &[u8]) -> Result<(), Lost> {
    let status: Value = serde_json::from_slice(status).unwrap_or_default();
    if status["status"] == "Success" || status["reason"] == "NonZeroExitCode" {
        return Ok(());
    }
    Err(Lost(status["message"].as_str().unwrap_or("no reason was given").to_owned()))
}
