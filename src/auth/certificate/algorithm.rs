//! Which keys and signatures are strong enough to believe.

use russh::keys::Algorithm;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::public::KeyData;

/// Below this an RSA key is refused: NIST SP 800-131A's floor, and OpenSSH's own advice.
const RSA_MIN_BITS: usize = 2048;
/// Above this a verification is work that a stranger can make us do for nothing; OpenSSH's own bound.
const RSA_MAX_BITS: usize = 16_384;

/// Why this key is not good enough, for a person or for a CA; none if it is.
pub(in crate::auth) fn weakness_of_key(key: &KeyData) -> Option<String> {
    match key {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => None,
        KeyData::Rsa(rsa) => {
            // Not `key_size`, which counts whole bytes.
            let bits = rsa.n().as_positive_bytes().map_or(0, |modulus| {
                let leading = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
                modulus.len().saturating_mul(8).saturating_sub(leading)
            });
            match bits {
                ..RSA_MIN_BITS => Some(format!("an RSA key of {bits} bits is too short, {RSA_MIN_BITS} is the least")),
                RSA_MIN_BITS..=RSA_MAX_BITS => None,
                _ => Some(format!("an RSA key of {bits} bits is too long, {RSA_MAX_BITS} is the most")),
            }
        }
        KeyData::Dsa(_) => Some("DSA keys are not secure: use Ed25519".to_owned()),
        KeyData::Certificate(_) => Some("a certificate stands where a plain key must be".to_owned()),
        other => {
            Some(format!("the algorithm {} is not supported", crate::auth::name::shown(other.algorithm().as_str())))
        }
    }
}

/// Why this CA's signature is not good enough whatever its bytes say; none if it is.
pub(super) fn weakness_of_signature(ca: &KeyData, signature: &Signature) -> Option<String> {
    let fits = match (ca.algorithm(), signature.algorithm()) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { hash: Some(_) }) => true,
        (Algorithm::Rsa { .. }, Algorithm::Rsa { hash: None }) => {
            return Some("the CA signed with SHA-1 (ssh-rsa): sign with `-t rsa-sha2-512`".to_owned());
        }
        (key, signed) => key == signed,
    };
    if fits {
        return None;
    }
    Some(format!(
        "the CA's key is {} and its signature {}",
        crate::auth::name::shown(ca.algorithm().as_str()),
        crate::auth::name::shown(signature.algorithm().as_str())
    ))
}
