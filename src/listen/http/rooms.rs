//! How many connections may be without their answer: gateways', and everybody else's.
//!
//! Guards: strangers keep no gateway out. A gateway is known by its network, or by the certificate that it shows; until it
//! has shown that it is one stranger among others, of whom the newest always has a place (`crowd`).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::crowd::{self, Crowd};

pub(super) struct Rooms {
    trusted: Vec<IpNet>,
    gateways: Arc<Semaphore>,
    strangers: Arc<Crowd>,
}

/// What holds a connection's place.
pub(super) enum Seat {
    Gateway { _permit: OwnedSemaphorePermit },
    Stranger { _place: crowd::Place },
}

impl Rooms {
    /// So many gateways', and as many of others.
    pub(super) fn new(trusted: Vec<IpNet>, max: usize) -> Rooms {
        Rooms { trusted, gateways: Arc::new(Semaphore::new(max)), strangers: Crowd::new(max) }
    }

    /// A seat for a connection from `peer`, which is to end when `displaced` is cancelled; none where gateways have too
    /// many.
    pub(super) fn seat(&self, peer: IpAddr, displaced: CancellationToken) -> Option<Seat> {
        if self.trusted.iter().any(|network| network.contains(&peer)) {
            return self.gateway();
        }
        Some(Seat::Stranger { _place: self.strangers.enter(peer, displaced) })
    }

    /// A gateway's seat for a stranger who has shown to be one, else what there is; none where gateways have too many.
    pub(super) fn keep(&self, seat: Seat, certified: bool) -> Option<Seat> {
        match seat {
            Seat::Stranger { _place: place } if certified => {
                drop(place);
                self.gateway()
            }
            seat => Some(seat),
        }
    }

    fn gateway(&self) -> Option<Seat> {
        let permit = Arc::clone(&self.gateways).try_acquire_owned().ok()?;
        Some(Seat::Gateway { _permit: permit })
    }
}
