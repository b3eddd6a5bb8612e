//! After the login: sessions end at once when what they rest on is taken back.
//!
//! A certificate is held against the trusted CAs and the revocation lists each time that one of them changes, and a bound
//! key against the bindings. What is taken back ends the caller's sessions with a line, then the connection.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::super::stream::Login;
use super::super::{FAREWELL, SshServer};
use crate::audit::{ConnectionId, Event};
use crate::auth::Identity;

/// Watches over one connection's credential.
pub struct Watch {
    pub server: Arc<SshServer>,
    pub id: ConnectionId,
    pub identity: Arc<Identity>,
    /// Cancelled when the credential is taken back.
    pub distrusted: CancellationToken,
    pub login: Login,
}

impl Watch {
    pub async fn run(self) {
        let credentials = &self.server.credentials;
        let mut certificates = credentials.verifier.changes();
        let mut bindings = credentials.bindings.changes();
        let code = loop {
            // Looked at before each wait, so that what changed during the login counts too.
            if let Err(refusal) = credentials.verifier.still_believes(&self.identity) {
                break refusal.code();
            }
            if !credentials.bindings.still_holds(&self.identity, Timestamp::now()) {
                break "binding_revoked";
            }
            tokio::select! {
                () = certificates.changed() => {}
                changed = bindings.changed() => if changed.is_err() { return },
            }
        };
        tracing::info!(connection = %self.id, subject = self.identity.subject(), code, "a login is taken back");
        let revoked = Event::LoginRevoked {
            subject: self.identity.subject().to_owned(),
            method: self.identity.method().as_str(),
            code,
            credential: self.identity.credential().to_owned(),
        };
        if let Err(error) = self.server.audit.record(&self.id, None, &revoked).await {
            tracing::error!(connection = %self.id, %error, "an event is missing from the audit trail");
        }
        self.distrusted.cancel();
        // The sessions' lines go out before the connection ends.
        let _ = tokio::time::timeout(FAREWELL, self.login.idle()).await;
        self.login.cut_after(FAREWELL).await;
    }
}
