//! PK tokens (OpenPubkey), as opkssh puts one into a certificate: an `id_token` that vouches for a key.
//!
//! The person's client makes a key and a header that holds it, the *client instance claims* (CIC). It has the provider issue an
//! `id_token` whose `nonce` is the hash of that header, and signs the token's payload once more, with the key, under the header.
//! Both signatures over the one payload are the PK token:
//!
//! ```text
//! payload ":" provider's header ":" provider's signature ":" CIC ":" key's signature          each in base64url
//! ```
//!
//! So three things tie the key to the person, and all must hold: the provider's signature covers the nonce, the nonce
//! covers the CIC, and the CIC holds the key. The key's own signature says that whoever has the key wanted this token.
//! Here is everything but the provider's part, which is `auth::token`'s.
//!
//! Invariants: whatever is in the text, it is bounded before it is read; what is not understood is refused, never passed over;
//! and the hash is of the header's bytes as they came, so that no two readings of it can differ.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use russh::keys::ssh_key::public::{EcdsaPublicKey, KeyData};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha3::{Digest as _, Sha3_256};

use crate::auth::name::shown;
use crate::auth::token::TOKEN_MAX_BYTES;

/// A token as long as any may be, and the rest.
pub const PK_TOKEN_MAX_BYTES: usize = TOKEN_MAX_BYTES + 8 * 1024;
/// A key and a random number are some 300 bytes; a client may add claims of its own.
const CIC_MAX_BYTES: usize = 4 * 1024;

/// A PK token taken apart. Nothing of it is believed, and nothing prints it: the `id_token` is another login where it is
/// believed by itself.
pub struct PkToken {
    id_token: String,
    cic: Cic,
    /// The CIC's hash, as the nonce must have it.
    commitment: String,
    /// What the key has signed, and the signature.
    message: String,
    signature: String,
}

/// Why a PK token vouches for nobody here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkTokenRefusal {
    #[error("its PK token has {bytes} bytes, and {max} are the most")]
    TooLarge { bytes: usize, max: usize },
    #[error("its PK token is malformed: {problem}")]
    Malformed { problem: &'static str },
    #[error("its PK token has {what}, which is not supported")]
    Unsupported { what: &'static str },
    #[error("its PK token has a signature of the type {}, where {expected} belongs", shown(found))]
    Type { found: String, expected: &'static str },
    #[error("its PK token is signed by the algorithm {}: use ES256 or EdDSA", shown(algorithm))]
    Algorithm { algorithm: String },
    #[error("its PK token is for another key than the certificate's")]
    OtherKey,
    #[error("its PK token is not signed by the key that it is for")]
    Signature,
}

/// The client instance claims. Unknown ones are the client's own business; what it calls critical is not.
#[derive(Debug, Deserialize)]
struct Cic {
    typ: String,
    alg: String,
    upk: Upk,
    /// A random number, without which the hash would tell the key.
    #[serde(rename = "rz")]
    _random: String,
    crit: Option<IgnoredAny>,
}

/// The person's key as a JWK (RFC 7517).
#[derive(Debug, Deserialize)]
struct Upk {
    alg: String,
    kty: String,
    crv: String,
    x: String,
    y: Option<String>,
}

#[derive(Deserialize)]
struct ProviderHeader {
    typ: Option<String>,
}

impl PkToken {
    /// Reads the compact form, as it stands in the extension.
    pub fn read(text: &str) -> Result<PkToken, PkTokenRefusal> {
        let malformed = |problem| PkTokenRefusal::Malformed { problem };
        if text.len() > PK_TOKEN_MAX_BYTES {
            return Err(PkTokenRefusal::TooLarge { bytes: text.len(), max: PK_TOKEN_MAX_BYTES });
        }
        // The one dot stands before a later token, by which opkssh prolongs an old one.
        if text.contains('.') {
            return Err(PkTokenRefusal::Unsupported { what: "a refreshed id_token" });
        }
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(malformed("it has not all of its five parts"));
        let (payload, provider, provider_signature) = (next()?, next()?, next()?);
        let (cic, signature) = (next()?, next()?);
        if parts.next().is_some() {
            return Err(PkTokenRefusal::Unsupported { what: "a cosigner's signature" });
        }
        let header: ProviderHeader = json(provider).ok_or(malformed("the provider's header cannot be read"))?;
        // Some providers write none (RFC 7519 section 5.1 lets them).
        if let Some(found) = header.typ.filter(|typ| typ != "JWT") {
            return Err(PkTokenRefusal::Type { found, expected: "JWT" });
        }
        let bytes = URL_SAFE_NO_PAD.decode(cic).ok().filter(|bytes| bytes.len() <= CIC_MAX_BYTES);
        let bytes = bytes.ok_or(malformed("the client's claims are too long, or no base64url"))?;
        let claims: Cic =
            serde_json::from_slice(&bytes).map_err(|_| malformed("the client's claims cannot be read"))?;
        if claims.typ != "CIC" {
            return Err(PkTokenRefusal::Type { found: claims.typ, expected: "CIC" });
        }
        if claims.crit.is_some() {
            return Err(malformed("the client's claims have extensions that are not understood"));
        }
        if claims.alg != claims.upk.alg {
            return Err(malformed("the client's key is for another algorithm than its signature"));
        }
        Ok(PkToken {
            id_token: format!("{provider}.{payload}.{provider_signature}"),
            commitment: URL_SAFE_NO_PAD.encode(Sha3_256::digest(&bytes)),
            message: format!("{cic}.{payload}"),
            signature: signature.to_owned(),
            cic: claims,
        })
    }

    /// Whether this is the key that the token is for, and has signed it.
    pub(super) fn proves(&self, key: &KeyData) -> Result<(), PkTokenRefusal> {
        let (algorithm, key) = self.key(key)?;
        let good = jsonwebtoken::crypto::verify(&self.signature, self.message.as_bytes(), &key, algorithm);
        // A signature of the wrong length is an error of the library's, and no other kind of no.
        if good.unwrap_or(false) { Ok(()) } else { Err(PkTokenRefusal::Signature) }
    }

    /// What must be verified as any token is: by its issuer's key, for whom, and when.
    pub(super) fn id_token(&self) -> &str {
        &self.id_token
    }

    /// The nonce that the provider must have signed.
    pub(super) fn commitment(&self) -> &str {
        &self.commitment
    }

    /// The certificate's key for verifying, if the token is for it. It is made of the certificate's bytes, not the token's.
    fn key(&self, key: &KeyData) -> Result<(Algorithm, DecodingKey), PkTokenRefusal> {
        let Cic { alg, upk, .. } = &self.cic;
        let same = |named: &str, bytes: &[u8]| URL_SAFE_NO_PAD.decode(named).is_ok_and(|named| named == bytes);
        let found = match (alg.as_str(), key) {
            ("ES256", KeyData::Ecdsa(key @ EcdsaPublicKey::NistP256(_))) => {
                // SEC 1 section 2.3.3: an uncompressed point is 4, then x, then y.
                let Some((4, point)) = key.as_sec1_bytes().split_first().map(|(kind, point)| (*kind, point)) else {
                    return Err(PkTokenRefusal::OtherKey);
                };
                let Some((x, y)) = point.split_at_checked(32).filter(|(_, y)| y.len() == 32) else {
                    return Err(PkTokenRefusal::OtherKey);
                };
                let ours = upk.kty == "EC"
                    && upk.crv == "P-256"
                    && same(&upk.x, x)
                    && upk.y.as_ref().is_some_and(|named| same(named, y));
                let key = DecodingKey::from_ec_components(&URL_SAFE_NO_PAD.encode(x), &URL_SAFE_NO_PAD.encode(y));
                ours.then_some((Algorithm::ES256, key))
            }
            ("EdDSA", KeyData::Ed25519(key)) => {
                let ours = upk.kty == "OKP" && upk.crv == "Ed25519" && same(&upk.x, &key.0);
                let key = DecodingKey::from_ed_components(&URL_SAFE_NO_PAD.encode(key.0));
                ours.then_some((Algorithm::EdDSA, key))
            }
            ("ES256" | "EdDSA", _) => None,
            _ => return Err(PkTokenRefusal::Algorithm { algorithm: alg.clone() }),
        };
        let (algorithm, key) = found.ok_or(PkTokenRefusal::OtherKey)?;
        Ok((algorithm, key.map_err(|_| PkTokenRefusal::OtherKey)?))
    }
}

impl PkTokenRefusal {
    /// The stable word for the audit trail.
    pub fn code(&self) -> &'static str {
        match self {
            PkTokenRefusal::TooLarge { .. } => "pk_token_too_large",
            PkTokenRefusal::Malformed { .. } => "pk_token_malformed",
            PkTokenRefusal::Unsupported { .. } => "pk_token_unsupported",
            PkTokenRefusal::Type { .. } => "pk_token_type",
            PkTokenRefusal::Algorithm { .. } => "pk_token_algorithm",
            PkTokenRefusal::OtherKey => "pk_token_other_key",
            PkTokenRefusal::Signature => "pk_token_signature",
        }
    }
}

fn json<T: serde::de::DeserializeOwned>(encoded: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}
