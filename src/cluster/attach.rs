//! The attach: from a container that runs to a process that has begun.
//!
//! Guards: nothing of the program runs before `Container::run`, and nothing of its output comes before somebody hears it. The wrapper waits for its order, says that it is
//! heard, and only then runs the program.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource as _;
use kube::api::AttachParams;
use rand::RngExt as _;
use tokio::sync::watch;

use super::api::{ApiServer, is_passing};
use super::cache::Sight;
use super::container::Running;
use super::error::{Lost, Refused, StartError};
use super::hangup::Place;
use super::output::Output;
use super::pod::State;
use super::process::{self, Control, Input, InputEnd, Launch, Process, STDIN};
use super::script::{GO, Order};
use super::stream;
use crate::authorize::Grant;

/// Between tries to attach.
const PAUSE: Duration = Duration::from_millis(200);
/// Tries to attach where the API server or the kubelet is away; together about two seconds.
const TRIES: u32 = 10;

/// An ephemeral container that runs and waits for its order: nothing of the program has begun.
pub struct Container<'a> {
    pub(super) api: &'a ApiServer,
    pub(super) grant: &'a Grant,
    pub(super) launch: Launch<'a>,
    pub(super) running: Running,
    pub(super) deadline: Duration,
}

impl Container<'_> {
    pub fn name(&self) -> &str {
        &self.running.name
    }

    pub fn image(&self) -> &str {
        &self.launch.profile.image
    }

    /// Attaches, hands the container its order, and returns when the program runs; all that it writes from its first byte
    /// on will be read.
    pub async fn run(self) -> Result<Process, StartError> {
        let Container { api, grant, launch, running, deadline } = self;
        let container = running.name.clone();
        let begun = begin(api, grant, launch, running);
        let begun = tokio::time::timeout(deadline, begun).await.unwrap_or_else(|_| {
            let person = format!("the debug container did not answer within {deadline:?}: try again");
            Err(StartError::new("timeout", person))
        });
        begun.map_err(|error| error.in_container(&container))
    }

    /// Ends the container without having run anything; false where it was not seen to end, and its own watchdog will end
    /// it.
    pub async fn discard(self) -> bool {
        let Container { api, grant, launch, mut running, deadline } = self;
        let name = running.name.clone();
        let ended = async {
            let connection = connect(api, grant, &running, launch.terminal.is_some()).await?;
            let ending = ending(&connection, launch.terminal.is_some());
            let (stream, _receiver) = stream::carry(connection).await;
            // The end of its input instead of an order. Where that cannot be told, the end of the attach is it.
            let mut input = Input { stream: stream.clone(), ending, ended: watch::Sender::new(false) };
            if input.close().await.is_err() || ending == InputEnd::Impossible {
                stream.hang_up();
            }
            let over = |sight: &Sight| match (sight, sight.pod().state(&name)) {
                (Sight::Gone(_), _) | (_, State::Terminated { .. }) => Some(()),
                _ => None,
            };
            running.follow.until(over).await;
            Ok::<(), StartError>(())
        };
        match tokio::time::timeout(deadline, ended).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(container = name, %error, "a container that nobody wants ends by its watchdog");
                false
            }
            Err(_) => false,
        }
    }
}

async fn begin(api: &ApiServer, grant: &Grant, launch: Launch<'_>, running: Running) -> Result<Process, StartError> {
    let terminal = launch.terminal.is_some();
    let connection = connect(api, grant, &running, terminal).await?;
    let ending = ending(&connection, terminal);
    let (stream, receiver) = stream::carry(connection).await;

    let secret = secret();
    let size = launch.terminal.as_ref().map(|sizes| *sizes.borrow());
    if let Some(size) = size {
        process::send_size(&stream, size);
    }
    let order = Order {
        secret: &secret,
        program: &launch.program,
        env: &launch.env,
        shell: launch.profile.shell.as_deref(),
        size,
        image: &launch.profile.image,
        profile_name: launch.profile_name,
        session: &launch.session.to_string(),
    };
    let (finish, finished) = watch::channel(None);
    let (ended, ended_seen) = watch::channel(false);
    let input_ended = (ending == InputEnd::Impossible).then_some(ended_seen);
    let mut output = Output::new(receiver, &secret, finish, input_ended);
    let lost = |lost: Lost| {
        StartError::new("lost", "the connection to the pod was lost: try again").detailed(lost.to_string())
    };
    // Both at once: a terminal echoes what it is sent, and stops taking when nobody takes the echo.
    let send = async {
        stream.send(STDIN, order.lines().into()).await.map_err(lost)?;
        std::future::pending::<Result<u32, StartError>>().await
    };
    let wrapper = tokio::select! {
        wrapper = output.begin() => wrapper?,
        failed = send => failed?,
    };
    if !terminal {
        stream.send(STDIN, Bytes::from_static(GO)).await.map_err(lost)?;
    }
    let target = grant.target();
    let place = Place {
        namespace: target.namespace().to_owned(),
        pod: target.pod().to_owned(),
        container: running.name.clone(),
        wrapper,
    };
    let control = Control {
        api: api.clone(),
        place: Arc::new(place),
        follow: running.follow,
        stream: stream.clone(),
        finish: finished,
    };
    // It may have changed since.
    if let Some(now) = launch.terminal.as_ref().map(|sizes| *sizes.borrow()).filter(|now| Some(*now) != size) {
        control.resize(now);
    }
    let input = Input { stream, ending, ended };
    Ok(Process { input, output, control, container: running.name, image: launch.profile.image.clone(), terminal })
}

fn ending(connection: &kube::client::Connection, terminal: bool) -> InputEnd {
    match terminal {
        true => InputEnd::Terminal,
        false if connection.supports_stream_close() => InputEnd::Message,
        false => InputEnd::Impossible,
    }
}

async fn connect(
    api: &ApiServer,
    grant: &Grant,
    running: &Running,
    terminal: bool,
) -> Result<kube::client::Connection, StartError> {
    let target = grant.target();
    let parameters = AttachParams::default().container(&running.name).stdin(true).stderr(!terminal).tty(terminal);
    let url = Pod::url_path(&(), Some(target.namespace()));
    let mut passing = 0;
    loop {
        let request = kube::core::Request::new(&url).attach(target.pod(), &parameters).map_err(|error| {
            StartError::new("rejected", "porthole cannot ask for this container").detailed(error.to_string())
        })?;
        match api.client().connect(request).await {
            Ok(connection) => return Ok(connection),
            // The kubelet says so also of a container that it has only just started.
            Err(error) if is_early(&error) || is_passing(&error) && passing < TRIES => {
                passing += u32::from(!is_early(&error));
                if let State::Terminated { .. } = running.follow.sight().pod().state(&running.name) {
                    return Err(Refused::new(&error, "attaching to the debug container").into());
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(Refused::new(&error, "attaching to the debug container").into()),
        }
    }
}

fn is_early(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 500 && status.message.contains("not found in pod"))
}

/// 128 bits in the alphabet of names.
fn secret() -> String {
    let mut rng = rand::rng();
    (0..26).map(|_| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(rng.random::<u8>() & 31)])).collect()
}
