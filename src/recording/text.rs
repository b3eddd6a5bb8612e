//! Text out of bytes that come in pieces: asciicast is JSON, which has no other bytes than UTF-8's.

/// The longest beginning of a character that is no character yet.
const PIECE_MAX_BYTES: usize = 3;

/// What is left of the last piece: the beginning of a character.
#[derive(Debug, Default)]
pub(super) struct Text {
    begun: Vec<u8>,
}

impl Text {
    /// The text that is whole with these bytes. What is no UTF-8 stands as U+FFFD.
    pub(super) fn take(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let whole = all.len() - unfinished(&all);
        self.begun = all.split_off(whole);
        String::from_utf8_lossy(&all).into_owned()
    }
}

/// How many of the last bytes begin a character and do not end it.
fn unfinished(bytes: &[u8]) -> usize {
    let tails = (1..=PIECE_MAX_BYTES.min(bytes.len())).rev();
    let begins = |tail: &&[u8]| match std::str::from_utf8(tail) {
        Ok(_) => false,
        // No length of an error: the text ended too early.
        Err(error) => error.valid_up_to() == 0 && error.error_len().is_none(),
    };
    tails.filter_map(|len| bytes.get(bytes.len() - len..)).find(begins).map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_survive_their_pieces_and_nonsense_does_not_wait() {
        for text in ["é", "日", "🦀", "a🦀b"] {
            for cut in 0..=text.len() {
                let (one, other) = text.as_bytes().split_at(cut);
                let mut pieces = Text::default();
                assert_eq!(pieces.take(one) + &pieces.take(other), text, "cut at {cut}");
            }
        }
        let mut pieces = Text::default();
        assert_eq!(pieces.take(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        assert_eq!(pieces.take(b"\xc3"), "");
        assert_eq!(pieces.take(b"("), "\u{fffd}(");
    }
}
