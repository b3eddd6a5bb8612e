//! The audit trail: who did what, where, and with which end, as one JSON object a line.
//!
//! Recording is a call that can fail, not a log line: `record` returns when the line is written, and what could
//! not be recorded does not happen. It takes no longer than a deadline, and no event is larger than `line` lets it be.
//! Every event carries the connection's id, and most a session's, which is the id that a person sees in Porthole's own
//! lines and on the container in the pod.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use rand::RngExt as _;
use serde::Serialize;

use crate::config;

mod line;
mod sink;

use sink::Sink;

/// Names one connection: eight characters of `a-z2-7`, random (40 bits).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ConnectionId(String);

/// Names one channel of a connection: the connection's id, a dash, and a count from 1. It is a DNS label, so that it
/// can stand in a container's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct SessionId(String);

impl ConnectionId {
    pub fn random() -> ConnectionId {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut rng = rand::rng();
        ConnectionId((0..8).map(|_| char::from(ALPHABET[usize::from(rng.random::<u8>() & 31)])).collect())
    }

    /// The id of this connection's `ordinal`th channel.
    pub fn session(&self, ordinal: u32) -> SessionId {
        SessionId(format!("{}-{ordinal}", self.0))
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What happened. The names of events and fields are an interface: operators' queries stand on them.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    ConnectionOpened {
        /// The client's own address.
        peer: SocketAddr,
        /// Who stands between, if somebody does, and what that calls the connection.
        #[serde(skip_serializing_if = "Option::is_none")]
        gateway: Option<SocketAddr>,
        #[serde(skip_serializing_if = "Option::is_none")]
        gateway_reference: Option<String>,
    },
    /// One that never came to speak SSH: `peer` is who connected, `code` a stable word.
    ConnectionRefused {
        peer: SocketAddr,
        code: &'static str,
        detail: String,
    },
    /// `reason` is a stable word: `client_left`, `login_deadline`, `too_many_connections`, `shutdown`, …
    ConnectionClosed {
        peer: SocketAddr,
        reason: String,
        seconds: f64,
    },
    LoginRefused {
        peer: SocketAddr,
        login: String,
        method: &'static str,
        /// A stable word for the reason.
        code: &'static str,
        /// What an operator wants to know beside it; never a secret.
        detail: String,
    },
    /// A login that waits for its person elsewhere.
    LoginPending {
        peer: SocketAddr,
        login: String,
        method: &'static str,
        /// `device_started`, `device_slow_down`.
        code: &'static str,
        /// The key that will be bound, by its fingerprint; empty if there is none.
        detail: String,
    },
    /// What a login rested on was taken back; its sessions end.
    LoginRevoked {
        subject: String,
        method: &'static str,
        code: &'static str,
        credential: String,
    },
    LoginAccepted {
        peer: SocketAddr,
        login: String,
        method: &'static str,
        subject: String,
        groups: Vec<String>,
        /// The credential by its public marks: a certificate's key id, serial, and CA fingerprint.
        credential: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        valid_until: Option<Timestamp>,
    },
    /// A certificate that Porthole has signed, before anybody has it.
    CertificateIssued {
        peer: IpAddr,
        subject: String,
        /// The credential of the login that it was issued for.
        credential: String,
        serial: u64,
        key_id: String,
        principals: Vec<String>,
        valid_from: Timestamp,
        valid_until: Timestamp,
        #[serde(skip_serializing_if = "Option::is_none")]
        source_address: Option<String>,
        /// The fingerprint of the person's key, and of the CA's.
        key: String,
        ca: String,
    },
    CertificateRefused {
        peer: IpAddr,
        subject: String,
        credential: String,
        code: &'static str,
        detail: String,
    },
    Decision {
        subject: String,
        action: &'static str,
        /// The place: `namespace.pod+container` as resolved, or the login name where nothing was found.
        target: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        command: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        destination: Option<String>,
        profile: String,
        allow: bool,
        /// `allowed`, `denied`, `authorizer_unavailable`, `not_found`, …
        code: &'static str,
        reason: String,
        /// The conditions of a yes, as authorizers say them; absent where there are none.
        #[serde(skip_serializing_if = "Option::is_none")]
        obligations: Option<serde_json::Value>,
    },
    /// Places were asked about for a list, so many, of which so many may be seen.
    PlacesListed {
        subject: String,
        asked: usize,
        open: usize,
        /// `listed`, `authorizer_unavailable`.
        code: &'static str,
        reason: String,
    },
    /// What was granted, and runs, may be no longer: it ends.
    GrantWithdrawn {
        subject: String,
        action: &'static str,
        target: String,
        /// `no_longer_allowed`, `authorizer_unavailable`.
        code: &'static str,
        reason: String,
    },
    /// A certificate's own command takes the place of what was asked for.
    CommandForced {
        subject: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        asked: Option<String>,
        forced: String,
    },
    /// What the person sees from now on is in this file.
    RecordingStarted {
        subject: String,
        target: String,
        file: String,
    },
    ContainerStarted {
        subject: String,
        target: String,
        container: String,
        image: String,
        profile: String,
        seconds: f64,
    },
    ContainerFailed {
        subject: String,
        target: String,
        container: String,
        code: &'static str,
        detail: String,
    },
    /// A container that Porthole had to end, since its client went or its time was over.
    ContainerEnded {
        subject: String,
        target: String,
        container: String,
        /// `terminated`, as the pod's own status says, or `still_running`.
        code: &'static str,
    },
    ProcessStarted {
        subject: String,
        target: String,
        container: String,
        terminal: bool,
        program: String,
    },
    ProcessEnded {
        subject: String,
        target: String,
        container: String,
        /// `exited`, `lost`, `client_left`, `expired`, …
        code: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u32>,
        bytes_in: u64,
        bytes_out: u64,
        seconds: f64,
    },
    ForwardOpened {
        subject: String,
        target: String,
        destination: String,
    },
    ForwardEnded {
        subject: String,
        target: String,
        destination: String,
        code: &'static str,
        bytes_in: u64,
        bytes_out: u64,
        seconds: f64,
    },
}

/// An event that could not be written; what it was to record must not happen.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the audit trail to {place}: {source}")]
pub struct AuditError {
    place: String,
    source: std::io::Error,
}

/// The open trail.
pub struct Audit {
    sink: Sink,
    place: String,
}

impl Audit {
    /// Opens the trail for appending: a file (made with mode 0600 where it is new), or stdout where none is named.
    pub async fn open(settings: &config::Audit) -> Result<Audit, AuditError> {
        let place = settings.file.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
        match Sink::open(settings.file.clone(), settings.deadline).await {
            Ok(sink) => Ok(Audit { sink, place }),
            Err(source) => Err(AuditError { place, source }),
        }
    }

    /// Writes one event; returns when the operating system has it. Giving up the wait does not take it back.
    pub async fn record(
        &self,
        connection: &ConnectionId,
        session: Option<&SessionId>,
        event: &Event,
    ) -> Result<(), AuditError> {
        let line = line::encode(connection, session, event);
        self.sink.write(line).await.map_err(|source| AuditError { place: self.place.clone(), source })
    }

    /// Opens the file anew, as after a rotation; the old one stays in use where that fails.
    pub async fn reopen(&self) -> Result<(), AuditError> {
        self.sink.reopen().await.map_err(|source| AuditError { place: self.place.clone(), source })
    }
}
