//! How many: connections in all, connections that have not logged in, connections and channels of one person.
//!
//! A place is a value: holding it counts, dropping it gives it back. A person who has no place left is refused; a stranger
//! is not, since strangers could then keep everybody out by being silent: the newest takes the place of the oldest of the
//! network that has most of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config;

/// The counters of the whole server.
#[derive(Debug)]
pub struct Limits {
    connections: Arc<Semaphore>,
    /// Connections that have not logged in, the oldest first; never more than `max_strangers`.
    strangers: Mutex<Vec<Stranger>>,
    max_strangers: usize,
    people: Mutex<HashMap<String, Counts>>,
    connections_per_person: usize,
    channels_per_person: usize,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    channels: usize,
}

#[derive(Debug)]
struct Stranger {
    network: IpAddr,
    displaced: CancellationToken,
}

/// A connection's place; `logged_in` gives back what only strangers need.
#[derive(Debug)]
pub struct Place {
    _connection: OwnedSemaphorePermit,
    limits: Arc<Limits>,
    displaced: CancellationToken,
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
            strangers: Mutex::default(),
            max_strangers: settings.max_unauthenticated,
            people: Mutex::default(),
            connections_per_person: settings.max_connections_per_person,
            channels_per_person: settings.max_channels_per_person,
        }
    }

    /// A place for a new connection, or the stable word for why there is none.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Place, &'static str> {
        let connection = Arc::clone(&self.connections).try_acquire_owned().map_err(|_| "too_many_connections")?;
        let displaced = CancellationToken::new();
        let mut strangers = self.strangers();
        if strangers.len() >= self.max_strangers {
            let oldest = oldest_of_most(&strangers);
            strangers.remove(oldest).displaced.cancel();
        }
        strangers.push(Stranger { network: network(peer), displaced: displaced.clone() });
        drop(strangers);
        Ok(Place { _connection: connection, limits: Arc::clone(self), displaced })
    }

    fn strangers(&self) -> MutexGuard<'_, Vec<Stranger>> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Where the oldest stranger of the network stands that has most; of networks with as many, the one that came first.
fn oldest_of_most(strangers: &[Stranger]) -> usize {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for stranger in strangers {
        *counts.entry(stranger.network).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or_default();
    strangers.iter().position(|stranger| counts.get(&stranger.network) == Some(&most)).unwrap_or_default()
}

/// Whom an address stands for: of IPv6 one customer has a whole /64.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        address => address,
    }
}

impl Place {
    /// Somebody has logged in here: nobody takes this place any more.
    pub fn logged_in(&self) {
        // A token is equal to no other by its address; clones of one share it.
        self.limits.strangers().retain(|stranger| stranger.displaced != self.displaced);
    }

    /// Cancelled when another stranger has this place.
    pub fn displaced(&self) -> CancellationToken {
        self.displaced.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.logged_in();
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
        let first = limits.admit(peer).expect("the first");
        first.logged_in();
        let second = limits.admit(peer).expect("the second");
        assert_eq!(limits.admit(peer).err(), Some("too_many_connections"));
        assert!(!first.displaced().is_cancelled() && !second.displaced().is_cancelled());
        drop((first, second));
        assert!(limits.strangers().is_empty() && limits.admit(peer).is_ok());

        let alice = limits.person("alice").expect("alice once");
        assert!(limits.person("alice").is_none() && limits.person("bob").is_some());
        drop(alice);
        assert!(limits.person("alice").is_some());
        assert!(limits.people.lock().expect("not poisoned").is_empty(), "nobody who has left is remembered");
    }

    #[test]
    fn a_newcomer_displaces_the_oldest_of_the_network_that_has_most() {
        let settings = config::Ssh { max_unauthenticated: 3, ..Default::default() };
        let limits = Arc::new(Limits::new(&settings));
        let admit = |peer: &str| limits.admit(peer.parse().expect("an address")).expect("a place");
        let quiet = admit("192.0.2.1");
        let crowd = [admit("2001:db8::1"), admit("2001:db8::ffff")];
        let newcomer = admit("198.51.100.7");
        let displaced = |place: &Place| place.displaced().is_cancelled();
        assert!(displaced(&crowd[0]) && !displaced(&crowd[1]) && !displaced(&quiet) && !displaced(&newcomer));
        let another = admit("203.0.113.9");
        assert!(displaced(&quiet) && !displaced(&another), "with one each, the oldest goes");
        assert_eq!(limits.strangers().len(), 3);
    }
}
