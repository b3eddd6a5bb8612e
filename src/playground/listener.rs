//! Connections to the API server, which a fault can cut all at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::api::{self, Door};

/// Connections at once. A session needs one for its streams, a client some more for its watches.
const MOST_CONNECTIONS: usize = 4096;

/// How long to wait after a connection that could not be accepted.
const BREATH: Duration = Duration::from_millis(100);

/// A connection, as a request on it sees it.
#[derive(Clone)]
pub(super) struct Connection {
    /// Cancelled when the connection is to be cut, with what it was upgraded to.
    pub cut: CancellationToken,
    spared: Arc<AtomicBool>,
}

impl Connection {
    /// Lets the answer to whoever asked for the cut go out.
    pub(super) fn spare(&self) {
        self.spared.store(true, Ordering::SeqCst);
    }
}

pub(super) async fn accept(listener: TcpListener, door: Arc<Door>) {
    let cluster = door.cluster.clone();
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(seat) = room.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Most likely we are out of descriptors, and asking again at once would not make any.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            },
            () = cluster.stopping.cancelled() => return,
        };
        if cluster.faults.refusing() {
            continue;
        }
        let connection = Connection { cut: cluster.faults.connections(), spared: Arc::default() };
        let door = door.clone();
        let stopping = cluster.stopping.clone();
        cluster.tasks.spawn(async move {
            tokio::select! {
                () = serve(stream, door, connection.clone()) => {}
                () = stopping.cancelled() => {}
                () = cut(&connection) => {}
            }
            drop(seat);
        });
    }
}

async fn cut(connection: &Connection) {
    connection.cut.cancelled().await;
    if connection.spared.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}

async fn serve(stream: TcpStream, door: Arc<Door>, connection: Connection) {
    // Keystrokes are small; waiting to fill a packet shows. It fails on a connection that is gone.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let door = door.clone();
        request.extensions_mut().insert(connection.clone());
        async move { Ok::<_, Infallible>(api::answer(State(door), request.map(Body::new)).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}
