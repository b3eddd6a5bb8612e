//! Flow control for what clients send, on top of russh's, which deadlocks.
//!
//! The story: russh 0.65 gives a client new window as soon as bytes arrive, and hands them to the channel through a
//! bounded queue, *waiting in the connection's own loop* while that is full. Once the pod reads more slowly than the
//! client sends, the loop stands still, and with it every other channel, keep-alives, resizes, Ctrl-C, and the
//! WINDOW_ADJUST messages that the channel's own output waits for: `ssh host cat <big >out` stops for good.
//!
//! So russh's queue is not used at all: a channel's read half is dropped, and the bytes are taken in the handler's
//! `data`, which never waits (`session::Inbound`). What bounds the queue is the window, through the one lever that
//! russh leaves: `Handler::adjust_window` returns the window that the *next* grant fills up to. It shrinks as bytes pile
//! up, so that what is waiting and what is still allowed to come stay within twice `WINDOW_BYTES` together.
//!
//! A grant of nothing cannot be taken back by russh (there is no later event that would give more), so the smallest
//! window is two bytes, which russh renews as they arrive: a trickle. Each such packet is answered a little late, or as
//! soon as the pod takes something, so that a stalled channel costs next to nothing. The window is one number for the
//! connection: while one channel's pod does not read, uploads of its siblings trickle too; their output, and small
//! input such as keystrokes, goes on.

use std::time::Duration;

use crate::session::Inbound;

/// What a client may send on one channel before anything is read: OpenSSH's own default is the same.
pub const WINDOW_BYTES: u32 = 2 << 20;

/// The smallest window that russh renews.
const TRICKLE_BYTES: u32 = 2;

/// Below this a window is not worth a packet: better wait for the pod (RFC 9293 section 3.8.6.2 calls it silly).
const WORTHWHILE_BYTES: u32 = 32 << 10;

/// How late a trickle packet is answered. The connection's loop waits meanwhile, so it is what a keystroke beside a
/// stalled upload may be late by, and it bounds what a stalled channel costs: 2 bytes and a wake-up each time.
const TRICKLE_DELAY: Duration = Duration::from_millis(5);

/// With this much waiting, only the trickle may still come: a grant fills up to what was decided at the grant before it, when
/// less was waiting, so a slow pod's queue reaches nearly twice the window, and the packet that is on its way when russh
/// asks has at most 256 KiB. More is a client that sends beyond its window, which russh does not stop.
const OVERRUN_BYTES: usize = 2 * WINDOW_BYTES as usize + (512 << 10);

/// The trickle itself ends here, after some hours.
const TRICKLED_BYTES: usize = OVERRUN_BYTES + (16 << 20);

/// A client that does not keep to its window (RFC 4254 section 5.2).
#[derive(Debug, thiserror::Error)]
#[error("the client sent beyond its window")]
pub struct Overrun;

/// The window that the next grant fills up to, by the longest queue of the connection.
pub fn window(longest_queue_bytes: usize) -> u32 {
    let waiting = u32::try_from(longest_queue_bytes).unwrap_or(u32::MAX);
    match WINDOW_BYTES.saturating_sub(waiting) {
        left if left < WORTHWHILE_BYTES => TRICKLE_BYTES,
        left => left,
    }
}

/// Takes one packet's bytes.
pub async fn take(inbound: &Inbound, bytes: &[u8]) -> Result<(), Overrun> {
    let trickles = bytes.len() <= TRICKLE_BYTES as usize;
    let waiting = inbound.len() + bytes.len();
    if waiting > if trickles { TRICKLED_BYTES } else { OVERRUN_BYTES } {
        return Err(Overrun);
    }
    inbound.push(bytes);
    if trickles && window(waiting) == TRICKLE_BYTES {
        // Either is fine: this only paces the trickle.
        let _ = tokio::time::timeout(TRICKLE_DELAY, inbound.taken()).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_what_may_come_stay_within_the_window() {
        assert_eq!(window(0), WINDOW_BYTES);
        for waiting in (0..WINDOW_BYTES).step_by(4093) {
            let granted = window(waiting as usize);
            assert!(granted == TRICKLE_BYTES || granted + waiting <= WINDOW_BYTES, "{waiting}: {granted}");
        }
        assert_eq!(window(WINDOW_BYTES as usize), TRICKLE_BYTES);
        assert_eq!(window(usize::MAX), TRICKLE_BYTES);
    }

    #[tokio::test]
    async fn a_client_beyond_its_window_is_an_error() {
        let inbound = Inbound::default();
        let packet = vec![0; 1 << 20];
        let mut sent = 0;
        while take(&inbound, &packet).await.is_ok() {
            sent += packet.len();
            assert!(sent <= OVERRUN_BYTES, "no end to it");
        }
    }
}
