//! The public marks of a certificate: everything by which it can be named, distrusted and revoked.
//!
//! They stay with the `Identity` for as long as its connection lives, so that a change of the trusted CAs or of a
//! revocation list can be held against sessions that are already open.

use russh::keys::ssh_key::encoding::Encode as _;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, HashAlg};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::auth::name::shown;

/// A certificate by its public marks.
#[derive(Debug)]
pub struct Marks {
    pub(super) serial: u64,
    pub(super) key_id: String,
    /// The person's own key.
    pub(super) key: KeyMarks,
    /// The key of the CA that the certificate names, trusted or not.
    pub(super) ca: KeyMarks,
    ca_fingerprint: String,
}

/// A public key in the forms in which revocation lists name it.
#[derive(Debug)]
pub struct KeyMarks {
    blob: Vec<u8>,
    sha1: [u8; 20],
    sha256: [u8; 32],
}

impl Marks {
    /// The marks of any certificate; having them proves nothing.
    pub fn of(certificate: &Certificate) -> Marks {
        Marks {
            serial: certificate.serial(),
            key_id: certificate.key_id().to_owned(),
            key: KeyMarks::of(certificate.public_key()),
            ca: KeyMarks::of(certificate.signature_key()),
            ca_fingerprint: certificate.signature_key().fingerprint(HashAlg::Sha256).to_string(),
        }
    }

    /// `key id "alice", serial 7, CA SHA256:…`, with everything unprintable escaped.
    pub(super) fn credential(&self) -> String {
        format!("key id {}, serial {}, CA {}", shown(&self.key_id), self.serial, self.ca_fingerprint)
    }
}

impl KeyMarks {
    pub(super) fn of(key: &KeyData) -> KeyMarks {
        let blob = key.encode_vec().expect("a key that was decoded from the wire fits on it");
        KeyMarks { sha1: Sha1::digest(&blob).into(), sha256: Sha256::digest(&blob).into(), blob }
    }

    /// As on the wire: the algorithm's name, then its numbers.
    pub(super) fn blob(&self) -> &[u8] {
        &self.blob
    }

    pub(super) fn sha1(&self) -> &[u8; 20] {
        &self.sha1
    }

    pub(super) fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }
}
