//! Port-forward: connections to the pod's own loopback, over a WebSocket.
//!
//! Each port asked for has two channels, data and error, and the first frame on each is the port, little-endian.
//! As with a kubelet there is no half-close: when the pod's side has ended, the whole forward ends.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::cluster::{Cluster, Pod};
use super::output::FRAME;
use super::pod_stream::pairs;
use super::status::Refusal;
use super::store::text;
use super::websocket::{Protocol, Receiver, Sender, upgrade};

/// More ports than anyone forwards over one connection.
const MOST_PORTS: usize = 32;
/// Frames on their way to a port.
const AHEAD: usize = 2;

pub(super) fn open(
    cluster: &Arc<Cluster>,
    object: &Value,
    query: &str,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let mut ports = Vec::new();
    for (_, value) in pairs(query).filter(|(name, _)| name == "ports") {
        for port in value.split(',') {
            match port.parse::<u16>() {
                Ok(port) if port > 0 => ports.push(port),
                _ => {
                    let why = format!("cannot convert to []int32: strconv.ParseUint: parsing {port:?}: invalid syntax");
                    return Err(Refusal::bad_request(why));
                }
            }
        }
    }
    if ports.is_empty() || ports.len() > MOST_PORTS {
        return Ok((StatusCode::BAD_REQUEST, "query parameter \"port\" is required").into_response());
    }
    let Some(pod) = cluster.pod(text(object, "/metadata/uid")) else {
        return Ok((StatusCode::NOT_FOUND, "pod does not exist").into_response());
    };
    upgrade(cluster, request, &[Protocol::V4], move |_, sender, receiver| serve(sender, receiver, pod, ports))
}

async fn serve(sender: Sender, receiver: Receiver, pod: Arc<Pod>, ports: Vec<u16>) {
    let (frames, receiving) = mpsc::channel(AHEAD);
    let mut inputs = Vec::new();
    let mut forwards = JoinSet::new();
    for (at, port) in ports.into_iter().enumerate() {
        let (input, bytes) = mpsc::channel(AHEAD);
        inputs.push(input);
        // There are fewer than 128 ports, so a channel's number is a byte.
        let channel = u8::try_from(2 * at).unwrap_or(u8::MAX - 1);
        forwards.spawn(forward(pod.clone(), port, channel, bytes, frames.clone()));
    }
    drop(frames);
    let mut reading = AbortOnDropHandle::new(tokio::spawn(read(receiver, inputs)));
    let mut writing = AbortOnDropHandle::new(tokio::spawn(write(sender, receiving)));
    tokio::select! {
        _ = &mut reading => {}
        _ = &mut writing => {}
    }
}

async fn read(mut client: Receiver, inputs: Vec<mpsc::Sender<Bytes>>) {
    while let Some((channel, bytes)) = client.next().await {
        // Only data channels, the even ones, are written by a client.
        let input = inputs.get(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
        if let Some(input) = input {
            // A port that takes no more drops what still comes.
            let _ = input.send(bytes).await;
        }
    }
}

async fn write(mut client: Sender, mut frames: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        if !client.send(frame).await {
            return;
        }
    }
    client.close().await;
}

async fn forward(pod: Arc<Pod>, port: u16, channel: u8, input: mpsc::Receiver<Bytes>, frames: mpsc::Sender<Bytes>) {
    for channel in [channel, channel + 1] {
        let [low, high] = port.to_le_bytes();
        // A client that is gone ends the task below.
        let _ = frames.send(Bytes::copy_from_slice(&[channel, low, high])).await;
    }
    let dialled = match pod.sandbox.get() {
        Some(sandbox) => sandbox.dial(port).await,
        None => Err("the pod has no sandbox".into()),
    };
    let stream = match dialled {
        Ok(stream) => stream,
        Err(why) => {
            let uid = &pod.uid;
            let why = format!(
                "error forwarding port {port} to pod {uid}, uid : failed to execute portforward in network namespace \
                 \"/var/run/netns/cni-{uid}\": failed to connect to localhost:{port} inside namespace {uid:?}, IPv4: dial \
                 tcp4 127.0.0.1:{port}: connect: {why} IPv6 dial tcp6: address localhost: no suitable address found "
            );
            let mut frame = vec![channel + 1];
            frame.extend(why.as_bytes());
            let _ = frames.send(frame.into()).await;
            return;
        }
    };
    let (from_pod, to_pod) = stream.into_split();
    let _writing = AbortOnDropHandle::new(tokio::spawn(to(to_pod, input)));
    from(from_pod, channel, frames).await;
}

async fn to(mut pod: OwnedWriteHalf, mut input: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = input.recv().await {
        if pod.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn from(mut pod: OwnedReadHalf, channel: u8, frames: mpsc::Sender<Bytes>) {
    loop {
        let mut frame = BytesMut::zeroed(FRAME + 1);
        if let Some(first) = frame.first_mut() {
            *first = channel;
        }
        let Some(room) = frame.get_mut(1..) else { return };
        let read = match pod.read(room).await {
            Ok(read) if read > 0 => read,
            _ => return,
        };
        frame.truncate(read + 1);
        if frames.send(frame.freeze()).await.is_err() {
            return;
        }
    }
}
