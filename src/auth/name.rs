//! Names that come from outside: of people and groups, in certificates and tokens.
//!
//! Invariant: names that pass are short, not empty, and print as what they are, because policies compare them and
//! operators read them. A name that is not so refuses its credential rather than being mended.

/// The longest name of a person or a group.
const NAME_MAX_BYTES: usize = 256;
/// This much of a text from outside is shown in a log line.
const SHOWN_MAX_CHARS: usize = 128;

/// What is wrong with a name.
pub(super) fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("the name is empty");
    }
    if name.len() > NAME_MAX_BYTES {
        return Err("the name is longer than 256 bytes");
    }
    if name.trim() != name || name.chars().any(is_unseen) {
        return Err("the name has control characters, or spaces around it");
    }
    Ok(())
}

/// Text from outside, fit for a log line: in quotes, escaped, and cut where it is long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX_CHARS) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// Control characters, and the Unicode format characters that reorder or hide what is around them.
pub(super) fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
