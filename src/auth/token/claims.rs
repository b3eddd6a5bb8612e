//! What a token says: for whom, by whom, from when until when, and who its bearer is.
//!
//! Nothing here is done before the signature is known to be good. A claim that is there and is not what it should be
//! refuses the token: to a library that takes a malformed `exp` for none, such a token would never end.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::refusal::TokenRefusal;
use crate::auth::name;
use crate::config::{self, ClaimNames};

/// Directories know people with hundreds of groups; a token of 16 KiB holds no more of them than this.
const GROUPS_MAX: usize = 2048;

/// What an issuer's tokens must say.
#[derive(Debug)]
pub struct Expectations {
    audiences: Vec<String>,
    authorized_parties: Vec<String>,
    leeway: Duration,
    /// Zero takes any.
    max_lifetime: Duration,
    /// From its `iat` a token counts so long, whatever its `exp` says; none where that decides.
    max_age: Option<Duration>,
    names: ClaimNames,
}

/// Who a token says that its bearer is, and until when.
#[derive(Debug, PartialEq, Eq)]
pub struct Person {
    pub subject: String,
    pub name: Option<String>,
    pub email: Option<String>,
    /// Sorted, each once.
    pub groups: Vec<String>,
    pub until: Timestamp,
}

impl Expectations {
    pub fn new(config: &config::Issuer) -> Expectations {
        Expectations {
            audiences: config.audiences.clone(),
            authorized_parties: config.authorized_parties.clone(),
            leeway: config.leeway,
            max_lifetime: config.max_token_lifetime,
            max_age: None,
            names: config.claims.clone(),
        }
    }

    /// Of the issuer's tokens in certificates.
    pub fn in_certificates(config: &config::Issuer, certificate: &config::Certificate) -> Expectations {
        Expectations {
            audiences: certificate.pk_token_audiences.clone(),
            authorized_parties: Vec::new(),
            max_age: Some(certificate.pk_token_max_age),
            ..Expectations::new(config)
        }
    }

    pub fn read(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Person, TokenRefusal> {
        self.for_us(claims)?;
        let until = self.in_its_time(claims, now)?;
        let subject = text(claims, &self.names.subject)?
            .ok_or_else(|| TokenRefusal::claims(&self.names.subject, "it is not there, so the token names nobody"))?;
        let subject = format!("{}{subject}", self.names.subject_prefix);
        name::check(&subject).map_err(|problem| TokenRefusal::claims(&self.names.subject, problem))?;
        // An address that the provider itself has not verified is one that anybody may claim: it names nobody, and one of
        // which the provider says nothing names nobody either.
        let verified = claims.get("email_verified").map(|verified| *verified == Value::Bool(true));
        let by_email = [&self.names.email, "email"].contains(&self.names.subject.as_str());
        if by_email && verified != Some(true) {
            return Err(TokenRefusal::claims(&self.names.subject, "the provider does not say that it has verified it"));
        }
        let email = self.optional(claims, &self.names.email)?.filter(|_| verified != Some(false));
        let name = self.optional(claims, &self.names.name)?;
        Ok(Person { subject, name, email, groups: self.groups(claims)?, until })
    }

    /// OpenID Connect Core, section 3.1.3.7, points 3 to 5.
    fn for_us(&self, claims: &Map<String, Value>) -> Result<(), TokenRefusal> {
        let audiences = match claims.get("aud") {
            None => Vec::new(),
            Some(audience) => {
                strings(audience).ok_or(TokenRefusal::claims("aud", "it is no text and no list of texts"))?
            }
        };
        if !audiences.iter().any(|audience| self.audiences.contains(audience)) {
            return Err(TokenRefusal::Audience { audiences });
        }
        let party = text(claims, "azp")?;
        let authorized = if self.authorized_parties.is_empty() { &self.audiences } else { &self.authorized_parties };
        let fits = match &party {
            Some(party) => authorized.contains(party),
            None => self.authorized_parties.is_empty() && audiences.len() == 1,
        };
        if fits { Ok(()) } else { Err(TokenRefusal::AuthorizedParty { party }) }
    }

    /// When the token ends, if it has begun and not ended.
    fn in_its_time(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, TokenRefusal> {
        let missing = |claim| TokenRefusal::claims(claim, "it is not there");
        let until = time(claims, "exp")?.ok_or_else(|| missing("exp"))?;
        let issued = time(claims, "iat")?.ok_or_else(|| missing("iat"))?;
        let begins = time(claims, "nbf")?.map_or(issued, |begins| begins.max(issued));
        let leeway = i64::try_from(self.leeway.as_secs()).unwrap_or(i64::MAX);
        let now = now.as_second();
        let end = match self.max_age {
            None => until,
            Some(age) => {
                let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
                Timestamp::from_second(issued.as_second().saturating_add(age)).unwrap_or(Timestamp::MAX)
            }
        };
        if end.as_second().saturating_add(leeway) <= now {
            return Err(TokenRefusal::Expired { at: end });
        }
        if begins.as_second() > now.saturating_add(leeway) {
            return Err(TokenRefusal::NotYetValid { at: begins });
        }
        let seconds = u64::try_from(until.as_second().saturating_sub(issued.as_second())).unwrap_or(0);
        let max_seconds = self.max_lifetime.as_secs();
        if max_seconds > 0 && seconds > max_seconds {
            return Err(TokenRefusal::LifetimeTooLong { seconds, max_seconds });
        }
        Ok(end)
    }

    /// A name that a person need not have; one that cannot be shown is as good as none.
    fn optional(&self, claims: &Map<String, Value>, path: &str) -> Result<Option<String>, TokenRefusal> {
        Ok(text(claims, path)?.filter(|text| name::check(text).is_ok()))
    }

    fn groups(&self, claims: &Map<String, Value>) -> Result<Vec<String>, TokenRefusal> {
        let path = &self.names.groups;
        let named = match at(claims, path) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) => text.split_ascii_whitespace().map(str::to_owned).collect(),
            Some(list) => {
                strings(list).ok_or_else(|| TokenRefusal::claims(path, "it is no text and no list of texts"))?
            }
        };
        if named.len() > GROUPS_MAX {
            return Err(TokenRefusal::claims(path, "it has too many groups"));
        }
        let mut groups = Vec::with_capacity(named.len());
        for group in named {
            let group = format!("{}{group}", self.names.group_prefix);
            name::check(&group).map_err(|problem| TokenRefusal::claims(path, problem))?;
            groups.push(group);
        }
        groups.sort_unstable();
        groups.dedup();
        Ok(groups)
    }
}

/// The claim of that name or, where there is none, what stands at that path: names with dots are in use, as URLs.
fn at<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    at(claims.get(first)?.as_object()?, rest)
}

fn text(claims: &Map<String, Value>, path: &str) -> Result<Option<String>, TokenRefusal> {
    match at(claims, path) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(TokenRefusal::claims(path, "it is no text")),
    }
}

/// One text, or a list of nothing but texts.
fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) => list.iter().map(|entry| entry.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// RFC 7519's NumericDate: seconds since 1970, which may have a fraction.
fn time(claims: &Map<String, Value>, claim: &str) -> Result<Option<Timestamp>, TokenRefusal> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let wrong = || TokenRefusal::claims(claim, "it is no date");
    let seconds = match (value.as_i64(), value.as_f64()) {
        (Some(seconds), _) => seconds,
        // Larger than any date, and so refused below.
        (None, Some(seconds)) => seconds as i64,
        (None, None) => return Err(wrong()),
    };
    Timestamp::from_second(seconds).map(Some).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_that_lives_too_long_or_names_too_many_groups_is_refused() {
        let issuer = config::Issuer {
            audiences: vec!["porthole".to_owned()],
            max_token_lifetime: Duration::from_secs(600),
            ..config::Issuer::default()
        };
        let (expectations, now) = (Expectations::new(&issuer), Timestamp::now());
        let read = |lifetime: i64, groups: usize| {
            let groups: Vec<_> = (0..groups).map(|number| number.to_string()).collect();
            let claims = json!({ "aud": "porthole", "sub": "mia", "groups": groups,
                                 "iat": now.as_second(), "exp": now.as_second() + lifetime });
            let Value::Object(claims) = claims else { unreachable!("it is an object") };
            expectations.read(&claims, now).map(|person| person.groups.len()).map_err(|refusal| refusal.code())
        };
        assert_eq!(read(600, GROUPS_MAX), Ok(GROUPS_MAX));
        assert_eq!(read(601, 1), Err("token_lifetime_too_long"));
        assert_eq!(read(600, GROUPS_MAX + 1), Err("token_claims"));
    }

    /// A person was whoever's address they had claimed, where the subject is the address.
    #[test]
    fn an_address_that_is_not_verified_is_no_subject() {
        let mut issuer = config::Issuer { audiences: vec!["porthole".to_owned()], ..config::Issuer::default() };
        issuer.claims.subject = "email".to_owned();
        let (expectations, now) = (Expectations::new(&issuer), Timestamp::now());
        let read = |verified: Option<Value>| {
            let claims = json!({ "aud": "porthole", "sub": "7", "email": "boss@example.com",
                                 "iat": now.as_second(), "exp": now.as_second() + 60 });
            let Value::Object(mut claims) = claims else { unreachable!("it is an object") };
            claims.extend(verified.map(|verified| ("email_verified".to_owned(), verified)));
            expectations.read(&claims, now).map(|person| person.subject)
        };
        assert_eq!(read(Some(json!(true))).expect("verified"), "boss@example.com");
        for verified in [Some(json!(false)), Some(json!("true")), Some(Value::Null), None] {
            assert!(read(verified.clone()).is_err(), "{verified:?}");
        }
    }
}
