//! Finds Porthole's own words in a program's output.
//!
//! The wrapper in the container (`script`) says two things on the program's stdout: "you hear me now" before the first
//! byte, and the exit status after the last. Each is a marker: a record separator (0x1e), a word with a secret that is new
//! for each process, a number, and a record separator again. The secret reaches the wrapper through its stdin and stands in
//! no argument and no variable, so a program cannot say it by accident, and what merely looks like a marker is data.
//!
//! Guards: every byte that is not part of a whole marker comes out, once, in order, however the stream was cut into
//! pieces. What could still become a marker is held; it is at most `MAX_LEN` bytes, and `release` gives it up.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem::Finder;

/// What frames a marker. In no name, no echo of the terminal, and hardly in any text.
const SEPARATOR: u8 = 0x1e;
/// A process id or a status.
const DIGITS_MAX: usize = 10;

/// The streaming matcher.
pub(super) struct Markers {
    finder: Finder<'static>,
    /// The beginning of what may become a marker; it starts with the separator and has no other.
    held: BytesMut,
    pending: Bytes,
}

/// What the stream is made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    Marker(u32),
}

enum Match {
    /// A marker of this length, with this number.
    Whole(usize, u32),
    /// The bytes so far could be one.
    Begun,
    No,
}

/// The text of a marker without its number and its end, as the wrapper must print it.
pub(super) fn prefix(secret: &str) -> String {
    format!("\x1eporthole:{secret}:")
}

impl Markers {
    pub fn new(secret: &str) -> Markers {
        let finder = Finder::new(prefix(secret).as_bytes()).into_owned();
        Markers { finder, held: BytesMut::new(), pending: Bytes::new() }
    }

    /// Adds the stream's next bytes; `next` must have returned none before.
    pub fn push(&mut self, bytes: Bytes) {
        debug_assert!(self.pending.is_empty(), "what was pushed before is taken first");
        self.pending = bytes;
    }

    /// The next piece; none when more bytes are needed.
    pub fn next(&mut self) -> Option<Piece> {
        if self.pending.is_empty() {
            return None;
        }
        if !self.held.is_empty() {
            return self.go_on();
        }
        let mut from = 0;
        while let Some(at) = self.finder.find(&self.pending[from..]).map(|at| from + at) {
            match (self.look(&self.pending[at..]), at) {
                (Match::Whole(len, number), 0) => {
                    self.pending.advance(len);
                    return Some(Piece::Marker(number));
                }
                (Match::Whole(..), _) => return Some(Piece::Data(self.pending.split_to(at))),
                (Match::Begun, _) => return self.hold(at),
                (Match::No, _) => from = at + 1,
            }
        }
        let tail = self.pending.len().saturating_sub(self.finder.needle().len() - 1).max(from);
        match memchr::memrchr(SEPARATOR, &self.pending[tail..]) {
            Some(at) if self.finder.needle().starts_with(&self.pending[tail + at..]) => self.hold(tail + at),
            _ => Some(Piece::Data(std::mem::take(&mut self.pending))),
        }
    }

    /// Whether bytes are kept back.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Gives up what is held: it was data.
    pub fn release(&mut self) -> Option<Bytes> {
        (!self.held.is_empty()).then(|| self.held.split().freeze())
    }

    /// Holds what is pending from `at` on, and returns what stands before.
    fn hold(&mut self, at: usize) -> Option<Piece> {
        let before = self.pending.split_to(at);
        self.held.extend_from_slice(&std::mem::take(&mut self.pending));
        (!before.is_empty()).then_some(Piece::Data(before))
    }

    /// Decides, with the bytes that came since, over what is held.
    fn go_on(&mut self) -> Option<Piece> {
        let had = self.held.len();
        let wanted = self.longest().saturating_sub(had).min(self.pending.len());
        self.held.extend_from_slice(&self.pending[..wanted]);
        match self.look(&self.held) {
            Match::Whole(len, number) => {
                self.held.clear();
                self.pending.advance(len - had);
                Some(Piece::Marker(number))
            }
            Match::Begun => {
                self.pending.clear();
                None
            }
            Match::No => {
                self.held.truncate(had);
                Some(Piece::Data(self.held.split().freeze()))
            }
        }
    }

    /// The bytes of the longest marker.
    fn longest(&self) -> usize {
        self.finder.needle().len() + DIGITS_MAX + 1
    }

    fn look(&self, bytes: &[u8]) -> Match {
        let prefix = self.finder.needle();
        let Some(rest) = bytes.strip_prefix(prefix) else {
            return if prefix.starts_with(bytes) { Match::Begun } else { Match::No };
        };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match rest.get(digits) {
            _ if digits > DIGITS_MAX => Match::No,
            None => Match::Begun,
            Some(&SEPARATOR) => match std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse().ok()) {
                Some(number) => Match::Whole(prefix.len() + digits + 1, number),
                None => Match::No,
            },
            Some(_) => Match::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "k3ab";

    fn marker(number: u32) -> Vec<u8> {
        format!("{}{number}\x1e", prefix(SECRET)).into_bytes()
    }

    /// Runs the stream through, cut after each of `cuts`, and returns all data and the markers with the amount of data
    /// that stood before them.
    fn run(stream: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<(usize, u32)>) {
        let mut markers = Markers::new(SECRET);
        let (mut data, mut found, mut from) = (Vec::new(), Vec::new(), 0);
        for &to in cuts.iter().chain([&stream.len()]) {
            markers.push(Bytes::copy_from_slice(&stream[from..to]));
            from = to;
            while let Some(piece) = markers.next() {
                match piece {
                    Piece::Data(bytes) => {
                        assert!(!bytes.is_empty(), "an empty piece");
                        data.extend_from_slice(&bytes);
                    }
                    Piece::Marker(number) => found.push((data.len(), number)),
                }
            }
            assert!(markers.held.len() < markers.longest());
        }
        data.extend_from_slice(&markers.release().unwrap_or_default());
        (data, found)
    }

    #[test]
    fn markers_come_out_and_all_else_goes_through_at_every_pair_of_cuts() {
        let stream = [b"ab\n".as_slice(), &marker(7), b"\x1e", &marker(4_294_967_295), b"tail\x1epor"].concat();
        let expected = (b"ab\n\x1etail\x1epor".to_vec(), vec![(3, 7), (4, 4_294_967_295)]);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                assert_eq!(run(&stream, &[first, second]), expected, "cut at {first} and {second}");
            }
        }
        let each_byte: Vec<_> = (0..stream.len()).collect();
        assert_eq!(run(&stream, &each_byte), expected);
    }

    #[test]
    fn what_only_looks_like_a_marker_is_data() {
        let own = prefix(SECRET);
        for near in [
            "\x1eporthole:other:0\x1e".to_owned(),
            format!("{own}\x1e"),
            format!("{own}x\x1e"),
            format!("{own}1"),
            format!("{own}1x{own}"),
            format!("{own}-1\x1e"),
            format!("{own}4294967296\x1e"),
            format!("{own}00000000000\x1e"),
            own[1..].to_owned() + "1\x1e",
            "\x1e".repeat(200),
        ] {
            for cut in 0..=near.len() {
                assert_eq!(
                    run(near.as_bytes(), &[cut]),
                    (near.clone().into_bytes(), Vec::new()),
                    "{near:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_marker_right_behind_a_false_start_is_found() {
        let own = prefix(SECRET);
        for false_start in
            ["\x1e".to_owned(), "\x1e\x1e".to_owned(), own.clone(), format!("{own}12x"), own[..9].to_owned()]
        {
            let stream = [false_start.as_bytes(), &marker(0)].concat();
            for cut in 0..=stream.len() {
                let expected = (false_start.clone().into_bytes(), vec![(false_start.len(), 0)]);
                assert_eq!(run(&stream, &[cut]), expected, "{false_start:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_held_can_be_given_up() {
        let mut markers = Markers::new(SECRET);
        markers.push(Bytes::from_static(b"prompt\x1e"));
        assert_eq!(markers.next(), Some(Piece::Data(Bytes::from_static(b"prompt"))));
        assert_eq!((markers.next(), markers.holds()), (None, true));
        assert_eq!(markers.release(), Some(Bytes::from_static(b"\x1e")));
        assert_eq!((markers.release(), markers.holds()), (None, false));
    }
}
