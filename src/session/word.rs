//! The few words that work as commands where the login name is no place: `ssh login@porthole cert`.
//!
//! They are about the person, not about a pod: no container starts and no authorizer is asked. What each may say is already
//! the person's own, but for `cert`, which the issuer decides and records.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::exit::{Exit, Failure};
use super::{Caller, Client, Inbound, Outlet, Request, Sessions, What};
use crate::audit::SessionId;
use crate::auth::Identity;
use crate::auth::issuer::{PUBLIC_KEY_MAX_BYTES, Wish, parse_public_key};
use crate::target::LoginName;

/// How long `cert` waits for its key: a person who forgot the `<` sees why nothing happens.
const INPUT_DEADLINE: Duration = Duration::from_secs(60);

const HELP: &str = "\
log in to a place, as namespace.pod@host; any other name, without a dot, knows these words:
  cert    a certificate for the public key on standard input, as in
          ssh login@host cert < ~/.ssh/id_ed25519.pub > ~/.ssh/id_ed25519-cert.pub
  whoami  who you are here, and until when
  help    these lines
";

/// What one may ask for without a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Cert,
    Whoami,
    Help,
}

impl Word {
    /// The word that this request is; none where it is for a place, or no word.
    pub(super) fn of(caller: &Caller, request: &Request) -> Option<Word> {
        let (Ok(LoginName::Lobby), What::Command(command)) = (&caller.place, &request.what) else { return None };
        // A credential for one command is for no other, not even for these.
        if caller.identity.force_command().is_some() {
            return None;
        }
        match command.trim() {
            "cert" => Some(Word::Cert),
            "whoami" => Some(Word::Whoami),
            "help" => Some(Word::Help),
            _ => None,
        }
    }
}

impl Sessions {
    /// Answers a word.
    pub(super) async fn answer<O: Outlet>(
        self: &Arc<Self>,
        caller: &Caller,
        session: &SessionId,
        word: Word,
        request: &Request,
        client: &Client<O>,
    ) -> Exit {
        let said = async {
            self.count(caller)?;
            match word {
                Word::Cert if request.terminal.is_some() => Err(Failure::new(
                    "no_key",
                    "give your public key on standard input, without a terminal: cert < ~/.ssh/id_ed25519.pub",
                )),
                Word::Cert => self.certify(caller, session, &client.input).await,
                Word::Whoami => Ok(whoami(&caller.identity)),
                Word::Help => Ok(HELP.to_owned()),
            }
        };
        let said = tokio::select! {
            said = said => said,
            () = client.gone.cancelled() => return Exit::ClientLeft,
            () = self.closing.cancelled() => Err(super::run::shutting_down()),
        };
        let text = match said {
            Ok(text) if request.terminal.is_some() => text.replace('\n', "\r\n"),
            Ok(text) => text,
            Err(failure) => {
                tracing::info!(%session, code = failure.code, detail = failure.operator, "session refused or failed");
                return Exit::Failed(failure);
            }
        };
        match client.output.stdout(Bytes::from(text)).await {
            Ok(()) => Exit::Status(0),
            Err(_) => Exit::ClientLeft,
        }
    }

    async fn certify(&self, caller: &Caller, session: &SessionId, input: &Inbound) -> Result<String, Failure> {
        let Some(issuer) = &self.issuer else {
            return Err(Failure::new("no_issuer", "this porthole issues no certificates: ask whoever runs it for one"));
        };
        let key = tokio::time::timeout(INPUT_DEADLINE, read(input))
            .await
            .map_err(|_| Failure::new("no_key", "no key came on standard input: try cert < ~/.ssh/id_ed25519.pub"))?;
        let wish = Wish {
            identity: &caller.identity,
            key: parse_public_key(&key),
            source: caller.source,
            connection: &caller.connection,
            session,
        };
        let issued = issuer.issue(wish).await.map_err(|error| Failure {
            code: error.code(),
            person: error.person(),
            operator: error.to_string(),
        })?;
        Ok(issued.line)
    }
}

/// What comes until the end, and no more than shows that it is too much.
async fn read(input: &Inbound) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = input.next().await {
        bytes.extend_from_slice(&piece);
        if bytes.len() > PUBLIC_KEY_MAX_BYTES {
            break;
        }
    }
    bytes
}

fn whoami(identity: &Identity) -> String {
    let until = |time: Option<jiff::Timestamp>| time.map_or_else(|| "no end".to_owned(), |time| time.to_string());
    let lines = [
        ("subject", identity.subject().to_owned()),
        ("email", identity.email().unwrap_or("-").to_owned()),
        ("groups", if identity.groups().is_empty() { "-".to_owned() } else { identity.groups().join(", ") }),
        ("login", identity.method().to_string()),
        ("valid until", until(identity.valid_until())),
        ("login until", until(identity.login_until())),
    ];
    // Names come from outside, and this goes to a terminal.
    let plain = |text: String| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    lines.into_iter().map(|(name, value)| format!("{name:<12} {}\n", plain(value))).collect()
}
