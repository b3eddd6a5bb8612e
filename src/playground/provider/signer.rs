//! The provider's key, and what it signs.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::Person;

/// Of a token: long enough to be verified at once, which is all that it is for.
pub const LIFETIME: Duration = Duration::from_secs(300);

/// One key, by which one issuer vouches for people.
pub struct Signer {
    issuer: String,
    key_id: String,
    key: EncodingKey,
    public: Value,
}

impl Signer {
    /// `pem` is an ECDSA P-256 key as PKCS #8.
    pub fn new(issuer: &str, pem: &[u8]) -> io::Result<Signer> {
        let key = EncodingKey::from_ec_pem(pem).map_err(io::Error::other)?;
        let key_id = format!("{:016x}", rand::random::<u64>());
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).map_err(io::Error::other)?;
        public.common.key_id = Some(key_id.clone());
        let public = serde_json::to_value(public).map_err(io::Error::other)?;
        Ok(Signer { issuer: issuer.to_owned(), key_id, key, public })
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key as a JWK (RFC 7517).
    pub fn public(&self) -> &Value {
        &self.public
    }

    /// A token that says that its bearer is this person, to that client.
    pub fn id_token(&self, person: &Person, client: &str) -> jsonwebtoken::errors::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = json!({
            "iss": self.issuer,
            "aud": client,
            "sub": person.subject,
            "name": person.name,
            "email": format!("{}@example.com", person.subject),
            "groups": person.groups,
            "iat": now,
            "exp": now + LIFETIME.as_secs(),
        });
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &self.key)
    }
}
