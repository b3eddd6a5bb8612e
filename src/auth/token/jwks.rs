//! An issuer's signing keys: cached, and asked for again when they are old or a token names one that is not known.
//!
//! Invariants: a key serves only the algorithm of its own kind; one request for keys runs at a time, however many ask;
//! two requests are a pause apart, so that made-up key ids are not a way to make Porthole knock at the provider; and the
//! last good keys stay when the provider cannot be asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::discovery::{Document, Provider, Unavailable};
use super::refusal::TokenRefusal;

/// More keys than any provider has at a time; what is beyond them is not looked at.
const KEYS_MAX: usize = 64;
/// Key ids that are remembered after their keys have gone, to tell a rotation from a forgery.
const RETIRED_MAX: usize = 64;
/// While no key is known at all, nobody can log in: then the provider is asked more often than its pause says.
const PAUSE_WITHOUT_KEYS: Duration = Duration::from_secs(1);
/// Where keys are known and only old, a provider that hangs makes nobody wait longer for newer ones.
const PATIENCE_WITH_KEYS: Duration = Duration::from_secs(1);

/// The keys of one issuer.
pub struct Keys {
    issuer: String,
    provider: Provider,
    refresh_interval: Duration,
    pause: Duration,
    known: ArcSwapOption<Known>,
    /// Held by the one request that runs.
    turn: Arc<Mutex<Turn>>,
}

#[derive(Default)]
struct Turn {
    last: Option<Instant>,
    problem: Option<Unavailable>,
}

/// What the provider last said.
struct Known {
    at: Instant,
    document: Document,
    keys: Vec<Key>,
    retired: VecDeque<String>,
}

/// A key that may verify signatures.
#[derive(Clone)]
struct Key {
    id: Option<String>,
    kind: Kind,
    /// The one algorithm that the provider says it is for.
    only: Option<String>,
    key: DecodingKey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Keys {
    pub fn new(issuer: &str, provider: Provider, refresh_interval: Duration, pause: Duration) -> Keys {
        Keys {
            issuer: issuer.to_owned(),
            provider,
            refresh_interval,
            pause,
            known: ArcSwapOption::empty(),
            turn: Arc::default(),
        }
    }

    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The discovery document, as old as the keys are.
    pub async fn document(self: &Arc<Self>) -> Result<Document, Unavailable> {
        if self.is_old() {
            self.renew().await;
        }
        match self.known.load_full() {
            Some(known) => Ok(known.document.clone()),
            None => Err(self.problem().await),
        }
    }

    /// The key for a token that names `id` and `algorithm`.
    pub async fn find(self: &Arc<Self>, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, TokenRefusal> {
        let mut asked = self.is_old() && self.renew().await;
        loop {
            let Some(known) = self.known.load_full() else {
                let problem = self.problem().await.0;
                return Err(TokenRefusal::IssuerUnavailable { issuer: self.issuer.clone(), problem });
            };
            match known.find(id, algorithm) {
                Search::Found(key) => return Ok(key),
                Search::WrongKind => {
                    return Err(TokenRefusal::Algorithm {
                        algorithm: format!("{algorithm:?}"),
                        problem: "the issuer's key is for another".to_owned(),
                    });
                }
                Search::Unknown if !asked => {
                    self.refresh().await;
                    asked = true;
                }
                Search::Unknown => return Err(self.unknown(&known, id).await),
            }
        }
    }

    async fn unknown(&self, known: &Known, id: Option<&str>) -> TokenRefusal {
        let issuer = self.issuer.clone();
        if let Some(id) = id.filter(|id| known.retired.iter().any(|retired| retired == id)) {
            return TokenRefusal::RetiredKey { issuer, key: id.to_owned() };
        }
        match self.turn.lock().await.problem.clone() {
            // It may be a new key, and its bearer a person: there is nobody to ask.
            Some(Unavailable(problem)) => TokenRefusal::IssuerUnavailable { issuer, problem },
            None => TokenRefusal::UnknownKey { issuer, key: id.map(str::to_owned) },
        }
    }

    fn is_old(&self) -> bool {
        self.known.load().as_ref().is_none_or(|known| known.at.elapsed() >= self.refresh_interval)
    }

    async fn problem(&self) -> Unavailable {
        let turn = self.turn.lock().await;
        turn.problem.clone().unwrap_or_else(|| Unavailable("it has not been asked yet".to_owned()))
    }

    /// Asks for newer keys; false where that takes long and there are older ones. The request goes on then.
    async fn renew(self: &Arc<Self>) -> bool {
        if self.known.load().is_none() {
            self.refresh().await;
            return true;
        }
        timeout(PATIENCE_WITH_KEYS, self.refresh()).await.is_ok()
    }

    /// Asks the provider, or waits for whoever is asking already; not at all within the pause.
    async fn refresh(self: &Arc<Self>) {
        let mut turn = Arc::clone(&self.turn).lock_owned().await;
        let pause = if self.known.load().is_none() { PAUSE_WITHOUT_KEYS.min(self.pause) } else { self.pause };
        if turn.last.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        // A task of its own: a client that leaves must not end the request that others wait for.
        let keys = Arc::clone(self);
        let asking = tokio::spawn(async move {
            turn.problem = keys.ask().await.err();
            turn.last = Some(Instant::now());
            if let Some(problem) = &turn.problem {
                tracing::warn!(issuer = keys.issuer, %problem, "cannot ask for signing keys: those known stay in force");
            }
        });
        // It ends early only with the runtime.
        let _ = asking.await;
    }

    async fn ask(&self) -> Result<(), Unavailable> {
        let document = self.provider.document().await?;
        let set: KeySet = self.provider.fetch(&document.jwks_uri).await?;
        let keys: Vec<_> = set.keys.into_iter().take(KEYS_MAX).filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err(Unavailable("its key set has no key that could be used".to_owned()));
        }
        let before = self.known.load_full();
        let mut retired = before.as_ref().map(|known| known.retired.clone()).unwrap_or_default();
        let gone = before.iter().flat_map(|known| &known.keys).filter_map(|key| key.id.clone());
        retired.extend(gone);
        retired.retain(|id| !keys.iter().any(|key| key.id.as_ref() == Some(id)));
        while retired.len() > RETIRED_MAX {
            retired.pop_front();
        }
        let count = keys.len();
        self.known.store(Some(Arc::new(Known { at: Instant::now(), document, keys, retired })));
        tracing::debug!(issuer = self.issuer, count, "signing keys are known");
        Ok(())
    }
}

enum Search {
    Found(DecodingKey),
    /// There is such a key, and it is for another algorithm.
    WrongKind,
    Unknown,
}

impl Known {
    /// A token need not name its key where the issuer has only one of the kind.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Search {
        let named: Vec<_> = self.keys.iter().filter(|key| id.is_none() || key.id.as_deref() == id).collect();
        let mut fitting = named.iter().filter(|key| key.serves(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Search::Found(key.key.clone()),
            (Some(_), Some(_)) => Search::Unknown,
            (None, _) if named.is_empty() || id.is_none() => Search::Unknown,
            (None, _) => Search::WrongKind,
        }
    }
}

impl Key {
    /// None for keys that are not for signatures, or of a kind that is not spoken here.
    fn read(value: Value) -> Option<Key> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let common = &jwk.common;
        let other_use = common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature);
        let other_operations =
            common.key_operations.as_ref().is_some_and(|operations| !operations.contains(&KeyOperations::Verify));
        if other_use || other_operations {
            return None;
        }
        let kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Kind::Rsa,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Kind::P256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => Kind::P384,
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Kind::Ed25519,
            _ => return None,
        };
        Some(Key {
            id: common.key_id.clone(),
            kind,
            only: common.key_algorithm.map(|algorithm| algorithm.to_string()),
            key: DecodingKey::from_jwk(&jwk).ok()?,
        })
    }

    fn serves(&self, algorithm: Algorithm) -> bool {
        let kind = match algorithm {
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => Kind::Rsa,
            Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => Kind::Rsa,
            Algorithm::ES256 => Kind::P256,
            Algorithm::ES384 => Kind::P384,
            Algorithm::EdDSA => Kind::Ed25519,
            _ => return false,
        };
        kind == self.kind && self.only.as_ref().is_none_or(|only| *only == format!("{algorithm:?}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The key of RFC 7517, appendix A.1, with more fields.
    fn key(more: Value) -> Option<Key> {
        let mut key = json!({ "kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                              "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM" });
        key.as_object_mut()?.extend(more.as_object()?.clone());
        Key::read(key)
    }

    #[test]
    fn a_key_serves_signatures_of_its_own_kind_and_what_its_provider_says() {
        for (more, algorithm, serves) in [
            (json!({}), Algorithm::ES256, true),
            (json!({}), Algorithm::ES384, false),
            (json!({}), Algorithm::RS256, false),
            (json!({}), Algorithm::HS256, false),
            (json!({ "use": "sig", "alg": "ES256", "key_ops": ["verify"] }), Algorithm::ES256, true),
            (json!({ "alg": "ES384" }), Algorithm::ES256, false),
        ] {
            assert_eq!(key(more.clone()).expect("a key").serves(algorithm), serves, "{more} {algorithm:?}");
        }
        for other in [json!({ "use": "enc" }), json!({ "key_ops": ["sign"] }), json!({ "crv": "P-521" })] {
            assert!(key(other.clone()).is_none(), "{other}");
        }
    }
}
