//! Asked once: a key that was proved beside a device login stands for its person, for a while.
//!
//! A binding holds no secret: it says that whoever proves this key is this person, until then. So whoever may write
//! bindings may say who is who, and a store has to guard that. What is known is kept here and asked without waiting; the
//! store keeps it over a restart and tells every replica.
//!
//! A binding is one login: its key and its end name it. Certificates that Porthole issues on it name it so, and are held
//! against it wherever it can be taken back.
//!
//! Invariant: an `Identity` comes from here only for a key that its caller says was proved, while its binding lasts.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::auth::{Basis, Identity, Method, Origin, Rights};

mod memory;

pub use memory::Memory;

/// The most bindings that are known at a time; the one that ends first makes room. A thousand people with ten keys each.
const BINDINGS_MAX: usize = 10_000;

/// The most keys that stand for one person: more are somebody's who takes the others' room.
const KEYS_MAX: usize = 64;

/// A key that stands for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    pub subject: String,
    pub name: Option<String>,
    pub email: Option<String>,
    pub groups: Vec<String>,
    pub issuer: Option<String>,
    /// Where the login came from that made it.
    pub address: IpAddr,
    pub until: Timestamp,
}

/// Keeps bindings beyond this process. Each tells what it learns of the others' by `Known`.
pub trait BindingStore: Send + Sync {
    fn keep<'a>(&'a self, binding: &'a Binding) -> BoxFuture<'a, Result<(), BindingStoreError>>;

    /// Whether every replica knows what is kept here, and knows it after a restart too. Elsewhere a binding that is not
    /// known need not have been taken back.
    fn is_lasting(&self) -> bool;
}

/// A binding that could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BindingStoreError(pub String);

/// What is known of bindings, as its store tells it.
#[derive(Debug)]
pub struct Known {
    bindings: RwLock<HashMap<String, Arc<Binding>>>,
    changes: watch::Sender<u64>,
}

/// Every binding, and the store behind them. One for the whole server, shared.
pub struct Bindings {
    known: Arc<Known>,
    store: Box<dyn BindingStore>,
    lifetime: Duration,
    /// Whose people log in so; bindings of another's, that was configured once, let nobody in.
    issuer: Option<String>,
    /// Whether the end of a binding is that of its sessions.
    ends_sessions: bool,
}

impl Bindings {
    pub fn new(
        known: Arc<Known>,
        store: Box<dyn BindingStore>,
        lifetime: Duration,
        issuer: Option<String>,
        ends_sessions: bool,
    ) -> Bindings {
        Bindings { known, store, lifetime, issuer, ends_sessions }
    }

    /// The person for whom a key stands that has just been proved.
    pub fn find(&self, fingerprint: &str, now: Timestamp) -> Option<Identity> {
        let counts = |binding: &Arc<Binding>| now < binding.until && binding.issuer == self.issuer;
        let binding = self.known.find(fingerprint).filter(counts)?;
        Some(Identity {
            subject: binding.subject.clone(),
            name: binding.name.clone(),
            email: binding.email.clone(),
            groups: binding.groups.clone(),
            issuer: binding.issuer.clone(),
            id_token: None,
            method: Method::BoundKey,
            credential: format!("key {fingerprint}, bound from {} until {}", binding.address, binding.until),
            valid_until: Some(binding.until),
            session_until: Some(binding.until).filter(|_| self.ends_sessions),
            rights: Rights::ALL,
            force_command: None,
            origin: self.origin(&binding),
            basis: Basis::Binding(binding),
        })
    }

    /// Lets a proved key stand for a person from now on. What comes back is the same person, who rests on the binding.
    /// Where it stood for them already, since two of their connections waited at once, both are one login with one end.
    pub async fn bind(
        &self,
        fingerprint: &str,
        identity: Identity,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<Identity, (Identity, BindingStoreError)> {
        let same = |known: &Arc<Binding>| known.subject == identity.subject && now < known.until;
        let until = match self.known.find(fingerprint).filter(same) {
            Some(known) => known.until,
            None => now.checked_add(self.lifetime).unwrap_or(Timestamp::MAX),
        };
        if self.known.of(&identity.subject, fingerprint, now) >= KEYS_MAX {
            let problem = format!("{KEYS_MAX} keys stand for {} already", identity.subject);
            return Err((identity, BindingStoreError(problem)));
        }
        let binding = Arc::new(Binding {
            fingerprint: fingerprint.to_owned(),
            subject: identity.subject.clone(),
            name: identity.name.clone(),
            email: identity.email.clone(),
            groups: identity.groups.clone(),
            issuer: identity.issuer.clone(),
            address,
            until,
        });
        // Known before it is kept: whoever takes it back in between is heard after this, and has the last word.
        let before = self.known.find(fingerprint);
        self.known.is(Arc::clone(&binding));
        if let Err(error) = self.store.keep(&binding).await {
            self.known.is_gone(&binding);
            before.into_iter().for_each(|before| self.known.is(before));
            return Err((identity, error));
        }
        let credential = format!("{}, binds key {fingerprint} until {until}", identity.credential);
        Ok(Identity {
            credential,
            valid_until: Some(until),
            session_until: Some(until).filter(|_| self.ends_sessions),
            origin: self.origin(&binding),
            basis: Basis::Binding(binding),
            ..identity
        })
    }

    /// Whether the binding that an identity rests on, or that its certificate was issued on, was not taken back. One that
    /// ended by time was not, though it is removed as well: it lets nobody in any more, and ends no session.
    pub fn still_holds(&self, identity: &Identity, now: Timestamp) -> bool {
        match (&identity.basis, &identity.origin) {
            (Basis::Binding(binding), _) => {
                let same = |known: Arc<Binding>| known.subject == binding.subject;
                now >= binding.until || self.known.find(&binding.fingerprint).is_some_and(same)
            }
            (Basis::Certificate(_), Origin { login_key: Some(key), login_until: Some(until), .. }) => {
                // A later login with the same key is another one: its certificates count, and not those before it.
                let same = |known: Arc<Binding>| {
                    known.subject == identity.subject && known.until.as_second() == until.as_second()
                };
                now >= *until || self.known.find(key).is_some_and(same)
            }
            // One that names a login without its end names none.
            (Basis::Certificate(_), Origin { login_key, .. }) => login_key.is_none(),
            (Basis::PkToken(_) | Basis::Token, _) => true,
        }
    }

    fn origin(&self, binding: &Binding) -> Origin {
        Origin {
            login_key: Some(binding.fingerprint.clone()).filter(|_| self.store.is_lasting()),
            session_until: Some(binding.until).filter(|_| self.ends_sessions),
            ..Origin::default()
        }
    }

    /// How long a new binding lasts.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// A counter that moves each time that a binding ends before its time.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.known.changes.subscribe()
    }
}

impl Default for Known {
    fn default() -> Known {
        Known { bindings: RwLock::default(), changes: watch::Sender::new(0) }
    }
}

impl Known {
    /// There is this binding. Where there are too many, the one that ends first is forgotten.
    pub fn is(&self, binding: Arc<Binding>) {
        let mut bindings = self.bindings.write().unwrap_or_else(PoisonError::into_inner);
        if bindings.len() >= BINDINGS_MAX && !bindings.contains_key(&binding.fingerprint) {
            let now = Timestamp::now();
            bindings.retain(|_, known| now < known.until);
            let first = bindings.values().min_by_key(|known| known.until).map(|known| known.fingerprint.clone());
            if let Some(first) = first.filter(|_| bindings.len() >= BINDINGS_MAX) {
                bindings.remove(&first);
            }
        }
        bindings.insert(binding.fingerprint.clone(), binding);
        drop(bindings);
        // One that takes another's place ends that one.
        self.changed();
    }

    /// This one is there no more. A later one of the same key is another, and stays.
    pub fn is_gone(&self, binding: &Binding) {
        let mut bindings = self.bindings.write().unwrap_or_else(PoisonError::into_inner);
        let same = bindings.get(&binding.fingerprint).is_some_and(|known| known.until == binding.until);
        let gone = same.then(|| bindings.remove(&binding.fingerprint)).flatten();
        drop(bindings);
        if gone.is_some() {
            self.changed();
        }
    }

    /// These are all that there are.
    pub fn are(&self, all: Vec<Binding>) {
        let mut all = all;
        all.sort_by_key(|binding| std::cmp::Reverse(binding.until));
        all.truncate(BINDINGS_MAX);
        let all = all.into_iter().map(|binding| (binding.fingerprint.clone(), Arc::new(binding))).collect();
        *self.bindings.write().unwrap_or_else(PoisonError::into_inner) = all;
        self.changed();
    }

    fn find(&self, fingerprint: &str) -> Option<Arc<Binding>> {
        self.bindings.read().unwrap_or_else(PoisonError::into_inner).get(fingerprint).cloned()
    }

    /// How many keys but this one stand for a person.
    fn of(&self, subject: &str, but: &str, now: Timestamp) -> usize {
        let bindings = self.bindings.read().unwrap_or_else(PoisonError::into_inner);
        let theirs = |known: &&Arc<Binding>| known.subject == subject && known.fingerprint != but && now < known.until;
        bindings.values().filter(theirs).count()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

    #[tokio::test]
    async fn a_binding_that_is_taken_back_ends_sessions_and_one_that_ended_does_not() {
        let known = Arc::<Known>::default();
        let bindings = Bindings::new(Arc::clone(&known), Box::new(Memory), Duration::from_secs(3600), None, false);
        let (now, address) = (Timestamp::now(), IpAddr::from([192, 0, 2, 1]));
        let later = now.checked_add(Duration::from_secs(3600)).expect("a date");
        let person = Identity::for_tests("mia", &["developers"]);
        let bound = bindings.bind(KEY, person, address, now).await.expect("memory keeps it");
        assert_eq!(bindings.find(KEY, now).expect("bound").subject(), "mia");
        assert!(bindings.find(KEY, later).is_none(), "its hour is over");
        let elsewhere = Some("https://login.example.com".to_owned());
        let others = Bindings::new(Arc::clone(&known), Box::new(Memory), Duration::from_secs(3600), elsewhere, false);
        assert!(others.find(KEY, now).is_none(), "its issuer is another than the one of today");
        assert!(bindings.still_holds(&bound, now));
        let binding = known.find(KEY).expect("bound");
        known.is_gone(&Binding { until: now, ..Binding::clone(&binding) });
        assert!(bindings.still_holds(&bound, now), "an earlier one of the same key has gone");
        known.is_gone(&binding);
        assert!(bindings.find(KEY, now).is_none() && !bindings.still_holds(&bound, now));
        assert!(bindings.still_holds(&bound, later), "it would have ended by then anyway");
    }

    /// A store that hears of a revocation while it writes.
    struct TakenBack(Arc<Known>);

    impl BindingStore for TakenBack {
        fn keep<'a>(&'a self, binding: &'a Binding) -> BoxFuture<'a, Result<(), BindingStoreError>> {
            self.0.is_gone(binding);
            Box::pin(async { Ok(()) })
        }

        fn is_lasting(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn what_is_taken_back_while_it_is_kept_does_not_come_back() {
        let known = Arc::<Known>::default();
        let store = Box::new(TakenBack(Arc::clone(&known)));
        let bindings = Bindings::new(known, store, Duration::from_secs(3600), None, false);
        let (now, address) = (Timestamp::now(), IpAddr::from([192, 0, 2, 1]));
        let bound = bindings.bind(KEY, Identity::for_tests("mia", &[]), address, now).await.expect("it is kept");
        assert!(bindings.find(KEY, now).is_none() && !bindings.still_holds(&bound, now));
    }

    #[tokio::test]
    async fn two_connections_that_waited_at_once_are_one_login_and_another_person_is_another() {
        let bindings = Bindings::new(Arc::default(), Box::new(Memory), Duration::from_secs(3600), None, false);
        let (now, address) = (Timestamp::now(), IpAddr::from([192, 0, 2, 1]));
        let soon = now.checked_add(Duration::from_secs(60)).expect("a date");
        let bind = async |subject, now| {
            let bound = bindings.bind(KEY, Identity::for_tests(subject, &[]), address, now).await;
            bound.expect("memory keeps it").valid_until()
        };
        let first = bind("mia", now).await;
        assert_eq!(bind("mia", soon).await, first);
        assert_ne!(bind("noa", soon).await, first);
    }

    #[tokio::test]
    async fn nobody_takes_the_room_of_others_keys() {
        let bindings = Bindings::new(Arc::default(), Box::new(Memory), Duration::from_secs(3600), None, false);
        let (now, address) = (Timestamp::now(), IpAddr::from([192, 0, 2, 1]));
        let bind = async |key: &str, subject| {
            bindings.bind(key, Identity::for_tests(subject, &[]), address, now).await.is_ok()
        };
        for number in 0..KEYS_MAX {
            assert!(bind(&number.to_string(), "mia").await);
        }
        assert!(!bind("another", "mia").await && bind("0", "mia").await && bind("another", "noa").await);
    }
}
