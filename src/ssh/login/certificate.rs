//! A login by an SSH user certificate.

use jiff::Timestamp;
use russh::keys::ssh_key::Certificate;
use russh::server::Auth;

use super::{Gatekeeper, Welcome};
use crate::auth::certificate::Presented;

impl Gatekeeper {
    /// A certificate whose key the client has proved to hold.
    pub async fn certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Welcome, Auth> {
        self.user = user.to_owned();
        self.settle().await;
        let presented = Presented { peer: self.peer.ip(), now: Timestamp::now() };
        match self.server.credentials.verifier.admit(certificate, presented).await {
            Ok(identity) => match self.server.credentials.standing.check(&identity) {
                Ok(()) => self.welcome(user, identity).await,
                Err(withdrawn) => Err(self.refuse(user, "certificate", withdrawn.code, withdrawn.operator).await),
            },
            Err(refusal) => Err(self.refuse(user, "certificate", refusal.code(), refusal.to_string()).await),
        }
    }
}
