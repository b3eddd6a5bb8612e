//! An identity provider of the tests' own: its discovery document, one key, and any token.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::house::keygen;

pub struct Issuer {
    pub url: String,
    key: EncodingKey,
}

impl Issuer {
    /// One that answers until the tests end.
    pub fn start() -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let key = Issuer::key();
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("an EC key");
        public.common.key_id = Some("one".to_owned());
        let keys = serde_json::to_value(JwkSet { keys: vec![public] }).expect("JSON");
        let document = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that leaves in the middle is its own problem.
                let _ = answer(stream, &document, &keys);
            }
        });
        Issuer { url, key }
    }

    fn key() -> EncodingKey {
        let folder = tempfile::tempdir().expect("a temporary folder");
        keygen(folder.path(), &["-q", "-t", "ecdsa", "-b", "256", "-m", "PKCS8", "-N", "", "-f", "key"]);
        let pem = std::fs::read(folder.path().join("key")).expect("just made");
        EncodingKey::from_ec_pem(&pem).expect("PKCS8")
    }

    /// What belongs into `porthole.toml` for it.
    pub fn config(&self) -> String {
        format!("[issuers.company]\nurl = \"{}\"\naudiences = [\"porthole\"]\n", self.url)
    }

    /// A token for `dev`, in which `more` takes the place of the usual claims.
    pub fn token(&self, more: Value) -> String {
        self.token_signed("one", &self.key, more)
    }

    /// One that somebody else has signed.
    pub fn forged(&self) -> String {
        self.token_signed("one", &Issuer::key(), json!({}))
    }

    fn token_signed(&self, key_id: &str, key: &EncodingKey, more: Value) -> String {
        let now = now();
        let mut claims = json!({
            "iss": self.url, "aud": "porthole", "sub": "dev", "groups": ["developers"],
            "iat": now, "nbf": now, "exp": now + 300,
        });
        if let (Some(claims), Value::Object(more)) = (claims.as_object_mut(), more) {
            claims.extend(more);
        }
        let header = Header { kid: Some(key_id.to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims, key).expect("signed")
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn answer(mut stream: TcpStream, document: &Value, keys: &Value) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        request.push(byte[0]);
    }
    let body = if request.starts_with(b"GET /keys ") { keys } else { document }.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}
