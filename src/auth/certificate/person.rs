//! The person that a certificate names: a subject, and groups.
//!
//! Invariant: names that leave here have passed `auth::name`.

use russh::keys::Certificate;

use super::refusal::Reason;
use crate::auth::name::check;
use crate::config::CertificateSubject;

/// The most principals, as OpenSSH's `SSHKEY_CERT_MAX_PRINCIPALS`.
const PRINCIPALS_MAX: usize = 256;

/// How certificates are read; from the configuration.
#[derive(Debug, Clone)]
pub(super) struct Naming {
    pub(super) subject: CertificateSubject,
    pub(super) subject_prefix: String,
    pub(super) group_prefix: String,
    pub(super) accepted_principals: Vec<String>,
}

/// Who the certificate says that its holder is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) subject: String,
    /// Sorted, each once.
    pub(super) groups: Vec<String>,
}

impl Naming {
    pub(super) fn read(&self, certificate: &Certificate) -> Result<Person, Reason> {
        let principals = certificate.valid_principals();
        // OpenSSH takes a certificate without principals for one of anybody; here it is one of nobody.
        if principals.is_empty() {
            return Err(Reason::NoPrincipals);
        }
        if principals.len() > PRINCIPALS_MAX {
            return Err(Reason::TooManyPrincipals { count: principals.len() });
        }
        if !self.accepted_principals.is_empty()
            && !principals.iter().any(|principal| self.accepted_principals.contains(principal))
        {
            return Err(Reason::WrongPrincipal { accepted: self.accepted_principals.clone() });
        }
        let subject = match self.subject {
            CertificateSubject::KeyId => certificate.key_id(),
            CertificateSubject::Principal => self.principal_subject(principals)?,
        };
        check(subject).map_err(|problem| Reason::Subject { problem })?;
        let mut groups = Vec::new();
        for group in principals.iter().filter_map(|principal| principal.strip_prefix(&self.group_prefix)) {
            check(group).map_err(|problem| Reason::Group { problem })?;
            groups.push(group.to_owned());
        }
        groups.sort_unstable();
        groups.dedup();
        Ok(Person { subject: subject.to_owned(), groups })
    }

    /// The one principal that names a person. Two would leave it to their order who somebody is.
    fn principal_subject<'a>(&self, principals: &'a [String]) -> Result<&'a str, Reason> {
        let mut subjects = (principals.iter())
            .filter(|principal| !principal.starts_with(&self.group_prefix))
            .filter_map(|principal| principal.strip_prefix(&self.subject_prefix));
        let problem = match (subjects.next(), subjects.next()) {
            (Some(subject), None) => return Ok(subject),
            (Some(_), Some(_)) => "more than one principal names a person",
            (None, _) => "no principal names a person",
        };
        Err(Reason::Subject { problem })
    }
}
