//! What a client has sent into one channel and nobody has read yet.
//!
//! The transport pushes and never waits; the session takes at the pod's pace. How much may pile up is the
//! transport's promise to keep (`ssh::flow` does, by the window it grants), and `len` is what it needs for that.
//! Small pieces are joined, so that many of them cost no more memory than their bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

/// Room that a new piece gets at least, so that the next small ones join it.
const PIECE_MIN_BYTES: usize = 512;

/// The queue; the transport's end and the session's end share it.
#[derive(Debug, Clone, Default)]
pub struct Inbound {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something came, or the end did.
    came: Notify,
    /// Something was taken.
    taken: Notify,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<BytesMut>,
    len: usize,
    ended: bool,
}

impl Inbound {
    /// Adds bytes; after the end they are dropped, as RFC 4254 section 5.3 has none come.
    pub fn push(&self, bytes: &[u8]) {
        self.with(|state| {
            if state.ended || bytes.is_empty() {
                return;
            }
            state.len += bytes.len();
            match state.pieces.back_mut() {
                Some(last) if last.capacity() - last.len() >= bytes.len() => last.extend_from_slice(bytes),
                _ => {
                    let mut piece = BytesMut::with_capacity(bytes.len().max(PIECE_MIN_BYTES));
                    piece.extend_from_slice(bytes);
                    state.pieces.push_back(piece);
                }
            }
        });
        self.shared.came.notify_one();
    }

    /// Gives back the end of a piece that was taken, for the next reader.
    pub fn put_back(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.with(|state| {
                state.len += bytes.len();
                state.pieces.push_front(BytesMut::from(bytes));
            });
        }
    }

    /// The client's end of file.
    pub fn end(&self) {
        self.with(|state| state.ended = true);
        self.shared.came.notify_one();
    }

    /// Bytes that nobody has taken yet.
    pub fn len(&self) -> usize {
        self.with(|state| state.len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the oldest piece; none at the end. For one reader.
    pub async fn next(&self) -> Option<Bytes> {
        loop {
            let (piece, ended) = self.with(|state| {
                let piece = state.pieces.pop_front();
                state.len -= piece.as_ref().map_or(0, BytesMut::len);
                (piece, state.ended)
            });
            if let Some(piece) = piece {
                self.shared.taken.notify_one();
                return Some(piece.freeze());
            }
            if ended {
                return None;
            }
            self.shared.came.notified().await;
        }
    }

    /// Waits until the reader takes something.
    pub async fn taken(&self) {
        self.shared.taken.notified().await;
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // A poisoned queue is still a queue: nothing in here can leave it half changed.
        act(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_pieces_join_and_come_out_whole() {
        let inbound = Inbound::default();
        for byte in 0..=255u8 {
            inbound.push(&[byte]);
        }
        assert_eq!(inbound.len(), 256);
        inbound.end();
        inbound.push(b"after the end");
        let mut all = Vec::new();
        while let Some(piece) = inbound.next().await {
            all.extend_from_slice(&piece);
        }
        assert_eq!(all, (0..=255u8).collect::<Vec<_>>());
        assert!(inbound.is_empty());
    }

    #[tokio::test]
    async fn what_is_given_back_comes_first() {
        let inbound = Inbound::default();
        inbound.push(b"enter, and more");
        let piece = inbound.next().await.expect("a piece");
        inbound.push(b" typed ahead");
        inbound.put_back(&piece[5..]);
        assert_eq!(inbound.len(), 22);
        let mut rest = inbound.next().await.expect("the rest").to_vec();
        rest.extend(inbound.next().await.expect("what came meanwhile"));
        assert_eq!(rest, b", and more typed ahead");
    }
}
