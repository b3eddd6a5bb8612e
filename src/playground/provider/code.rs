//! Codes that wait for somebody to approve them.
//!
//! Invariants: there are never more than so many; one is good for a few minutes and for one token; what it takes to have the
//! token (the device code) is in no page, and what a person types (the user code) has no token.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Person;

pub const LIFETIME: Duration = Duration::from_secs(300);
/// Porthole lets at most 50 wait by default.
const CODES_MAX: usize = 100;
/// RFC 8628 section 6.1: consonants, so that no word comes of them, and none that are taken for another.
const LETTERS: [u8; 20] = *b"BCDFGHJKLMNPQRSTVWXZ";

/// Every code, by its device code.
#[derive(Default)]
pub struct Codes(HashMap<String, Code>);

struct Code {
    user_code: String,
    begun: Instant,
    decision: Option<Decision>,
}

/// What a person has said to it.
#[derive(Clone, Copy)]
pub enum Decision {
    Approved(&'static Person),
    Denied,
}

/// What has become of a code.
pub enum Fate {
    Pending,
    Approved(&'static Person),
    Denied,
    /// It never was, has been redeemed, or is too old.
    Unknown,
}

pub struct Begun {
    pub device_code: String,
    pub user_code: String,
}

impl Codes {
    /// A new code; none while too many wait.
    pub fn begin(&mut self) -> Option<Begun> {
        self.0.retain(|_, code| code.begun.elapsed() < LIFETIME);
        if self.0.len() >= CODES_MAX {
            return None;
        }
        let device_code = format!("{:032x}", rand::random::<u128>());
        let user_code = loop {
            let candidate = new_user_code();
            if !self.0.values().any(|code| code.user_code == candidate) {
                break candidate;
            }
        };
        let code = Code { user_code: user_code.clone(), begun: Instant::now(), decision: None };
        self.0.insert(device_code.clone(), code);
        Some(Begun { device_code, user_code })
    }

    /// Whether this code waits for a person.
    pub fn waits(&self, user_code: &str) -> bool {
        self.0.values().any(|code| code.waits(user_code))
    }

    /// Keeps what a person says to a code that waits; whether there is such a one.
    pub fn decide(&mut self, user_code: &str, decision: Decision) -> bool {
        let Some(code) = self.0.values_mut().find(|code| code.waits(user_code)) else { return false };
        code.decision = Some(decision);
        true
    }

    /// What has become of a code; one that is decided is gone with the answer.
    pub fn redeem(&mut self, device_code: &str) -> Fate {
        self.0.retain(|_, code| code.begun.elapsed() < LIFETIME);
        match self.0.get(device_code).map(|code| code.decision) {
            None => return Fate::Unknown,
            Some(None) => return Fate::Pending,
            Some(Some(_)) => {}
        }
        match self.0.remove(device_code).and_then(|code| code.decision) {
            Some(Decision::Approved(person)) => Fate::Approved(person),
            Some(Decision::Denied) => Fate::Denied,
            None => Fate::Unknown,
        }
    }
}

impl Code {
    fn waits(&self, user_code: &str) -> bool {
        self.decision.is_none() && self.begun.elapsed() < LIFETIME && self.user_code == user_code
    }
}

/// `WDJB-MJHT`.
fn new_user_code() -> String {
    let mut number = rand::random::<u64>();
    let mut code = String::with_capacity(9);
    for place in 0..8 {
        if place == 4 {
            code.push('-');
        }
        let letter = LETTERS.iter().cycle().nth((number % 20) as usize).copied().unwrap_or(b'B');
        code.push(char::from(letter));
        number /= 20;
    }
    code
}
