//! Certificates that their own key has signed: worth nothing, but for the PK token in them.
//!
//! Invariant: such a certificate is somebody's only if its PK token is: bound to the certificate's key, which the client has
//! proved to hold, and signed by an issuer that is configured for it. What else the certificate says (principals, key id) is its
//! holder's own word and names nobody; what it restricts (critical options, dates) is honoured, and so is what revokes it.

use std::sync::Arc;

use russh::keys::Certificate;

use super::options::{self, Restrictions};
use super::pk_token::PkToken;
use super::{Marks, Presented, Reason, Time, Verifier};
use crate::auth::token::Tokens;
use crate::auth::{Basis, Identity, Method, Origin};

/// Where opkssh puts the token.
const EXTENSION: &str = "openpubkey-pkt";

impl Verifier {
    /// The PK token of a certificate that nobody but its own key vouches for, where such are believed at all.
    pub(super) fn pk_token<'a>(&self, certificate: &'a Certificate, marks: &Marks) -> Option<(&Tokens, &'a str)> {
        let tokens = self.pk_tokens.as_ref()?;
        let token = certificate.extensions().get(EXTENSION)?;
        let own = certificate.public_key() == certificate.signature_key();
        (own && self.trusted(marks).is_err()).then_some((tokens, token.as_str()))
    }

    pub(super) async fn examine_self_signed(
        &self,
        certificate: &Certificate,
        marks: &Arc<Marks>,
        presented: Presented,
        (tokens, token): (&Tokens, &str),
    ) -> Result<Identity, Reason> {
        let (from, until) = Verifier::sound(certificate)?;
        self.not_revoked(marks)?;
        self.in_its_dates(from, until, presented.now)?;
        let restrictions = Restrictions::of(certificate)?;
        restrictions.admit(presented.peer)?;
        let token = PkToken::read(token)?;
        token.proves(certificate.public_key())?;
        let identity = tokens.verify_committed(token.id_token(), token.commitment(), presented.now).await?;
        let until = earlier(identity.valid_until, until);
        Ok(Identity {
            method: Method::Certificate,
            credential: format!("PK token, {}, {}", identity.credential, marks.credential()),
            valid_until: until,
            session_until: until.filter(|_| self.end_session_at_expiry),
            rights: options::rights(certificate),
            force_command: restrictions.force_command,
            basis: Basis::PkToken(Arc::clone(marks)),
            origin: Origin {
                login_until: None,
                login_key: None,
                session_until: None,
                source_address: certificate.critical_options().get("source-address").cloned(),
            },
            ..identity
        })
    }
}

/// The token's end, or the certificate's where that comes first.
fn earlier(token: Option<jiff::Timestamp>, certificate: Time) -> Option<jiff::Timestamp> {
    match (token, certificate.timestamp()) {
        (Some(token), Some(certificate)) => Some(token.min(certificate)),
        (token, certificate) => token.or(certificate),
    }
}
