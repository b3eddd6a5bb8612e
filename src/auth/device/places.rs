//! How many device logins may wait for their people, in all and for each address, and how many an address may leave.
//!
//! A place is a value: holding it counts, dropping it gives it back. A code whose client leaves lives on at the provider,
//! which asks Porthole for patience, and so everybody, where there are many: so what was begun and left counts for its
//! address too, for as long as its person might have taken. IPv6 addresses count by their /64, which one machine has to
//! itself.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::DeviceRefusal;

/// The most logins that are remembered as left; the earliest is forgotten for a new one.
const LEFT_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Places {
    counts: Mutex<Counts>,
    max: usize,
    max_per_address: usize,
    /// How long one that was left counts, from its beginning.
    memory: Duration,
}

#[derive(Debug, Default)]
struct Counts {
    waiting: HashMap<IpAddr, usize>,
    /// Those that were left, with when they cease to count; the earliest first, but for how long each waited.
    left: VecDeque<(Instant, IpAddr)>,
}

/// One login that waits.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
    /// When its code counts no more, while there is one that nobody has decided on.
    code_until: Option<Instant>,
}

impl Places {
    pub(super) fn new(max: usize, max_per_address: usize, memory: Duration) -> Places {
        Places { counts: Mutex::default(), max, max_per_address, memory }
    }

    pub(super) fn take(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Place, DeviceRefusal> {
        let address = counted(address);
        let mut counts = self.counts();
        if counts.waiting.values().sum::<usize>() >= self.max {
            return Err(DeviceRefusal::TooMany { max: self.max });
        }
        if counts.waiting.get(&address).is_some_and(|here| *here >= self.max_per_address) {
            return Err(DeviceRefusal::TooManyHere { max: self.max_per_address });
        }
        counts.left.retain(|(until, _)| now < *until);
        if counts.left.iter().filter(|(_, left)| *left == address).count() >= self.max_per_address {
            return Err(DeviceRefusal::TooManyLeft { max: self.max_per_address });
        }
        *counts.waiting.entry(address).or_default() += 1;
        Ok(Place { places: Arc::clone(self), address, code_until: None })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The provider has given a code for it.
    pub(super) fn has_code(&mut self, now: Instant) {
        self.code_until = Some(now + self.places.memory);
    }

    /// The code is used, denied or dead: the provider has no more of it.
    pub(super) fn decided(&mut self) {
        self.code_until = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.counts();
        if let Some(here) = counts.waiting.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                counts.waiting.remove(&self.address);
            }
        }
        if let Some(until) = self.code_until {
            if counts.left.len() >= LEFT_MAX {
                counts.left.pop_front();
            }
            counts.left.push_back((until, self.address));
        }
    }
}

fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Duration = Duration::from_secs(300);

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let places = Arc::new(Places::new(3, 2, MEMORY));
        let now = Instant::now();
        let take = |text| places.take(address(text), now);
        let first = take("2001:db8::1").expect("a place");
        let _second = take("2001:db8::2").expect("another");
        let third = take("2001:db8::3");
        assert_eq!(third.err(), Some(DeviceRefusal::TooManyHere { max: 2 }), "one machine has a whole /64");
        let _other = take("192.0.2.1").expect("another address");
        let beyond = take("::ffff:192.0.2.1");
        assert_eq!(beyond.err(), Some(DeviceRefusal::TooMany { max: 3 }));
        drop(first);
        take("2001:db8::3").expect("a place came free");
    }

    #[test]
    fn what_was_begun_and_left_counts_for_its_address_until_its_time_is_over() {
        let places = Arc::new(Places::new(10, 2, MEMORY));
        let start = Instant::now();
        let (half, end) = (start + MEMORY / 2, start + MEMORY);
        let begin = |text: &str, now| {
            let mut place = places.take(address(text), now)?;
            place.has_code(now);
            Ok(place)
        };
        for _ in 0..3 {
            begin("192.0.2.1", start).expect("a place").decided();
            places.take(address("192.0.2.1"), start).expect("a place, and no code to leave");
        }
        drop(begin("192.0.2.1", start));
        drop(begin("192.0.2.1", half));
        let full = Some(DeviceRefusal::TooManyLeft { max: 2 });
        assert_eq!(begin("192.0.2.1", half).err(), full);
        begin("192.0.2.2", half).expect("others have left nothing").decided();
        drop(begin("192.0.2.1", end).expect("the first counts no more"));
        assert_eq!(begin("192.0.2.1", end).err(), full);
        for [high, low] in (0..LEFT_MAX as u16 + 10).map(u16::to_be_bytes) {
            drop(begin(&format!("10.0.{high}.{low}"), end));
        }
        assert_eq!(places.counts().left.len(), LEFT_MAX, "it is bounded");
    }
}
