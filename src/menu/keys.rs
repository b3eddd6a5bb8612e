//! Keys, out of the bytes that a terminal sends.
//!
//! Guards: whatever comes is read to its end and never held back for long: a sequence that goes on too long is dropped, and an
//! escape that stands alone is the key Esc once nothing follows it. What comes after the key that ends the menu is left as
//! it is, for the shell that it is meant for.

use std::collections::VecDeque;

/// The longest sequence that any terminal sends for a key, and some room.
const SEQUENCE_MAX_BYTES: usize = 32;

const ESC: u8 = 0x1b;

/// What a person pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Enter,
    Tab,
    BackTab,
    Backspace,
    Esc,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    /// With a letter, in lower case.
    Ctrl(char),
}

/// Bytes that are not keys yet.
#[derive(Debug, Default)]
pub struct Keys {
    bytes: VecDeque<u8>,
    /// They begin something that is not whole.
    partial: bool,
    /// Nothing more comes to make it whole.
    settled: bool,
}

/// What the bytes begin with.
enum Begin {
    /// So many bytes, and the key that they are; none for what means nothing here.
    Whole(usize, Option<Key>),
    Partial,
}

impl Keys {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        (self.settled, self.partial) = (false, false);
    }

    /// Whether there is something for `next` to look at: what has begun and is not whole has been looked at.
    pub fn ready(&self) -> bool {
        !self.bytes.is_empty() && !self.partial
    }

    /// Whether something has begun that may be whole as it is.
    pub fn waits(&self) -> bool {
        self.partial && !self.bytes.is_empty()
    }

    /// Nothing follows: what has begun is an Esc, or nothing.
    pub fn settle(&mut self) {
        (self.settled, self.partial) = (true, false);
    }

    /// Takes what is not read yet.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes).into()
    }
}

/// The keys that are whole; none where more bytes are needed, and then there may be more.
impl Iterator for Keys {
    type Item = Key;

    fn next(&mut self) -> Option<Key> {
        while !self.bytes.is_empty() {
            match begin(self.bytes.make_contiguous()) {
                Begin::Whole(length, key) => {
                    self.bytes.drain(..length.min(self.bytes.len()));
                    if key.is_some() {
                        return key;
                    }
                }
                Begin::Partial if std::mem::take(&mut self.settled) => {
                    let lone = self.bytes.len() == 1 && self.bytes.front() == Some(&ESC);
                    self.bytes.clear();
                    return lone.then_some(Key::Esc);
                }
                Begin::Partial => {
                    self.partial = true;
                    return None;
                }
            }
        }
        None
    }
}

fn begin(bytes: &[u8]) -> Begin {
    let Some(first) = bytes.first() else { return Begin::Partial };
    match first {
        b'\r' | b'\n' => Begin::Whole(1, Some(Key::Enter)),
        b'\t' => Begin::Whole(1, Some(Key::Tab)),
        0x7f | 0x08 => Begin::Whole(1, Some(Key::Backspace)),
        &ESC => escape(bytes),
        0x01..=0x1a => Begin::Whole(1, Some(Key::Ctrl(char::from(first + b'a' - 1)))),
        0x20..=0x7e => Begin::Whole(1, Some(Key::Char(char::from(*first)))),
        _ => character(bytes),
    }
}

/// A character of several bytes; what is none is passed over byte by byte.
fn character(bytes: &[u8]) -> Begin {
    let length = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => return Begin::Whole(1, None),
    };
    match bytes.get(..length) {
        Some(whole) => match std::str::from_utf8(whole).ok().and_then(|text| text.chars().next()) {
            Some(character) if !character.is_control() => Begin::Whole(length, Some(Key::Char(character))),
            Some(_) => Begin::Whole(length, None),
            None => Begin::Whole(1, None),
        },
        None if bytes.iter().skip(1).all(|byte| (0x80..0xc0).contains(byte)) => Begin::Partial,
        None => Begin::Whole(1, None),
    }
}

/// ECMA-48: `ESC [` parameters final, or `ESC O` final, as xterm sends them.
fn escape(bytes: &[u8]) -> Begin {
    match bytes.get(1) {
        None => Begin::Partial,
        Some(b'[') => {
            let body = bytes.get(2..).unwrap_or_default();
            match body.iter().position(|byte| !(0x20..0x40).contains(byte)) {
                Some(end) if end < SEQUENCE_MAX_BYTES => {
                    let (parameters, last) = (&body[..end], body[end]);
                    match last {
                        0x40..=0x7e => Begin::Whole(end + 3, control(parameters, last)),
                        // Something else begins within the sequence, which is none then.
                        _ => Begin::Whole(end + 2, None),
                    }
                }
                None if body.len() < SEQUENCE_MAX_BYTES => Begin::Partial,
                _ => Begin::Whole(SEQUENCE_MAX_BYTES + 2, None),
            }
        }
        Some(b'O') => match bytes.get(2) {
            None => Begin::Partial,
            Some(b'M') => Begin::Whole(3, Some(Key::Enter)),
            Some(last @ 0x40..=0x7e) => Begin::Whole(3, control(b"", *last)),
            Some(_) => Begin::Whole(2, None),
        },
        // Esc twice: the first is a key, the second may begin something.
        Some(&ESC) => Begin::Whole(1, Some(Key::Esc)),
        // With Alt: as without.
        Some(_) => Begin::Whole(1, None),
    }
}

fn control(parameters: &[u8], last: u8) -> Option<Key> {
    // What follows the first number are keys held down beside it.
    let number = parameters.split(|byte| *byte == b';').next().unwrap_or_default();
    match (last, number) {
        (b'A', _) => Some(Key::Up),
        (b'B', _) => Some(Key::Down),
        (b'C', _) => Some(Key::Right),
        (b'D', _) => Some(Key::Left),
        (b'H', _) | (b'~', b"1" | b"7") => Some(Key::Home),
        (b'F', _) | (b'~', b"4" | b"8") => Some(Key::End),
        (b'Z', _) => Some(Key::BackTab),
        (b'~', b"5") => Some(Key::PageUp),
        (b'~', b"6") => Some(Key::PageDown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(keys: &mut Keys) -> Vec<Key> {
        keys.by_ref().collect()
    }

    fn read(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        keys.push(bytes);
        all(&mut keys)
    }

    #[test]
    fn keys_of_common_terminals_are_read() {
        use Key::*;
        assert_eq!(read(b"\x1b[A\x1bOB\x1b[1;5C\x1b[D"), [Up, Down, Right, Left]);
        assert_eq!(
            read(b"\x1b[5~\x1b[6~\x1b[H\x1b[F\x1b[1~\x1b[4~\x1bOH"),
            [PageUp, PageDown, Home, End, Home, End, Home]
        );
        assert_eq!(
            read(b"\r\t\x1b[Z\x7f\x08\x03\x04"),
            [Enter, Tab, BackTab, Backspace, Backspace, Ctrl('c'), Ctrl('d')]
        );
        assert_eq!(read("aé東".as_bytes()), [Char('a'), Char('é'), Char('東')]);
        assert_eq!(read(b"\x1b[200~x\x1b[<0;1;2M\x1b[?1;2c\x1bb"), [Char('x'), Char('b')]);
    }

    #[test]
    fn a_key_in_two_packets_is_one_key_and_a_lone_escape_is_esc() {
        let mut keys = Keys::default();
        for byte in b"\x1b[5" {
            keys.push(&[*byte]);
            assert_eq!(keys.next(), None);
        }
        keys.push(b"~\xc3");
        assert_eq!(all(&mut keys), [Key::PageUp]);
        keys.push(b"\xa9\x1b");
        assert_eq!(all(&mut keys), [Key::Char('é')]);
        assert!(keys.waits() && !keys.ready());
        keys.settle();
        assert!(keys.ready());
        assert_eq!(all(&mut keys), [Key::Esc]);
        keys.push(b"\x1b[");
        assert_eq!(keys.next(), None);
        keys.settle();
        assert_eq!((keys.next(), keys.waits(), keys.ready()), (None, false, false));
        assert_eq!(read(b"\x1b\x1b[A"), [Key::Esc, Key::Up]);
    }

    #[test]
    fn nonsense_ends_and_what_follows_a_key_is_left() {
        assert_eq!(read(&[b"\x1b[".as_slice(), &[b'0'; 99], b"A"].concat()).last(), Some(&Key::Char('A')));
        assert_eq!(read(b"\xff\xc3(\xe2\x82x\x00\x9b"), [Key::Char('('), Key::Char('x')]);
        assert_eq!(read("\u{9b}2Jx".as_bytes()), [Key::Char('2'), Key::Char('J'), Key::Char('x')]);
        let mut keys = Keys::default();
        keys.push(b"a\rls\x1b[A\n");
        assert_eq!((keys.next(), keys.next()), (Some(Key::Char('a')), Some(Key::Enter)));
        assert_eq!(keys.rest(), b"ls\x1b[A\n");
    }
}
