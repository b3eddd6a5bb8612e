//! A crowd of strangers, of which there is room for so many: those who came first, and are silent, keep nobody out.
//!
//! Where there is no room left, the newest takes the place of the oldest of the network that has most. A place is a value:
//! holding it counts, and dropping it gives it back. Whoever holds one ends when its token is cancelled.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Everybody who is counted.
#[derive(Debug)]
pub struct Crowd {
    /// The oldest first; never more than `max`.
    members: Mutex<Vec<Member>>,
    max: usize,
}

#[derive(Debug)]
struct Member {
    network: IpAddr,
    displaced: CancellationToken,
}

/// A place in the crowd.
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    displaced: CancellationToken,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The network has as many as one may have.
    Here,
    /// No network has so many more that one of its own should go.
    Everywhere,
}

impl Crowd {
    /// `max` is 1 or more.
    pub fn new(max: usize) -> Arc<Crowd> {
        Arc::new(Crowd { members: Mutex::default(), max })
    }

    /// A place, whoever has to go for it. `displaced` is cancelled when this one has to; no other place has it.
    pub fn enter(self: &Arc<Self>, peer: IpAddr, displaced: CancellationToken) -> Place {
        let mut members = self.members();
        if members.len() >= self.max && !members.is_empty() {
            let (oldest, _) = oldest_of_most(&members);
            members.remove(oldest).displaced.cancel();
        }
        self.join(&mut members, peer, displaced)
    }

    /// As `enter`, where whoever has to go loses something: at most so many for a network, and nobody goes for one that
    /// would then have more than theirs.
    pub fn enter_fairly(
        self: &Arc<Self>,
        peer: IpAddr,
        max_per_network: usize,
        displaced: CancellationToken,
    ) -> Result<Place, Full> {
        let mut members = self.members();
        let here = members.iter().filter(|member| member.network == network(peer)).count();
        if here >= max_per_network {
            return Err(Full::Here);
        }
        if members.len() >= self.max {
            let (oldest, most) = oldest_of_most(&members);
            // Then they have one less, and this network one more.
            if most < here + 2 {
                return Err(Full::Everywhere);
            }
            members.remove(oldest).displaced.cancel();
        }
        Ok(self.join(&mut members, peer, displaced))
    }

    fn join(self: &Arc<Self>, members: &mut Vec<Member>, peer: IpAddr, displaced: CancellationToken) -> Place {
        members.push(Member { network: network(peer), displaced: displaced.clone() });
        Place { crowd: Arc::clone(self), displaced }
    }

    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A token is equal to no other by its address; clones of one share it.
        self.crowd.members().retain(|member| member.displaced != self.displaced);
    }
}

/// Where the oldest stands of the network that has most, and how many it has; of networks with as many, the one that came
/// first.
fn oldest_of_most(members: &[Member]) -> (usize, usize) {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for member in members {
        *counts.entry(member.network).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or_default();
    let oldest = members.iter().position(|member| counts.get(&member.network) == Some(&most));
    (oldest.unwrap_or_default(), most)
}

/// Whom an address stands for: of IPv6 one customer has a whole /64.
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn displaced(place: &Place) -> bool {
        place.displaced.is_cancelled()
    }

    #[test]
    fn a_newcomer_displaces_the_oldest_of_the_network_that_has_most() {
        let crowd = Crowd::new(3);
        let enter = |peer| crowd.enter(address(peer), CancellationToken::new());
        let quiet = enter("192.0.2.1");
        let many = [enter("2001:db8::1"), enter("2001:db8::ffff")];
        let newcomer = enter("198.51.100.7");
        assert!(displaced(&many[0]) && !displaced(&many[1]) && !displaced(&quiet) && !displaced(&newcomer));
        let another = enter("203.0.113.9");
        assert!(displaced(&quiet) && !displaced(&another), "with one each, the oldest goes");
        drop((quiet, many, newcomer, another));
        assert!(crowd.members().is_empty(), "nobody who has left is counted");
    }

    #[test]
    fn fairly_nobody_goes_for_a_network_that_would_then_have_more() {
        let crowd = Crowd::new(4);
        let enter = |peer| crowd.enter_fairly(address(peer), 3, CancellationToken::new());
        let many = ["192.0.2.1"; 3].map(|peer| enter(peer).expect("a place"));
        assert_eq!(enter("::ffff:192.0.2.1").err(), Some(Full::Here));
        let other = enter("2001:db8::1").expect("a place");
        let second = enter("2001:db8::2").expect("two and two are fair");
        assert!(displaced(&many[0]) && !displaced(&many[1]));
        assert_eq!(enter("2001:db8::3").err(), Some(Full::Everywhere), "one and three are not");
        let newcomers = ["198.51.100.7", "203.0.113.9"].map(|peer| enter(peer).expect("a place"));
        assert!(displaced(&many[1]) && displaced(&other), "each of those who had two has one");
        assert_eq!(enter("192.0.2.77").err(), Some(Full::Everywhere), "nobody has so many that one of them should go");
        assert!(!displaced(&many[2]) && !displaced(&second) && !newcomers.iter().any(displaced));
        drop(many);
        enter("192.0.2.77").expect("a place came free");
    }
}
