//! A login by a bare key: silent where the key is bound to a person, and else the first half of a device login.
//!
//! The answer to a proved key that nobody is bound to is SSH's partial success (RFC 4252 section 5.1): the client goes on
//! with keyboard-interactive, and what comes of that binds this key. Both methods stay open meanwhile, since a
//! certificate may come after the key in an agent's order. OpenSSH tries its keys again then, and is refused, so only
//! the first key is ever the one to be bound.

use jiff::Timestamp;
use russh::server::Auth;
use russh::{MethodKind, MethodSet};

use super::{Gatekeeper, Welcome};

impl Gatekeeper {
    /// A key without a certificate has proved itself.
    pub async fn key(&mut self, user: &str, fingerprint: String) -> Result<Welcome, Auth> {
        self.user = user.to_owned();
        self.settle().await;
        if let Some(identity) = self.server.credentials.bindings.find(&fingerprint, Timestamp::now()) {
            return self.welcome(user, identity).await;
        }
        if !self.may_use_device() {
            return Err(self.refuse(user, "publickey", "bare_key", fingerprint).await);
        }
        match &self.proved {
            None => {
                self.proved = Some(fingerprint);
                Err(open_to_both(true))
            }
            Some(proved) if *proved == fingerprint => Err(open_to_both(false)),
            Some(_) => {
                self.refuse(user, "publickey", "bare_key", fingerprint).await;
                Err(open_to_both(false))
            }
        }
    }
}

fn open_to_both(partial_success: bool) -> Auth {
    let methods = [MethodKind::PublicKey, MethodKind::KeyboardInteractive];
    Auth::Reject { proceed_with_methods: Some(MethodSet::from(methods.as_slice())), partial_success }
}
