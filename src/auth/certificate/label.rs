//! What a certificate says of itself, for its owner's own tools. Nothing of it is believed here: that is the server's part.

use jiff::Timestamp;
use russh::keys::{Certificate, PublicKey};

use super::refusal::Time;

/// A certificate's face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub key_id: String,
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Label {
    /// Reads a `-cert.pub` line that is for the key of a `.pub` line; the error says what is wrong with it.
    pub fn read(certificate: &str, key: &str) -> Result<Label, String> {
        let certificate =
            Certificate::from_openssh(certificate.trim()).map_err(|_| "it is no certificate".to_owned())?;
        let key = PublicKey::from_openssh(key.trim()).map_err(|_| "the key's .pub line cannot be read".to_owned())?;
        if certificate.public_key() != key.key_data() {
            return Err("it is for another key".to_owned());
        }
        let time = |seconds| Time(seconds).timestamp().unwrap_or(Timestamp::MAX);
        Ok(Label {
            key_id: certificate.key_id().to_owned(),
            from: time(certificate.valid_after()),
            until: time(certificate.valid_before()),
        })
    }

    pub fn covers(&self, time: Timestamp) -> bool {
        self.from <= time && time < self.until
    }
}
