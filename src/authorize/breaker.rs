//! A circuit breaker: a server that keeps failing is left alone for a moment, and then tried by one question at a time.
//!
//! Guards: while it is open, questions are refused at once instead of waiting for their deadline, so that a dead server
//! costs people no patience and itself no load; and it closes with the first answer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One server's breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    /// When the next try may begin, where there were too many.
    closed_until: Option<Instant>,
}

impl Breaker {
    pub(super) fn new(failures_max: u32, pause: Duration) -> Breaker {
        Breaker { failures_max, pause, state: Mutex::default() }
    }

    /// Whether the server may be asked now. After a pause, one caller may for each further pause, until it answers.
    pub(super) fn lets_through(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.closed_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                state.closed_until = Some(now + self.pause);
                true
            }
        }
    }

    /// What became of a question that was let through.
    pub(super) fn learn(&self, answered: bool, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            *state = State::default();
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures >= self.failures_max {
            state.closed_until = Some(now + self.pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_in_a_row_one_question_a_pause_gets_through_until_one_is_answered() {
        let (breaker, now) = (Breaker::new(2, Duration::from_secs(1)), Instant::now());
        breaker.learn(false, now);
        breaker.learn(true, now);
        breaker.learn(false, now);
        assert!(breaker.lets_through(now), "two failures, but not in a row");
        breaker.learn(false, now);
        assert!(!breaker.lets_through(now));
        let later = now + Duration::from_secs(1);
        assert!(breaker.lets_through(later) && !breaker.lets_through(later), "one to try, no more");
        breaker.learn(true, later);
        assert!(breaker.lets_through(later) && breaker.lets_through(later));
    }
}
