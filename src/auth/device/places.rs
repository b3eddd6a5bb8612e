//! How many device logins may wait for their people: in all, and for each address.
//!
//! A place is a value: holding it counts, dropping it gives it back. IPv6 addresses count by their /64, which one
//! machine has to itself.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use super::DeviceRefusal;

#[derive(Debug)]
pub(super) struct Places {
    taken: Mutex<HashMap<IpAddr, usize>>,
    max: usize,
    max_per_address: usize,
}

/// One login that waits.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    pub(super) fn new(max: usize, max_per_address: usize) -> Places {
        Places { taken: Mutex::default(), max, max_per_address }
    }

    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, DeviceRefusal> {
        let address = counted(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= self.max {
            return Err(DeviceRefusal::TooMany { max: self.max });
        }
        if taken.get(&address).is_some_and(|here| *here >= self.max_per_address) {
            return Err(DeviceRefusal::TooManyHere { max: self.max_per_address });
        }
        *taken.entry(address).or_default() += 1;
        Ok(Place { places: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = taken.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                taken.remove(&self.address);
            }
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

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let places = Arc::new(Places::new(3, 2));
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let first = places.take(address("2001:db8::1")).expect("a place");
        let _second = places.take(address("2001:db8::2")).expect("another");
        let third = places.take(address("2001:db8::3"));
        assert_eq!(third.err(), Some(DeviceRefusal::TooManyHere { max: 2 }), "one machine has a whole /64");
        let _other = places.take(address("192.0.2.1")).expect("another address");
        let beyond = places.take(address("::ffff:192.0.2.1"));
        assert_eq!(beyond.err(), Some(DeviceRefusal::TooMany { max: 3 }));
        drop(first);
        places.take(address("2001:db8::3")).expect("a place came free");
    }
}
