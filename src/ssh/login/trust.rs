//! After the login: a connection ends when what its login rests on is taken back.
//!
//! The sessions end by themselves, with a line (`auth::standing` tells them too); here it is told to the audit trail, and the
//! connection goes after them.

use std::sync::Arc;

use super::super::stream::Login;
use super::super::{FAREWELL, SshServer};
use crate::audit::{ConnectionId, Event};
use crate::auth::Identity;

/// Watches over one connection's credential.
pub struct Watch {
    pub server: Arc<SshServer>,
    pub id: ConnectionId,
    pub identity: Arc<Identity>,
    pub login: Login,
}

impl Watch {
    pub async fn run(self) {
        let withdrawn = self.server.credentials.standing.withdrawn(&self.identity).await;
        let code = withdrawn.code;
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
        // The sessions' lines go out before the connection ends.
        let _ = tokio::time::timeout(FAREWELL, self.login.idle()).await;
        self.login.cut_after(FAREWELL).await;
    }
}
