//! How many: connections in all, connections that have not logged in, connections and channels of one person.
//!
//! A place is a value: holding it counts, dropping it gives it back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config;

/// The counters of the whole server.
#[derive(Debug)]
pub struct Limits {
    connections: Arc<Semaphore>,
    unauthenticated: Arc<Semaphore>,
    people: Mutex<HashMap<String, Counts>>,
    connections_per_person: usize,
    channels_per_person: usize,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    channels: usize,
}

/// A connection's place; `logged_in` gives back what only strangers need.
#[derive(Debug)]
pub struct Place {
    _connection: OwnedSemaphorePermit,
    stranger: Option<OwnedSemaphorePermit>,
}

/// One connection of a person.
#[derive(Debug)]
pub struct PersonPlace {
    limits: Arc<Limits>,
    subject: String,
}

/// One channel of a person.
#[derive(Debug)]
pub struct ChannelPlace {
    limits: Arc<Limits>,
    subject: String,
}

impl Limits {
    pub fn new(settings: &config::Ssh) -> Limits {
        Limits {
            connections: Arc::new(Semaphore::new(settings.max_connections)),
            unauthenticated: Arc::new(Semaphore::new(settings.max_unauthenticated)),
            people: Mutex::default(),
            connections_per_person: settings.max_connections_per_person,
            channels_per_person: settings.max_channels_per_person,
        }
    }

    /// A place for a new connection, or the stable word for why there is none.
    pub fn admit(&self) -> Result<Place, &'static str> {
        let connection = Arc::clone(&self.connections).try_acquire_owned().map_err(|_| "too_many_connections")?;
        let stranger = Arc::clone(&self.unauthenticated).try_acquire_owned().map_err(|_| "too_many_unauthenticated")?;
        Ok(Place { _connection: connection, stranger: Some(stranger) })
    }

    /// A place for one more connection of this person; none if there are too many.
    pub fn person(self: &Arc<Self>, subject: &str) -> Option<PersonPlace> {
        let taken = self.change(subject, |counts| {
            let free = counts.connections < self.connections_per_person;
            counts.connections += usize::from(free);
            free
        });
        taken.then(|| PersonPlace { limits: Arc::clone(self), subject: subject.to_owned() })
    }

    /// A place for one more channel of this person; none if there are too many.
    pub fn channel(self: &Arc<Self>, subject: &str) -> Option<ChannelPlace> {
        let taken = self.change(subject, |counts| {
            let free = counts.channels < self.channels_per_person;
            counts.channels += usize::from(free);
            free
        });
        taken.then(|| ChannelPlace { limits: Arc::clone(self), subject: subject.to_owned() })
    }

    fn change<T>(&self, subject: &str, act: impl FnOnce(&mut Counts) -> T) -> T {
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = people.entry(subject.to_owned()).or_default();
        let result = act(counts);
        if counts.connections == 0 && counts.channels == 0 {
            people.remove(subject);
        }
        result
    }
}

impl Place {
    pub fn logged_in(&mut self) {
        self.stranger = None;
    }
}

impl Drop for PersonPlace {
    fn drop(&mut self) {
        self.limits.change(&self.subject, |counts| counts.connections -= 1);
    }
}

impl Drop for ChannelPlace {
    fn drop(&mut self) {
        self.limits.change(&self.subject, |counts| counts.channels -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_when_it_is_dropped() {
        let settings = config::Ssh {
            max_connections: 2,
            max_unauthenticated: 1,
            max_connections_per_person: 1,
            ..Default::default()
        };
        let limits = Arc::new(Limits::new(&settings));
        let mut first = limits.admit().expect("the first");
        assert_eq!(limits.admit().err(), Some("too_many_unauthenticated"));
        first.logged_in();
        let second = limits.admit().expect("a stranger's place is free again");
        assert_eq!(limits.admit().err(), Some("too_many_connections"));
        drop((first, second));
        assert!(limits.admit().is_ok());

        let alice = limits.person("alice").expect("alice once");
        assert!(limits.person("alice").is_none() && limits.person("bob").is_some());
        drop(alice);
        assert!(limits.person("alice").is_some());
        assert!(limits.people.lock().expect("not poisoned").is_empty(), "nobody who has left is remembered");
    }
}
