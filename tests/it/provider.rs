//! An identity provider of our own, whose only gift is to misbehave: what a well-behaved one does is Dex's to show.
//!
//! Its keys are made when it starts. It answers by what it was last told, one request a connection.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::house::{PATIENCE, keygen};

/// A running provider; it ends with the test's process.
pub struct Provider {
    pub url: String,
    state: Arc<State>,
}

struct State {
    inner: Mutex<Inner>,
    asked: Condvar,
}

struct Inner {
    /// How the endpoint of each path answers.
    answers: HashMap<&'static str, Answer>,
    counts: HashMap<String, usize>,
    keys: Vec<(String, Arc<EncodingKey>)>,
    /// Requests that get no answer, until the next one is told how to.
    silent: Vec<TcpStream>,
}

/// An answer of one endpoint.
#[derive(Clone)]
pub enum Answer {
    /// As it should be.
    Well,
    Json(u16, Value),
    Raw(u16, Vec<u8>),
    /// The connection ends without one.
    Gone,
    /// None comes, and the connection stays.
    Silence,
}

pub const DISCOVERY: &str = "/.well-known/openid-configuration";
pub const DEVICE: &str = "/device/code";
pub const TOKEN: &str = "/token";
pub const KEYS: &str = "/keys";

impl Provider {
    pub fn start() -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (answers, counts, silent) = Default::default();
        let inner = Inner { answers, counts, keys: vec![new_key("first")], silent };
        let state = Arc::new(State { inner: Mutex::new(inner), asked: Condvar::new() });
        let (served, own) = (Arc::clone(&state), url.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that goes away early is no fault of ours.
                let _ = served.serve(stream, &own);
            }
        });
        let provider = Provider { url, state };
        provider.pending();
        provider
    }

    pub fn answer(&self, path: &'static str, answer: Answer) {
        let mut inner = self.state.lock();
        inner.answers.insert(path, answer);
        inner.silent.clear();
    }

    /// Nobody has decided yet.
    pub fn pending(&self) {
        self.error("authorization_pending");
    }

    /// The token endpoint's word for why there is no token.
    pub fn error(&self, word: &str) {
        self.answer(TOKEN, Answer::Json(400, json!({ "error": word })));
    }

    /// The person has approved, and this is the token that comes of it.
    pub fn approve(&self, token: &str) {
        let body = json!({ "access_token": "opaque", "token_type": "bearer", "expires_in": 60, "id_token": token });
        self.answer(TOKEN, Answer::Json(200, body));
    }

    pub fn asked(&self, path: &str) -> usize {
        self.state.lock().counts.get(path).copied().unwrap_or(0)
    }

    /// Waits until the endpoint was asked so many times more.
    pub fn await_asked(&self, path: &str, more: usize) {
        let count = |inner: &Inner| inner.counts.get(path).copied().unwrap_or(0);
        let inner = self.state.lock();
        let wanted = count(&inner) + more;
        let waited = self.state.asked.wait_timeout_while(inner, PATIENCE, |inner| count(inner) < wanted);
        assert!(!waited.expect("not poisoned").1.timed_out(), "nobody asks {path}");
    }

    /// A new key in place of all.
    pub fn rotate(&self, id: &str) {
        let key = new_key(id);
        self.state.lock().keys = vec![key];
    }

    /// What a good token says.
    pub fn claims(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        json!({
            "iss": self.url, "aud": "porthole", "sub": "mia", "name": "Mia", "email": "mia@example.com",
            "groups": ["developers"], "iat": now, "exp": now + 300,
        })
    }

    /// A token as it should be, but for what `change` does to its header and claims before they are signed.
    pub fn token(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (id, key) = self.key();
        let (mut header, mut claims) = (json!({ "alg": "ES256", "typ": "JWT", "kid": id }), self.claims());
        change(&mut header, &mut claims);
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::ES256).expect("it signs");
        format!("{message}.{signature}")
    }

    /// The current key, and its public half as the key set has it.
    pub fn key(&self) -> (String, Arc<EncodingKey>) {
        self.state.lock().keys[0].clone()
    }

    pub fn public(&self) -> Value {
        public(&self.key())
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("not poisoned")
    }

    fn serve(&self, mut stream: TcpStream, url: &str) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut line, mut length) = (String::new(), 0);
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
        let (answer, keys) = {
            let mut inner = self.lock();
            *inner.counts.entry(path.clone()).or_default() += 1;
            self.asked.notify_all();
            let keys: Vec<_> = inner.keys.iter().map(public).collect();
            (inner.answers.get(path.as_str()).cloned().unwrap_or(Answer::Well), keys)
        };
        let (status, body) = match answer {
            Answer::Gone => return Ok(()),
            Answer::Silence => {
                self.lock().silent.push(stream);
                return Ok(());
            }
            Answer::Raw(status, body) => (status, body),
            Answer::Json(status, body) => (status, body.to_string().into_bytes()),
            Answer::Well => match well(&path, url, &keys) {
                Some(body) => (200, body.to_string().into_bytes()),
                None => (404, b"{}".to_vec()),
            },
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)
    }
}

fn well(path: &str, url: &str, keys: &[Value]) -> Option<Value> {
    Some(match path {
        DISCOVERY => json!({
            "issuer": url, "jwks_uri": format!("{url}{KEYS}"), "token_endpoint": format!("{url}{TOKEN}"),
            "device_authorization_endpoint": format!("{url}{DEVICE}"),
        }),
        KEYS => json!({ "keys": keys }),
        DEVICE => json!({
            "device_code": "a-device-code", "user_code": "WDJB-MJHT", "verification_uri": format!("{url}/device"),
            "verification_uri_complete": format!("{url}/device?user_code=WDJB-MJHT"), "expires_in": 60, "interval": 1,
        }),
        _ => return None,
    })
}

fn public((id, key): &(String, Arc<EncodingKey>)) -> Value {
    let mut jwk = Jwk::from_encoding_key(key, Algorithm::ES256).expect("a key of the curve");
    jwk.common.key_id = Some(id.clone());
    serde_json::to_value(jwk).expect("it serializes")
}

fn new_key(id: &str) -> (String, Arc<EncodingKey>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    keygen(folder.path(), &["-q", "-t", "ecdsa", "-b", "256", "-m", "PKCS8", "-N", "", "-f", "key"]);
    let pem = std::fs::read(folder.path().join("key")).expect("just made");
    (id.to_owned(), Arc::new(EncodingKey::from_ec_pem(&pem).expect("a key")))
}

pub fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
