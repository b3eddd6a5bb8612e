//! Words of others on their way to a terminal.
//!
//! Guards: no control character, no escape and nothing that turns the order of what is read reaches a terminal, whoever
//! chose the words: a token, a kubelet, a backend.

use std::fmt::Write as _;

use serde::Serialize;

/// The text with a blank for each character that would do anything but stand there.
pub fn plain(text: &str) -> String {
    text.chars().map(|character| if acts(character) { ' ' } else { character }).collect()
}

/// The value as JSON, one field a line, with each such character escaped: it may be printed as it is.
pub(super) fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).expect("texts, numbers and times");
    let mut shown = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        // Beyond the line ends between fields, such a character stands only within a text, where an escape may.
        match acts(character) && character != '\n' {
            true => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                // Writing to a String does not fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }),
            false => shown.push(character),
        }
    }
    shown.push('\n');
    shown
}

/// Control characters (C0, DEL and C1), and Unicode's invisible ones that join, break, turn or hide (its category Cf, and
/// the line and paragraph separators).
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(u32::from(character),
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
            | 0xfeff | 0xfff0..=0xfffb | 0xe0000..=0xe0fff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_what_would_act_and_reads_back_the_same() {
        let text = "a\u{1b}[2J\n\u{9b}\u{202e}\u{e0001}é";
        let shown = json(&[text]);
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [text]);
        assert_eq!(shown.matches(|c: char| acts(c) && c != '\n').count(), 0, "{shown:?}");
    }

    #[test]
    fn what_would_act_is_blank_and_all_else_stays() {
        assert_eq!(plain("Zoë 東京 a-b"), "Zoë 東京 a-b");
        assert_eq!(plain("a\u{1b}[2J\r\n\u{7f}\u{9b}31m\u{202e}b\u{200b}"), "a [2J    31m b ");
    }
}
