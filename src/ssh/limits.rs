//! How many: connections in all, connections that have not logged in, connections and channels of one person.
//!
//! A place is a value: holding it counts, dropping it gives it back. A person who has no place left is refused; a stranger
//! is not, since strangers could then keep everybody out by being silent (`crowd`). Those who wait for their person in a
//! device login are a crowd of their own, so that silent ones displace none of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::crowd::{self, Crowd};

/// The counters of the whole server.
#[derive(Debug)]
pub struct Limits {
    connections: Arc<Semaphore>,
    /// Connections that have not logged in.
    strangers: Arc<Crowd>,
    people: Mutex<HashMap<String, Counts>>,
    connections_per_person: usize,
    channels_per_person: usize,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    channels: usize,
}

/// A connection's place, and its place among strangers while it is one.
#[derive(Debug)]
pub struct Place {
    _connection: OwnedSemaphorePermit,
    strangers: Arc<Crowd>,
    peer: IpAddr,
    displaced: CancellationToken,
    stranger: Option<crowd::Place>,
    logged_in: bool,
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
            strangers: Crowd::new(settings.max_unauthenticated),
            people: Mutex::default(),
            connections_per_person: settings.max_connections_per_person,
            channels_per_person: settings.max_channels_per_person,
        }
    }

    /// A place for a new connection, or the stable word for why there is none.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Place, &'static str> {
        let connection = Arc::clone(&self.connections).try_acquire_owned().map_err(|_| "too_many_connections")?;
        let displaced = CancellationToken::new();
        let stranger = Some(self.strangers.enter(peer, displaced.clone()));
        let strangers = Arc::clone(&self.strangers);
        Ok(Place { _connection: connection, strangers, peer, displaced, stranger, logged_in: false })
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
    /// Somebody has logged in here: nobody takes this place any more.
    pub fn logged_in(&mut self) {
        self.logged_in = true;
        self.stranger = None;
    }

    /// It waits for its person, and counts among those who do.
    pub fn waits(&mut self) {
        self.stranger = None;
    }

    /// It is a stranger's again, if nobody has logged in meanwhile.
    pub fn waits_no_more(&mut self) {
        if !self.logged_in && self.stranger.is_none() {
            self.stranger = Some(self.strangers.enter(self.peer, self.displaced.clone()));
        }
    }

    /// Cancelled when another has this place.
    pub fn displaced(&self) -> CancellationToken {
        self.displaced.clone()
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
        let peer = IpAddr::from([127, 0, 0, 1]);
        let mut first = limits.admit(peer).expect("the first");
        first.logged_in();
        let second = limits.admit(peer).expect("the second");
        assert_eq!(limits.admit(peer).err(), Some("too_many_connections"));
        assert!(!first.displaced().is_cancelled() && !second.displaced().is_cancelled());
        drop((first, second));
        assert!(limits.admit(peer).is_ok());

        let alice = limits.person("alice").expect("alice once");
        assert!(limits.person("alice").is_none() && limits.person("bob").is_some());
        drop(alice);
        assert!(limits.person("alice").is_some());
        assert!(limits.people.lock().expect("not poisoned").is_empty(), "nobody who has left is remembered");
    }

    #[test]
    fn whoever_waits_for_their_person_is_displaced_by_no_stranger() {
        let limits = Arc::new(Limits::new(&config::Ssh { max_unauthenticated: 1, ..Default::default() }));
        let peer = IpAddr::from([127, 0, 0, 1]);
        let displaced = |place: &Place| place.displaced().is_cancelled();
        let mut waiting = limits.admit(peer).expect("a place");
        waiting.waits();
        let silent = limits.admit(peer).expect("another");
        assert!(!displaced(&waiting) && !displaced(&silent));
        waiting.waits_no_more();
        assert!(displaced(&silent) && !displaced(&waiting), "it is the newest stranger");
        let _newcomer = limits.admit(peer).expect("a third");
        assert!(displaced(&waiting));
    }
}
