//! A server that knows which namespaces a person may enter. docs/namespaces.schema.json has its answer.
//!
//! It is asked once for a person, by their own id_token or by a short JWT in which Porthole says who they are, and its
//! list is held against each question here.
//!
//! Guards: what is not in the list is denied, and an empty list is a no to everything; a list with a name in it that
//! could never fit is no answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::guarded::Backend;
use super::http::{Http, Unusable, bearer};
use super::policy::NameGlob;
use super::{ActionKind, Decision, Obligations, Query, Unavailable};
use crate::auth::Secret;
use crate::config;
use crate::config::authorize::PersonCredential;

/// How long a statement of Porthole's about a person is good for.
const STATEMENT_SECONDS: i64 = 60;

/// Places that one list may name, and patterns among them, each of which is compiled.
const NAMES_MAX: usize = 20_000;
const PATTERNS_MAX: usize = 500;

/// One answer serves all questions of a person.
const AT_ONCE: usize = 500;

/// A questioned server.
pub(super) struct Namespaces {
    http: Http,
    path: Url,
    /// None where people come with their own.
    signer: Option<Signer>,
}

/// Who signs statements about people, for whom.
struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    audience: String,
}

/// A person, as the server is told of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Person {
    Token(Secret),
    Identity { subject: String, groups: Vec<String>, email: Option<String> },
}

/// RFC 7519's claims, and a person's.
#[derive(Serialize)]
struct Statement<'a> {
    iss: &'static str,
    aud: &'a str,
    sub: &'a str,
    groups: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    iat: i64,
    exp: i64,
    jti: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    namespaces: Vec<String>,
    #[serde(default)]
    actions: BTreeMap<String, Vec<String>>,
}

/// The places of one person; none, where the server does not take who they are.
#[derive(Debug, Default)]
pub(super) struct Places {
    namespaces: Vec<NameGlob>,
    /// In place of these, for an action of its own.
    actions: BTreeMap<ActionKind, Vec<NameGlob>>,
}

impl Namespaces {
    pub(super) fn new(config: &config::authorize::Namespaces) -> Result<Namespaces, Unusable> {
        let http = Http::new(&config.server)?;
        let path = http.at(&config.path)?;
        let signer = match (config.credential, &config.signing_key) {
            (PersonCredential::IdToken, _) => None,
            (PersonCredential::SignedIdentity, Some(file)) => Some(Signer::load(file, &config.server.url)?),
            (PersonCredential::SignedIdentity, None) => {
                return Err(Unusable("needs a signing-key: name its file".to_owned()));
            }
        };
        Ok(Namespaces { http, path, signer })
    }
}

impl Signer {
    fn load(file: &Path, audience: &str) -> Result<Signer, Unusable> {
        let pem = std::fs::read(file).map_err(|error| Unusable(format!("cannot read {}: {error}", file.display())))?;
        let ed25519 = EncodingKey::from_ed_pem(&pem).map(|key| (key, Algorithm::EdDSA));
        let either = ed25519.or_else(|_| EncodingKey::from_ec_pem(&pem).map(|key| (key, Algorithm::ES256)));
        let wrong = || {
            format!(
                "{} is no private key for Ed25519 or P-256 in PEM form (PKCS #8): use `openssl genpkey`",
                file.display()
            )
        };
        let (key, algorithm) = either.map_err(|_| Unusable(wrong()))?;
        let signer = Signer { key, algorithm, audience: audience.to_owned() };
        // A key of another curve shows itself only here.
        let nobody = Person::Identity { subject: String::new(), groups: Vec::new(), email: None };
        signer.sign(&nobody).map_err(|_| Unusable(wrong()))?;
        Ok(signer)
    }

    fn sign(&self, person: &Person) -> Result<String, Unavailable> {
        let Person::Identity { subject, groups, email } = person else {
            return Err(Unavailable("a token is not signed again".to_owned()));
        };
        let now = Timestamp::now().as_second();
        let statement = Statement {
            iss: "porthole",
            aud: &self.audience,
            sub: subject,
            groups,
            email: email.as_deref(),
            iat: now,
            exp: now + STATEMENT_SECONDS,
            jti: format!("{:032x}", rand::random::<u128>()),
        };
        jsonwebtoken::encode(&Header::new(self.algorithm), &statement, &self.key)
            .map_err(|error| Unavailable(format!("cannot sign who asks: {error}")))
    }
}

impl Backend for Namespaces {
    type Question = Person;
    type Answer = Arc<Places>;

    fn question(&self, query: &Query) -> Result<Person, String> {
        let user = &query.user;
        match (&self.signer, &user.id_token) {
            (None, Some(token)) => Ok(Person::Token(token.clone())),
            (None, None) => Err("this person came without an id_token, by which it would know them".to_owned()),
            (Some(_), _) => Ok(Person::Identity {
                subject: user.subject.clone(),
                groups: user.groups.clone(),
                email: user.email.clone(),
            }),
        }
    }

    fn ask<'a>(&'a self, person: &'a Person) -> BoxFuture<'a, Result<Arc<Places>, Unavailable>> {
        Box::pin(async move {
            let credential = match (&self.signer, person) {
                (_, Person::Token(token)) => bearer(token.expose())?,
                (Some(signer), person) => bearer(&signer.sign(person)?)?,
                (None, Person::Identity { .. }) => return Err(Unavailable("nobody signs who asks".to_owned())),
            };
            let headers = HeaderMap::from_iter([(AUTHORIZATION, credential)]);
            let answer = self.http.send(Method::GET, self.path.clone(), headers, Vec::new()).await?;
            // A no to this person, and no failure of the server's: others must not be kept out by it.
            if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                return Ok(Arc::new(Places::default()));
            }
            // Only an object has names for its lists: serde would take a list by its order.
            let document: Map<String, Value> = answer.json()?;
            let document = serde_json::from_value(Value::Object(document)).map_err(|error| error.to_string());
            document
                .and_then(Places::read)
                .map(Arc::new)
                .map_err(|problem| Unavailable(format!("its list is none: {problem}")))
        })
    }

    fn at_once(&self) -> usize {
        AT_ONCE
    }

    fn judge(&self, query: &Query, places: &Arc<Places>) -> Decision {
        let namespace = &query.target.namespace;
        let own = places.actions.get(&query.action);
        match own.unwrap_or(&places.namespaces).iter().any(|glob| glob.fits(namespace)) {
            true => Decision {
                allow: true,
                reason: format!("{namespace} is among this person's namespaces"),
                obligations: Obligations::default(),
            },
            false if own.is_some() => {
                Decision::denied(format!("{namespace} is not among this person's namespaces for {}", query.action))
            }
            false => Decision::denied(format!("{namespace} is not among this person's namespaces")),
        }
    }
}

impl Places {
    fn read(document: Document) -> Result<Places, String> {
        let all = || document.namespaces.iter().chain(document.actions.values().flatten());
        let patterns = all().filter(|name| name.contains(['*', '?', '[', '{'])).count();
        if all().count() > NAMES_MAX || patterns > PATTERNS_MAX {
            return Err(format!("it is too long: it may have {NAMES_MAX} names, and {PATTERNS_MAX} patterns"));
        }
        let globs = |names: &[String]| {
            let globs = names.iter().map(|name| name.parse::<NameGlob>());
            globs.collect::<Result<Vec<_>, _>>()
        };
        let actions = document.actions.iter().map(|(action, names)| {
            let action = ActionKind::of(action).ok_or_else(|| format!("it has `{action}`, which is no action"))?;
            Ok::<_, String>((action, globs(names)?))
        });
        Ok(Places { actions: actions.collect::<Result<_, _>>()?, namespaces: globs(&document.namespaces)? })
    }
}
