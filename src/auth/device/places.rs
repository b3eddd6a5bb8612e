//! How many device logins may wait for their people, in all and for each address, and how many an address may leave.
//!
//! Where all places are taken, a login from an address with few takes that of one with many (`crowd`). A code whose client
//! leaves lives on at the provider, which asks Porthole for patience, and so everybody, where there are many: so what was
//! begun and left counts for its address too, for as long as its person might have taken.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::DeviceRefusal;
use crate::crowd::{self, Crowd, Full, network};

/// The most logins that are remembered as left; the earliest is forgotten for a new one.
const LEFT_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Places {
    waiting: Arc<Crowd>,
    /// Those that were left, with when they cease to count.
    left: Mutex<VecDeque<(Instant, IpAddr)>>,
    max: usize,
    max_per_address: usize,
    /// How long one that was left counts, from its beginning.
    memory: Duration,
}

/// One login that waits.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    network: IpAddr,
    /// When its code counts no more, while there is one that nobody has decided on.
    code_until: Option<Instant>,
    _waiting: crowd::Place,
}

impl Places {
    pub(super) fn new(max: usize, max_per_address: usize, memory: Duration) -> Places {
        Places { waiting: Crowd::new(max), left: Mutex::default(), max, max_per_address, memory }
    }

    /// A place for a login from `address`, whose connection ends when `displaced` is cancelled: one of an address with
    /// fewer has it then.
    pub(super) fn take(
        self: &Arc<Self>,
        address: IpAddr,
        displaced: CancellationToken,
        now: Instant,
    ) -> Result<Place, DeviceRefusal> {
        let network = network(address);
        let mut left = self.left();
        left.retain(|(until, _)| now < *until);
        if left.iter().filter(|(_, left)| *left == network).count() >= self.max_per_address {
            return Err(DeviceRefusal::TooManyLeft { max: self.max_per_address });
        }
        drop(left);
        let waiting =
            self.waiting.enter_fairly(address, self.max_per_address, displaced).map_err(|full| match full {
                Full::Here => DeviceRefusal::TooManyHere { max: self.max_per_address },
                Full::Everywhere => DeviceRefusal::TooMany { max: self.max },
            })?;
        Ok(Place { places: Arc::clone(self), network, code_until: None, _waiting: waiting })
    }

    fn left(&self) -> MutexGuard<'_, VecDeque<(Instant, IpAddr)>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
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
        let Some(until) = self.code_until else { return };
        let mut left = self.places.left();
        if left.len() >= LEFT_MAX {
            left.pop_front();
        }
        left.push_back((until, self.network));
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
    fn what_was_begun_and_left_counts_for_its_address_until_its_time_is_over() {
        let places = Arc::new(Places::new(10, 2, MEMORY));
        let start = Instant::now();
        let (half, end) = (start + MEMORY / 2, start + MEMORY);
        let begin = |text: &str, now| {
            let mut place = places.take(address(text), CancellationToken::new(), now)?;
            place.has_code(now);
            Ok(place)
        };
        for _ in 0..3 {
            begin("192.0.2.1", start).expect("a place").decided();
            let place = places.take(address("192.0.2.1"), CancellationToken::new(), start);
            place.expect("a place, and no code to leave");
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
        assert_eq!(places.left().len(), LEFT_MAX, "it is bounded");
    }
}
