//! A `direct-tcpip` channel (RFC 4254 section 7.2): confirmed only when the pod has been reached, so that a refusal is
//! the client's own "open failed", and the first bytes of a server that speaks first find an open channel.

use std::sync::Arc;

use russh::server::{ChannelOpenHandle, Msg};
use russh::{ChannelOpenFailure, ChannelWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::channel::{DEFAULT_SIZE, Writer};
use super::limits::ChannelPlace;
use super::stream::Login;
use crate::audit::SessionId;
use crate::session::{Caller, Client, Inbound, Sessions};

/// A forward as the connection's callbacks see it.
pub struct ForwardChannel {
    pub inbound: Inbound,
    gone: CancellationToken,
}

/// Where a forward is to go, by the client's words.
pub struct Destination {
    pub host: String,
    pub port: u32,
}

/// What the forward's task owns.
pub struct Opening {
    pub id: SessionId,
    pub destination: Destination,
    pub writer: ChannelWriteHalf<Msg>,
    pub reply: ChannelOpenHandle,
    pub place: ChannelPlace,
    pub gone: CancellationToken,
}

impl ForwardChannel {
    /// Starts the forward's task.
    pub fn start(opening: Opening, caller: &Arc<Caller>, sessions: &Arc<Sessions>, login: &Login) -> ForwardChannel {
        let channel = ForwardChannel { inbound: Inbound::default(), gone: opening.gone.clone() };
        let inbound = channel.inbound.clone();
        let (caller, sessions, login) = (Arc::clone(caller), Arc::clone(sessions), login.clone());
        let gone = opening.gone.clone();
        login.channel_opened();
        tokio::spawn(async move {
            serve(opening, inbound, &caller, &sessions).await;
            gone.cancel();
            login.channel_closed();
        });
        channel
    }

    /// Whether the forward has ended, or the client has closed the channel.
    pub fn is_over(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// The client has closed the channel.
    pub fn close(&self) {
        self.gone.cancel();
    }
}

async fn serve(opening: Opening, inbound: Inbound, caller: &Caller, sessions: &Arc<Sessions>) {
    let Opening { id, destination: Destination { host, port }, writer, reply, place, gone } = opening;
    let Ok(port) = u16::try_from(port) else {
        return reply.reject(prohibited("there is no such port".to_owned())).await;
    };
    let dialled = tokio::select! {
        dialled = sessions.dial(caller, &id, &host, port) => dialled,
        () = gone.cancelled() => return,
    };
    let forward = match dialled {
        Ok(forward) => forward,
        Err(failure) => {
            tracing::info!(session = %id, code = failure.code, detail = failure.operator, "forward refused or failed");
            return reply.reject(prohibited(failure.line(&id))).await;
        }
    };
    reply.accept().await;
    let writer = Writer::new(writer);
    // A forward has no terminal and takes no signals; the ends that would bring them are closed.
    let client = Client {
        input: inbound,
        output: writer.clone(),
        sizes: watch::channel(DEFAULT_SIZE).1,
        signals: mpsc::channel(1).1,
        gone: gone.clone(),
        hold: Arc::new(place),
    };
    sessions.carry(caller, &id, forward, &client).await;
    tokio::select! {
        // Nobody is left to tell where it fails.
        _ = writer.finish() => {}
        () = gone.cancelled() => {}
    }
}

/// A refusal with words of our own: OpenSSH's client prints them after "administratively prohibited".
pub fn prohibited(reason: String) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: ChannelOpenFailure::AdministrativelyProhibited.code(), reason }
}
