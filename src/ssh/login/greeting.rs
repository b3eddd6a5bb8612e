//! The line for clients that cannot show a login's prompt: a script with `BatchMode`, an IDE's background connection.
//!
//! SSH has one text that reaches every client before a login fails: the banner, and russh sends it before the client has
//! said who it is. At every login it would be noise, so it goes only to addresses from which nobody has logged in
//! lately. An address from which somebody then came who could not go on is greeted again the next time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Addresses that are remembered; beyond it all are forgotten, and greeted once more.
const ADDRESSES_MAX: usize = 10_000;

/// Who needs to be told how to log in.
#[derive(Debug)]
pub struct Greetings {
    /// None where there is no login to tell of.
    lasting: Option<Duration>,
    known: Mutex<HashMap<IpAddr, Instant>>,
}

impl Greetings {
    /// `lasting` is how long a login from an address counts; none where there is no device login.
    pub fn new(lasting: Option<Duration>) -> Greetings {
        Greetings { lasting, known: Mutex::default() }
    }

    /// The line for a client at this address, if it needs one.
    pub fn line(&self, address: IpAddr) -> Option<String> {
        let lasting = self.lasting?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = known.get(&address).is_some_and(|at| at.elapsed() < lasting);
        (!lately).then(|| {
            "porthole: log in once with plain ssh in a terminal, then scp, rsync and your editor get in without asking\r\n"
                .to_owned()
        })
    }

    /// Somebody has logged in from there.
    pub fn known(&self, address: IpAddr) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ADDRESSES_MAX && !known.contains_key(&address) {
            known.clear();
        }
        known.insert(address, Instant::now());
    }

    /// Somebody from there could not go on.
    pub fn stranded(&self, address: IpAddr) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }
}
