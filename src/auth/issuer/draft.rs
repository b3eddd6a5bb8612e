//! A certificate before it is signed, as PROTOCOL.certkeys lays it out.
//!
//! The bytes are put together here rather than by the library's builder, since that one signs by a call that cannot wait,
//! and the key may be at the far end of an agent's socket.

use std::collections::BTreeMap;

use russh::keys::Certificate;
use russh::keys::ssh_key::certificate::{CertType, OptionsMap};
use russh::keys::ssh_key::encoding::Encode;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{self, Signature};

/// As long as OpenSSH's own.
const NONCE_BYTES: usize = 32;

/// What a certificate is to say.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) key: KeyData,
    pub(super) serial: u64,
    pub(super) key_id: String,
    pub(super) principals: Vec<String>,
    /// Seconds since 1970; `until` is the first one that it is not valid in.
    pub(super) from: u64,
    pub(super) until: u64,
    pub(super) critical_options: BTreeMap<String, String>,
    pub(super) extensions: BTreeMap<String, String>,
    pub(super) comment: String,
}

/// The bytes that a CA signs.
pub(super) struct Unsigned {
    bytes: Vec<u8>,
    comment: String,
}

impl Draft {
    /// Lays it out for the CA `ca`.
    pub(super) fn lay_out(self, ca: &KeyData) -> Result<Unsigned, ssh_key::Error> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let mut bytes = Vec::new();
        self.key.algorithm().to_certificate_type().encode(&mut bytes)?;
        nonce.as_slice().encode(&mut bytes)?;
        // A key alone begins with its algorithm's name, which stands at the front already.
        let name_bytes = self.key.algorithm().as_str().encoded_len()?;
        bytes.extend_from_slice(self.key.encode_vec()?.get(name_bytes..).unwrap_or_default());
        self.serial.encode(&mut bytes)?;
        CertType::User.encode(&mut bytes)?;
        self.key_id.encode(&mut bytes)?;
        self.principals.encode(&mut bytes)?;
        self.from.encode(&mut bytes)?;
        self.until.encode(&mut bytes)?;
        OptionsMap::from(self.critical_options).encode(&mut bytes)?;
        OptionsMap::from(self.extensions).encode(&mut bytes)?;
        // Reserved.
        "".encode(&mut bytes)?;
        ca.encode_prefixed(&mut bytes)?;
        Ok(Unsigned { bytes, comment: self.comment })
    }
}

impl Unsigned {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn complete(mut self, signature: &Signature) -> Result<Certificate, ssh_key::Error> {
        signature.encode_prefixed(&mut self.bytes)?;
        let mut certificate = Certificate::from_bytes(&self.bytes)?;
        certificate.set_comment(self.comment);
        Ok(certificate)
    }
}
