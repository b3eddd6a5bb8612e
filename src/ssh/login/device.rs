//! Keyboard-interactive: a device login, told and waited for in rounds of questions.
//!
//! RFC 4256 has no message that only tells: a request of no questions is one, which clients show and answer at once. So
//! the link goes out as such requests, each short enough for OpenSSH, whose log line for it ends at 1,023 bytes; and the
//! wait for the person is a chain of empty ones, which show nothing. russh reads nothing while we think over an answer,
//! so no round lasts long: that is how a client that leaves is noticed, and polling ends with it.
//!
//! Invariant: one code a connection. Whatever comes of it, there is no second.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use russh::server::{Auth, Response};
use russh::{MethodKind, MethodSet};

use super::{Gatekeeper, Welcome, shown};
use crate::audit::Event;
use crate::auth::Identity;
use crate::auth::device::{DeviceRefusal, Invitation, Waiting};

mod text;

/// How long one empty round lasts, unless the person decides meanwhile.
const ROUND: Duration = Duration::from_secs(2);

const METHOD: &str = "device";

/// Where a connection's device login stands.
pub(super) enum Stage {
    Untried,
    /// What the person reads first, and then the wait.
    Asked {
        texts: VecDeque<String>,
        waiting: Box<Waiting>,
        user: String,
    },
    /// The line that tells why there is no login goes out; the next answer is a no.
    Told,
    Over,
}

impl Gatekeeper {
    /// Whether this connection may still log in by a device.
    pub(super) fn may_use_device(&self) -> bool {
        self.server.credentials.devices.is_some() && !matches!(self.device, Stage::Told | Stage::Over)
    }

    /// A request for this method, or (with a response) the client's answer to the last round.
    pub async fn keyboard_interactive(&mut self, user: &str, response: Option<Response<'_>>) -> Result<Welcome, Auth> {
        let answer = self.interact(user, response).await;
        if !matches!(self.device, Stage::Asked { .. }) {
            self.place.waits_no_more();
        }
        answer
    }

    async fn interact(&mut self, user: &str, response: Option<Response<'_>>) -> Result<Welcome, Auth> {
        self.user = user.to_owned();
        self.settle().await;
        // No question is ever asked, so every answer is one too many, however many there are.
        let unasked = response.map(|mut response| response.next().is_some());
        let Some(unasked) = unasked else { return Err(self.begin(user).await) };
        match std::mem::replace(&mut self.device, Stage::Over) {
            Stage::Asked { .. } if unasked => Err(self.give_up(user, DeviceRefusal::Unasked).await),
            Stage::Asked { user: begun, .. } if begun != user => {
                Err(self.give_up(user, DeviceRefusal::OtherPlace).await)
            }
            Stage::Asked { texts, waiting, user } => self.go_on(texts, waiting, user).await,
            Stage::Untried | Stage::Told | Stage::Over => Err(no_more()),
        }
    }

    async fn begin(&mut self, user: &str) -> Auth {
        let Some(devices) = &self.server.credentials.devices else {
            return self.refuse(user, "keyboard-interactive", "keyboard_interactive_refused", String::new()).await;
        };
        match self.device {
            Stage::Untried => {}
            Stage::Asked { .. } => return self.give_up(user, DeviceRefusal::Again).await,
            Stage::Told | Stage::Over => return no_more(),
        }
        let deadline = devices.deadline();
        match devices.begin(self.peer.ip(), self.place.displaced()).await {
            Ok(waiting) => {
                self.login.extend(deadline);
                self.place.waits();
                self.tell_pending("device_started").await;
                let texts = self.texts(user, waiting.invitation());
                self.device = Stage::Asked { texts, waiting: Box::new(waiting), user: user.to_owned() };
                self.round()
            }
            Err(refusal) => self.give_up(user, refusal).await,
        }
    }

    /// The next round of a login that waits: a text, if one is left, else a while of silence.
    async fn go_on(
        &mut self,
        texts: VecDeque<String>,
        mut waiting: Box<Waiting>,
        user: String,
    ) -> Result<Welcome, Auth> {
        let decided = if texts.is_empty() { waiting.decided(ROUND).await } else { None };
        match decided {
            Some(Ok(identity)) => {
                // Who has been approved waits no more: from here on nobody displaces them.
                drop(waiting);
                self.approved(&user, identity).await
            }
            Some(Err(refusal)) => Err(self.give_up(&user, refusal).await),
            None => {
                let slowed = waiting.was_slowed();
                self.device = Stage::Asked { texts, waiting, user: user.clone() };
                if slowed {
                    self.tell_pending("device_slow_down").await;
                    let line = "porthole: your identity provider asks for patience: this takes some seconds longer";
                    return Err(tell(line.to_owned()));
                }
                Err(self.round())
            }
        }
    }

    fn round(&mut self) -> Auth {
        match &mut self.device {
            Stage::Asked { texts, .. } => tell(texts.pop_front().unwrap_or_default()),
            Stage::Untried | Stage::Told | Stage::Over => no_more(),
        }
    }

    async fn approved(&mut self, user: &str, identity: Identity) -> Result<Welcome, Auth> {
        // Without a lifetime no key stands for anybody.
        let binds = identity.valid_until().is_some();
        let identity = match &self.proved {
            Some(fingerprint) if binds => {
                let (bindings, now) = (&self.server.credentials.bindings, Timestamp::now());
                match bindings.bind(fingerprint, identity, self.peer.ip(), now).await {
                    Ok(identity) => identity,
                    Err((identity, error)) => {
                        // They are who they are all the same; the next login asks again.
                        tracing::error!(connection = %self.id, %error, "cannot keep the binding of a key");
                        identity
                    }
                }
            }
            _ => identity,
        };
        self.welcome(user, identity).await
    }

    /// Ends the device login of this connection: the person reads why, then the client hears no.
    async fn give_up(&mut self, user: &str, refusal: DeviceRefusal) -> Auth {
        self.refuse(user, METHOD, refusal.code(), refusal.to_string()).await;
        self.device = Stage::Told;
        tell(format!("porthole: {}", refusal.person()))
    }

    fn texts(&self, user: &str, invitation: &Invitation) -> VecDeque<String> {
        let Some(devices) = &self.server.credentials.devices else { return VecDeque::new() };
        let prompt = text::Prompt {
            place: user,
            address: self.peer.ip(),
            fingerprint: self.proved.as_deref(),
            deadline: devices.deadline(),
            lifetime: self.server.credentials.bindings.lifetime(),
            qr_code: devices.qr_code(),
        };
        prompt.texts(invitation)
    }

    async fn tell_pending(&self, code: &'static str) {
        let pending = Event::LoginPending {
            peer: self.peer,
            login: shown(&self.user),
            method: METHOD,
            code,
            detail: self.proved.clone().unwrap_or_default(),
        };
        if let Err(error) = self.server.audit.record(&self.id, None, &pending).await {
            tracing::error!(connection = %self.id, %error, "an event is missing from the audit trail");
        }
    }

    /// The connection has ended: a login that still waited was left by its client, and a key that was proved and led
    /// nowhere was one of a client that cannot be asked.
    pub(super) async fn left_waiting(&mut self) {
        match std::mem::replace(&mut self.device, Stage::Over) {
            Stage::Asked { .. } => {
                self.tried = true;
                let displaced = self.place.displaced().is_cancelled();
                let code = if displaced { "device_displaced" } else { "device_client_left" };
                self.record(METHOD, code, String::new()).await;
            }
            Stage::Untried if self.server.credentials.devices.is_some() => {
                self.server.greetings.stranded(self.peer.ip());
                if let Some(fingerprint) = self.proved.take() {
                    self.tried = true;
                    self.record("publickey", "device_not_tried", fingerprint).await;
                }
            }
            Stage::Untried | Stage::Told | Stage::Over => {}
        }
    }
}

/// A round without questions.
fn tell(text: String) -> Auth {
    Auth::Partial { name: "".into(), instructions: text.into(), prompts: (&[]).into() }
}

/// No, and not this way again: OpenSSH would ask three times.
fn no_more() -> Auth {
    let methods = MethodSet::from([MethodKind::PublicKey].as_slice());
    Auth::Reject { proceed_with_methods: Some(methods), partial_success: false }
}
