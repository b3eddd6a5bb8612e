//! Whether a login still counts: what proved it may be withdrawn while its sessions are open.
//!
//! Invariant: nothing begins on a login that was withdrawn, and what has begun ends when it is, however long it was open.
//! Each way of logging in has its own reason to end; they meet here, so that a session need not know how its person came.

use std::sync::Arc;

use jiff::Timestamp;

use super::Identity;
use super::binding::Bindings;
use super::certificate::Verifier;

/// Tells of every identity whether it still counts. One for the whole server, shared.
#[derive(Clone)]
pub struct Standing {
    verifier: Arc<Verifier>,
    bindings: Arc<Bindings>,
}

/// A login that counts no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operator}")]
pub struct Withdrawn {
    /// A stable word, for the audit trail.
    pub code: &'static str,
    /// What happened and what to do.
    pub person: &'static str,
    pub operator: String,
}

impl Standing {
    pub fn new(verifier: Arc<Verifier>, bindings: Arc<Bindings>) -> Standing {
        Standing { verifier, bindings }
    }

    /// Whether the identity counts now.
    pub fn check(&self, identity: &Identity) -> Result<(), Withdrawn> {
        self.verifier.still_believes(identity).map_err(|refusal| Withdrawn {
            code: refusal.code(),
            person: "your certificate is no longer believed: get a new one and log in again",
            operator: refusal.to_string(),
        })?;
        if !self.bindings.still_holds(identity, Timestamp::now()) {
            return Err(Withdrawn {
                code: "binding_revoked",
                person: "your login was taken back, and this session with it: log in again",
                operator: format!("the login behind {} was taken back", identity.credential()),
            });
        }
        Ok(())
    }

    /// Returns when the identity counts no more, which may be at once. Cancel safe.
    pub async fn withdrawn(&self, identity: &Identity) -> Withdrawn {
        // The watch begins before the first look, so that no change falls between them.
        let mut certificates = self.verifier.changes();
        let mut bindings = self.bindings.changes();
        loop {
            if let Err(withdrawn) = self.check(identity) {
                return withdrawn;
            }
            tokio::select! {
                () = certificates.changed() => {}
                // Its sender lives as long as the bindings.
                _ = bindings.changed() => {}
            }
        }
    }
}
