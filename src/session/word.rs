//! The few words that work as commands where the login name is no place: `ssh login@porthole cert`.
//!
//! They are about the person, not about a pod, and start no container. What each may say is already the person's own, but
//! for `cert`, which the issuer decides and records (what there is no issuer for is recorded here), and for places, of which
//! the `Gate` is asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::plain::plain;
use super::{Caller, Client, Inbound, Outlet, Request, Sessions, What};
use crate::audit::{Event, SessionId};
use crate::auth::Identity;
use crate::auth::issuer::{PUBLIC_KEY_MAX_BYTES, Wish, parse_public_key};
use crate::config::PublicAddress;
use crate::target::LoginName;

/// How long `cert` waits for its key: a person who forgot the `<` sees why nothing happens.
const INPUT_DEADLINE: Duration = Duration::from_secs(60);

/// Each word, and what it gives; `help` prints them in this order.
const WORDS: [(&str, &str); 5] = [
    ("ls", "the places that are open to you: ls [NAMESPACE] [--json]"),
    ("whoami", "who you are here, and until when: whoami [--json]"),
    ("ssh-config", "a block for your ~/.ssh/config with each place as a host: ssh-config [HOST[:PORT]]"),
    (
        "cert",
        "a certificate for the public key on standard input, as in
              ssh login@host cert < ~/.ssh/id_ed25519.pub > ~/.ssh/id_ed25519-cert.pub",
    ),
    ("help", "these lines"),
];

/// What one may ask for without a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    Cert,
    Whoami {
        json: bool,
    },
    Help,
    Ls {
        namespace: Option<String>,
        json: bool,
    },
    SshConfig {
        address: Option<PublicAddress>,
    },
    /// A word with what it does not take: the line says what it takes.
    Wrong {
        usage: String,
    },
}

impl Word {
    /// The word that this request is; none where it is for a place, or no word.
    pub(super) fn of(caller: &Caller, request: &Request) -> Option<Word> {
        let (Ok(LoginName::Lobby), What::Command(command)) = (&caller.place, &request.what) else { return None };
        // A credential for one command is for no other, not even for these.
        if caller.identity.force_command().is_some() {
            return None;
        }
        Word::parse(command)
    }

    fn parse(command: &str) -> Option<Word> {
        let mut parts = command.split_whitespace();
        let word = parts.next()?;
        let (options, rest): (Vec<_>, Vec<_>) = parts.partition(|part| part.starts_with('-'));
        let json = options == ["--json"];
        let parsed = match (word, options.as_slice(), rest.as_slice()) {
            ("cert", [], []) => Word::Cert,
            ("help", [], []) => Word::Help,
            ("whoami", [] | ["--json"], []) => Word::Whoami { json },
            ("ls", [] | ["--json"], [] | [_]) => {
                Word::Ls { namespace: rest.first().map(|name| (*name).to_owned()), json }
            }
            ("ssh-config", [], []) => Word::SshConfig { address: None },
            ("ssh-config", [], [address]) => match address.parse() {
                Ok(address) => Word::SshConfig { address: Some(address) },
                Err(problem) => Word::Wrong { usage: problem },
            },
            _ => {
                let (_, usage) = WORDS.iter().find(|(known, _)| *known == word)?;
                Word::Wrong {
                    usage: format!("{word} does not take this: {}", usage.lines().next().unwrap_or_default()),
                }
            }
        };
        Some(parsed)
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
                Word::Whoami { json } => Ok(whoami(&caller.identity, json)),
                Word::Help => Ok(self.help()),
                Word::Ls { namespace, json } => self.list(caller, session, namespace.as_deref(), json).await,
                Word::SshConfig { address } => self.introduce(caller, session, address.as_ref()).await,
                Word::Wrong { usage } => Err(Failure::new("bad_word", usage)),
            }
        };
        let said = tokio::select! {
            said = said => said,
            () = client.gone.cancelled() => return Exit::ClientLeft,
            failure = self.over(caller) => Err(failure),
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
            let failure =
                Failure::new("no_issuer", "this porthole issues no certificates: ask whoever runs it for one");
            let refused = Event::CertificateRefused {
                peer: caller.source,
                subject: caller.identity.subject().to_owned(),
                credential: caller.identity.credential().to_owned(),
                code: failure.code,
                detail: failure.operator.clone(),
            };
            self.record(&caller.connection, session, &refused).await?;
            return Err(failure);
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

    fn help(&self) -> String {
        let words: String = self.words().map(|(word, gives)| format!("  {word:<12}{gives}\n")).collect();
        format!(
            "log in to a place, as namespace.pod@host; any other name, without a dot, shows a menu of the places that are \
             open to you, or knows these words:\n{words}"
        )
    }

    /// The words that give something here.
    pub(super) fn words(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let issues = self.issuer.is_some();
        WORDS.into_iter().filter(move |(word, _)| issues || *word != "cert")
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

/// Who somebody is, as programs read it. Its names are an interface.
#[derive(Serialize)]
struct Person<'a> {
    subject: &'a str,
    name: Option<&'a str>,
    email: Option<&'a str>,
    groups: &'a [String],
    /// How it was proved: `certificate`, `token`, `device`, `bound-key`.
    login: &'static str,
    credential: &'a str,
    issuer: Option<&'a str>,
    valid_until: Option<jiff::Timestamp>,
    login_until: Option<jiff::Timestamp>,
}

fn whoami(identity: &Identity, json: bool) -> String {
    if json {
        let person = Person {
            subject: identity.subject(),
            name: identity.name(),
            email: identity.email(),
            groups: identity.groups(),
            login: identity.method().as_str(),
            credential: identity.credential(),
            issuer: identity.issuer(),
            valid_until: identity.valid_until(),
            login_until: identity.login_until(),
        };
        return super::plain::json(&person);
    }
    let until = |time: Option<jiff::Timestamp>| time.map_or_else(|| "no end".to_owned(), |time| time.to_string());
    let lines = [
        ("subject", identity.subject().to_owned()),
        ("email", identity.email().unwrap_or("-").to_owned()),
        ("groups", if identity.groups().is_empty() { "-".to_owned() } else { identity.groups().join(", ") }),
        ("login", identity.method().to_string()),
        ("credential", identity.credential().to_owned()),
        ("valid until", until(identity.valid_until())),
        ("login until", until(identity.login_until())),
    ];
    lines.into_iter().map(|(name, value)| format!("{name:<12} {}\n", plain(&value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_takes_what_it_takes_and_anything_else_is_no_word() {
        let ls = |namespace: Option<&str>, json| Word::Ls { namespace: namespace.map(str::to_owned), json };
        for (command, word) in [
            (" ls ", ls(None, false)),
            ("ls demo", ls(Some("demo"), false)),
            ("ls --json demo", ls(Some("demo"), true)),
            ("ls demo --json", ls(Some("demo"), true)),
            ("whoami --json", Word::Whoami { json: true }),
            ("ssh-config h:22", Word::SshConfig { address: "h:22".parse().ok() }),
        ] {
            assert_eq!(Word::parse(command), Some(word), "{command}");
        }
        for command in ["ls -l", "ls a b", "whoami x", "help me", "ssh-config a b", "ssh-config -x", "ssh-config a%"] {
            assert!(matches!(Word::parse(command), Some(Word::Wrong { .. })), "{command}");
        }
        for command in ["", "id", "lsx", "ls;id"] {
            assert_eq!(Word::parse(command), None, "{command}");
        }
    }
}
