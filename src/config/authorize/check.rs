//! What authorizers may not say: what could not work, or could not be meant, is told with what would be right.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{
    AccessReview, Authorize, Authorizer, Combine, Limits, Namespaces, Oathkeeper, Opa, POLICY, PersonCredential, Rego,
    Server, Webhook,
};
use crate::config::{DURATION_MIN, Problem, url};

impl Authorize {
    /// What is wrong with it, and with those that it asks.
    pub(in crate::config) fn check(&self, authorizers: &BTreeMap<String, Authorizer>) -> Result<(), Problem> {
        if self.ask.is_empty() {
            return Err(("authorize.ask", "names nobody, so everything would be denied: use [\"policy\"]".into()));
        }
        for name in self.ask.iter().filter(|name| *name != POLICY) {
            if !authorizers.contains_key(name) {
                return Err((
                    "authorize.ask",
                    format!("`{name}` is no authorizer: write a table [authorizers.{name}]"),
                ));
            }
        }
        if authorizers.contains_key(POLICY) {
            return Err(("authorizers", format!("`{POLICY}` is the policy file's name: call this one otherwise")));
        }
        for (name, authorizer) in authorizers {
            authorizer.check().map_err(|problem| ("authorizers", format!("`{name}`: {problem}")))?;
        }
        self.check_deadline(authorizers)
    }
}

impl Authorize {
    /// An authorizer's deadline must pass before the whole question's: else the next one would never be asked, and nobody
    /// would learn which of them was late.
    fn check_deadline(&self, authorizers: &BTreeMap<String, Authorizer>) -> Result<(), Problem> {
        let deadlines = self.ask.iter().filter_map(|name| Some((name, authorizers.get(name)?.limits()?.deadline)));
        let (taken, who) = match self.combine {
            Combine::All => {
                let slowest = deadlines.max_by_key(|(_, deadline)| *deadline);
                slowest
                    .map_or_else(Default::default, |(name, deadline)| (deadline, format!("`{name}` alone takes up to")))
            }
            Combine::First => {
                let all = deadlines.map(|(_, deadline)| deadline).fold(Duration::ZERO, Duration::saturating_add);
                (all, "one after the other, its authorizers take up to".to_owned())
            }
        };
        match taken.is_zero() || taken < self.deadline {
            true => Ok(()),
            false => Err((
                "authorize.deadline",
                format!(
                    "is {:?}, but {who} {taken:?}: make it longer, or their limits.deadline shorter",
                    self.deadline
                ),
            )),
        }
    }
}

impl Authorizer {
    fn check(&self) -> Result<(), String> {
        if let Some(server) = self.server() {
            server.check()?;
        }
        if let Some(limits) = self.limits() {
            limits.check()?;
        }
        match self {
            Authorizer::Rego(rego) => rego.check(),
            Authorizer::Oathkeeper(oathkeeper) => oathkeeper.check(),
            Authorizer::Namespaces(namespaces) => namespaces.check(),
            _ => Ok(()),
        }
    }

    fn server(&self) -> Option<&Server> {
        match self {
            Authorizer::Opa(Opa { server, .. })
            | Authorizer::Oathkeeper(Oathkeeper { server, .. })
            | Authorizer::Namespaces(Namespaces { server, .. })
            | Authorizer::Webhook(Webhook { server, .. }) => Some(server),
            Authorizer::Rego(rego) => rego.bundle.as_ref(),
            Authorizer::AccessReview(_) => None,
        }
    }

    fn limits(&self) -> Option<&Limits> {
        match self {
            Authorizer::Opa(Opa { limits, .. })
            | Authorizer::Oathkeeper(Oathkeeper { limits, .. })
            | Authorizer::Namespaces(Namespaces { limits, .. })
            | Authorizer::Webhook(Webhook { limits, .. })
            | Authorizer::AccessReview(AccessReview { limits, .. }) => Some(limits),
            Authorizer::Rego(_) => None,
        }
    }

    /// The files that it names, to be anchored.
    pub(super) fn files(&mut self) -> Vec<&mut PathBuf> {
        let (server, own): (Option<&mut Server>, Vec<&mut PathBuf>) = match self {
            Authorizer::Opa(opa) => (Some(&mut opa.server), Vec::new()),
            Authorizer::Oathkeeper(oathkeeper) => (Some(&mut oathkeeper.server), Vec::new()),
            Authorizer::Rego(rego) => (rego.bundle.as_mut(), rego.files.iter_mut().collect()),
            Authorizer::Namespaces(all) => (Some(&mut all.server), all.signing_key.iter_mut().collect()),
            Authorizer::Webhook(webhook) => (Some(&mut webhook.server), webhook.hmac_key_file.iter_mut().collect()),
            Authorizer::AccessReview(_) => (None, Vec::new()),
        };
        own.into_iter().chain(server.into_iter().flat_map(Server::files)).collect()
    }
}

impl Rego {
    fn check(&self) -> Result<(), String> {
        match (self.files.is_empty(), &self.bundle) {
            (true, None) => Err("names neither `files` nor a `bundle`, so there is no policy: name one".to_owned()),
            (false, Some(_)) => Err("names `files` and a `bundle`: name one of them".to_owned()),
            _ if self.bundle_interval < DURATION_MIN => Err("bundle-interval is too short: use 1s or more".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Oathkeeper {
    fn check(&self) -> Result<(), String> {
        match (self.pass_token, &self.server.token_file) {
            (true, Some(_)) => Err("pass-token and server.token-file would be one header: use one of them".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Namespaces {
    fn check(&self) -> Result<(), String> {
        if self.server.token_file.is_some() {
            return Err(
                "the person's credential and server.token-file would be one header: leave token-file out".into()
            );
        }
        match (self.credential, &self.signing_key) {
            (PersonCredential::SignedIdentity, None) => {
                Err("credential = \"signed-identity\" needs a `signing-key`: name its file".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Server {
    fn check(&self) -> Result<(), String> {
        if self.url.is_empty() {
            return Err("server.url is missing: name the server, as in \"https://opa.example.com\"".to_owned());
        }
        url::check("server.url", &self.url, "server", "https://opa.example.com")?;
        if self.certificate.is_some() != self.key.is_some() {
            return Err("server.certificate and server.key go together: name both, or neither".to_owned());
        }
        Ok(())
    }

    fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let Server { url: _, ca_file, certificate, key, token_file } = self;
        [ca_file, certificate, key, token_file].into_iter().flatten()
    }
}

impl Limits {
    fn check(&self) -> Result<(), String> {
        if self.deadline < DURATION_MIN {
            return Err("limits.deadline is too short, so every answer would be late: use 1s or more".to_owned());
        }
        if self.breaker_failures == 0 {
            return Err("limits.breaker-failures is 0, so nobody would ever be asked: use 1 or more".to_owned());
        }
        Ok(())
    }
}
