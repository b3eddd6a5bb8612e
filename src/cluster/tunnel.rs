//! A connection to a port of the pod, by the portforward subresource: one WebSocket for each connection.
//!
//! The kubelet dials `localhost` inside the pod's network namespace, so nothing but the pod itself can be reached this
//! way, and the destination is held against the pod's own addresses first. Channel 0 has the bytes, channel 1 an error as
//! text; the first message of each is the port. There is no half-close: after the client's end the pod's bytes go on
//! until it ends, or has been silent for a while.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource as _;
use tokio::sync::watch;

use super::api::ApiServer;
use super::cache::Cache;
use super::error::{DialError, Lost, Refused, brief};
use super::resolve::Target;
use super::stream::{self, Came, StreamEnd, StreamReceiver, StreamSender};
use crate::authorize::{Action, Grant};

const BYTES: u8 = 0;
const ERROR: u8 = 1;
/// The port, on each channel.
const GREETING_BYTES: usize = 2;
/// The subresource is silent on success, and a refusal follows the greeting within 1 to 10 ms. A client whose server waits
/// for it to speak waits this long; a later refusal is an end with an error.
const REFUSAL_WAIT: Duration = Duration::from_millis(15);
/// How long the pod may be silent after the client's end, of which it cannot be told.
const SILENCE: Duration = Duration::from_secs(10);

/// A connection that stands.
pub struct Tunnel {
    reader: TunnelReader,
    writer: TunnelWriter,
}

/// The pod's bytes. Dropping it closes the connection.
pub struct TunnelReader {
    stream: StreamReceiver,
    /// Bytes that came before anybody read.
    first: Option<Bytes>,
    ended: watch::Receiver<bool>,
    error: Option<String>,
    over: bool,
}

/// The client's bytes.
pub struct TunnelWriter {
    stream: StreamSender,
    ended: Arc<watch::Sender<bool>>,
}

pub(super) async fn dial(
    api: &ApiServer,
    cache: &Cache,
    grant: &Grant,
    timeout: Duration,
) -> Result<Tunnel, DialError> {
    let Action::Forward { host, port } = grant.action() else {
        let detail = format!("a grant to {} is none to forward", grant.action().name());
        return Err(DialError::failed("wrong_action", "this was not granted", detail));
    };
    let target = grant.target();
    if !is_pod(host, target) {
        return Err(DialError::NotThePod { host: host.clone() });
    }
    let gone = || DialError::failed("pod_gone", "the pod is gone: log in again", "the pod is gone");
    let key = (target.namespace().to_owned(), target.pod().to_owned());
    let pod = cache.pods.get(&key).filter(|pod| pod.uid == target.pod_uid()).ok_or_else(gone)?;
    if let Some(reason) = pod.obstacle() {
        let person = format!("the pod {} cannot be reached: {}", pod.name, brief(&reason));
        return Err(DialError::failed("not_ready", person.clone(), person));
    }
    if *port == 0 {
        return Err(DialError::failed("bad_port", "port 0 is no port", "port 0 is no port"));
    }
    let doing = "forwarding a port of the pod";
    let tunnel = async {
        let url = Pod::url_path(&(), Some(target.namespace()));
        let request = kube::core::Request::new(&url).portforward(target.pod(), &[*port]);
        let request = request
            .map_err(|error| DialError::failed("rejected", "porthole cannot ask for this port", error.to_string()))?;
        let connection =
            api.client().connect(request).await.map_err(|error| DialError::from(Refused::new(&error, doing)))?;
        let (sender, receiver) = stream::carry(connection).await;
        open(sender, receiver, *port).await
    };
    tokio::time::timeout(timeout, tunnel).await.unwrap_or_else(|_| Err(Refused::late(doing, timeout).into()))
}

/// Whether a destination is the pod itself, as seen from inside it.
fn is_pod(host: &str, target: &Target) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => {
            let address = address.to_canonical();
            address.is_loopback() || target.pod_ips().contains(&address)
        }
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Waits for the greeting of both channels, and a moment for a refusal.
async fn open(sender: StreamSender, mut receiver: StreamReceiver, port: u16) -> Result<Tunnel, DialError> {
    let (mut greetings, mut error, mut first) = ([0; 2], None, None);
    let settled = async {
        loop {
            match receiver.next().await {
                Came::Message { channel: channel @ (BYTES | ERROR), mut bytes } => {
                    let greeting = &mut greetings[usize::from(channel)];
                    let rest = bytes.split_off((GREETING_BYTES - *greeting).min(bytes.len()));
                    *greeting += bytes.len();
                    match (channel, rest.is_empty()) {
                        (_, true) => {}
                        // The pod speaks first: it is there.
                        (BYTES, _) => return first = Some(rest),
                        (_, _) => return error = Some(text(&rest)),
                    }
                }
                Came::Message { .. } => {}
                Came::End(end) => return error = Some(format!("{end:?}")),
            }
        }
    };
    // What has come by then stands in the variables above, and the rest in the stream.
    let _ = tokio::time::timeout(REFUSAL_WAIT, settled).await;
    if let Some(error) = error {
        let person = match error.contains("connection refused") {
            true => format!("nothing listens on port {port} in the pod: start it there, or use another port"),
            false => format!("port {port} of the pod cannot be reached: {}", brief(&error)),
        };
        let code = if error.contains("connection refused") { "refused" } else { "unreachable" };
        return Err(DialError::failed(code, person, error));
    }
    if greetings != [GREETING_BYTES; 2] && first.is_none() {
        // A slow node: the greeting is still to come, and must not be taken for data.
        return slow(sender, receiver, greetings).await;
    }
    Ok(tunnel(sender, receiver, first))
}

/// Waits for what is left of the greeting, however long it takes; the caller's deadline bounds it.
async fn slow(
    sender: StreamSender,
    mut receiver: StreamReceiver,
    mut greetings: [usize; 2],
) -> Result<Tunnel, DialError> {
    while greetings != [GREETING_BYTES; 2] {
        match receiver.next().await {
            Came::Message { channel: channel @ (BYTES | ERROR), bytes } => {
                let greeting = &mut greetings[usize::from(channel)];
                if bytes.len() > GREETING_BYTES - *greeting {
                    let person = "the pod's node does not answer as a kubelet does";
                    return Err(DialError::failed(
                        "unreachable",
                        person,
                        format!("{} bytes for a greeting", bytes.len()),
                    ));
                }
                *greeting += bytes.len();
            }
            Came::Message { .. } => {}
            Came::End(end) => {
                let person = "the pod's node did not make the connection: try again";
                return Err(DialError::failed("unreachable", person, format!("{end:?}")));
            }
        }
    }
    Ok(tunnel(sender, receiver, None))
}

fn tunnel(sender: StreamSender, receiver: StreamReceiver, first: Option<Bytes>) -> Tunnel {
    let (ended, ended_seen) = watch::channel(false);
    let reader = TunnelReader { stream: receiver, first, ended: ended_seen, error: None, over: false };
    Tunnel { reader, writer: TunnelWriter { stream: sender, ended: Arc::new(ended) } }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

impl Tunnel {
    pub fn split(self) -> (TunnelReader, TunnelWriter) {
        (self.reader, self.writer)
    }
}

impl TunnelReader {
    /// The pod's next bytes; none when the connection has ended. Safe to be given up while it waits.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        while !self.over {
            let ended = &mut self.ended;
            let silence = async {
                // A writer that was dropped has not ended anything.
                if ended.wait_for(|ended| *ended).await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(SILENCE).await;
            };
            let came = tokio::select! {
                biased;
                came = self.stream.next() => came,
                () = silence => Came::End(StreamEnd::Closed),
            };
            match came {
                Came::Message { channel: BYTES, bytes } if !bytes.is_empty() => return Some(bytes),
                Came::Message { channel: ERROR, bytes } => self.error = Some(text(&bytes)),
                Came::Message { .. } => {}
                Came::End(StreamEnd::Closed) => self.over = true,
                Came::End(StreamEnd::Broken(why)) => {
                    self.error.get_or_insert(why);
                    self.over = true;
                }
            }
        }
        None
    }

    /// What Kubernetes said of the connection's end, if it was not an orderly one.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

impl TunnelWriter {
    /// Writes to the pod; waits while it takes nothing.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Lost> {
        self.stream.send(BYTES, bytes).await
    }

    /// The client's end. The subresource cannot carry it: the pod's bytes go on until it ends or has been silent for a
    /// while.
    pub async fn close(&mut self) -> Result<(), Lost> {
        self.ended.send_replace(true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pod_itself_is_a_destination() {
        let target = Target::for_tests("demo", "web-1", "app", None, [&[], &[]]);
        for host in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "10.1.2.3",
            "::ffff:10.1.2.3",
        ] {
            assert!(is_pod(host, &target), "{host}");
        }
        for host in [
            "",
            "10.1.2.4",
            "0.0.0.0",
            "::",
            "localhost.",
            "localhost.evil",
            "web-1",
            "169.254.169.254",
            "127.1",
            "0x7f.1",
            "[::1]",
        ] {
            assert!(!is_pod(host, &target), "{host}");
        }
    }
}
