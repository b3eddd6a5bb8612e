//! A connection into the pod, for `-L`, `-D` and `-W`: the same admission as a process, and no other network than the
//! pod's own.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::exit::Failure;
use super::pump::Counts;
use super::tenure::Tenure;
use super::{Caller, Client, ClientGone, Outlet, Sessions};
use crate::audit::{Event, SessionId};
use crate::authorize::{Action, Grant};
use crate::cluster::{Tunnel, TunnelReader, TunnelWriter};

/// A connection that stands.
pub struct Forward {
    tunnel: Tunnel,
    grant: Grant,
    destination: String,
    tenure: Tenure,
}

impl Sessions {
    /// Connects to `host:port` as the pod sees it.
    ///
    /// Fails where the place or the destination is not open to this person, where the destination is not the pod
    /// itself, and where nothing listens there.
    pub async fn dial(&self, caller: &Caller, session: &SessionId, host: &str, port: u16) -> Result<Forward, Failure> {
        let action = Action::Forward { host: host.to_owned(), port };
        let admitted = self.admit(caller, session, action).await?;
        let tunnel = self.cluster.dial(&admitted.grant).await.map_err(|error| Failure {
            code: error.code(),
            person: error.person(),
            operator: error.to_string(),
        });
        let subject = caller.identity.subject().to_owned();
        let target = admitted.target.to_string();
        let destination = admitted.grant.action().destination().unwrap_or_default();
        match tunnel {
            Ok(tunnel) => {
                let opened = Event::ForwardOpened { subject, target, destination: destination.clone() };
                self.record(&caller.connection, session, &opened).await?;
                let tenure = self.tenure(caller, admitted.changes);
                Ok(Forward { tunnel, grant: admitted.grant, destination, tenure })
            }
            Err(failure) => {
                let ended = Event::ForwardEnded {
                    subject,
                    target,
                    destination,
                    code: failure.code,
                    bytes_in: 0,
                    bytes_out: 0,
                    seconds: 0.0,
                };
                self.record(&caller.connection, session, &ended).await?;
                Err(failure)
            }
        }
    }

    /// Carries a forward's bytes until both directions have ended, the client has closed the channel, or what the grant and
    /// the credential allow is over.
    pub async fn carry<O: Outlet>(
        self: &Arc<Self>,
        caller: &Caller,
        session: &SessionId,
        forward: Forward,
        client: &Client<O>,
    ) {
        let Forward { tunnel, grant, destination, tenure } = forward;
        let started = Instant::now();
        let counts = Counts::default();
        let (mut reader, mut writer) = tunnel.split();
        let code = tokio::select! {
            // The subresource has no half-close from the pod's side: where its bytes end, the connection has ended.
            sent = outward(&mut reader, &client.output, &counts) => if sent.is_ok() { "ended" } else { "client_left" },
            never = inward(client, &mut writer, &counts) => match never {},
            () = client.gone.cancelled() => "client_left",
            failure = tenure.over(self, caller, session, &grant) => failure.code,
            () = self.closing.cancelled() => "shutdown",
            failure = self.discounted(caller) => failure.code,
        };
        // A connection that nobody answered is told of only after it has been opened.
        let code = match reader.error() {
            Some(error) => {
                tracing::info!(%session, error, "a forwarded connection failed");
                "connect_failed"
            }
            None => code,
        };
        let ended = Event::ForwardEnded {
            subject: grant.identity().subject().to_owned(),
            target: grant.target().to_string(),
            destination,
            code,
            bytes_in: counts.to_process.load(Ordering::Relaxed),
            bytes_out: counts.to_client.load(Ordering::Relaxed),
            seconds: started.elapsed().as_secs_f64(),
        };
        self.record_end(&caller.connection, session, &ended).await;
    }
}

async fn outward(from: &mut TunnelReader, to: &impl Outlet, counts: &Counts) -> Result<(), ClientGone> {
    while let Some(bytes) = from.next().await {
        let len = bytes.len() as u64;
        to.stdout(bytes).await?;
        counts.to_client.fetch_add(len, Ordering::Relaxed);
    }
    Ok(())
}

/// Passes the client's bytes and its end on; never returns, since the other direction may still have bytes.
async fn inward<O: Outlet>(client: &Client<O>, to: &mut TunnelWriter, counts: &Counts) -> Infallible {
    while let Some(bytes) = client.input.next().await {
        let len = bytes.len() as u64;
        if to.write(bytes).await.is_err() {
            return std::future::pending().await;
        }
        counts.to_process.fetch_add(len, Ordering::Relaxed);
    }
    // A connection that is gone already needs no end.
    let _ = to.close().await;
    std::future::pending().await
}
