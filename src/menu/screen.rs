//! From what should be on the screen to the bytes that make it so: only what differs from what is there.
//!
//! Guards: nothing but text, positions and colours goes out; a character that would act on the terminal is a blank. The
//! client says how large its terminal is, and is believed only up to a size that costs little.

use std::fmt::Write as _;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};

use crate::cluster::WindowSize;
use crate::session::plain;

/// More than the largest screens hold; what is beyond stays empty.
const COLUMNS_MAX: u16 = 400;
const ROWS_MAX: u16 = 200;

/// The alternate screen, where there is one, and no cursor.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l";
/// As it was; a terminal with one screen only is left empty.
const END: &str = "\x1b[0m\x1b[2J\x1b[H\x1b[?25h\x1b[?1049l";

/// A terminal that shows a full screen.
pub struct Screen {
    /// What it shows; none where that is not known.
    shown: Option<Buffer>,
    colors: bool,
    began: bool,
}

impl Screen {
    pub fn new(colors: bool) -> Screen {
        Screen { shown: None, colors, began: false }
    }

    /// Nothing is known of what is there.
    pub fn forget(&mut self) {
        self.shown = None;
    }

    /// The bytes after which the terminal shows what `draw` draws; none where it does already.
    pub fn frame(&mut self, size: WindowSize, draw: impl FnOnce(Rect, &mut Buffer)) -> String {
        let area = Rect::new(0, 0, size.columns.clamp(1, COLUMNS_MAX), size.rows.clamp(1, ROWS_MAX));
        let mut next = Buffer::empty(area);
        draw(area, &mut next);
        let mut bytes = String::new();
        if !std::mem::replace(&mut self.began, true) {
            bytes.push_str(BEGIN);
        }
        let before = self.shown.take().filter(|shown| shown.area == area).unwrap_or_else(|| {
            bytes.push_str("\x1b[0m\x1b[2J");
            Buffer::empty(area)
        });
        let mut style = None;
        // Where the cursor is after what was written.
        let mut cursor = None;
        for (x, y, cell) in before.diff(&next) {
            if cursor != Some((x, y)) {
                // Writing to a String does not fail.
                let _ = write!(bytes, "\x1b[{};{}H", y + 1, x + 1);
            }
            let wanted = (cell.fg, cell.modifier);
            if style != Some(wanted) {
                self.style(&mut bytes, wanted);
                style = Some(wanted);
            }
            let symbol = cell.symbol();
            match symbol.is_ascii() {
                true => bytes.extend(symbol.chars().map(|c| if c.is_ascii_control() { ' ' } else { c })),
                false => bytes.push_str(&plain(symbol)),
            }
            // How wide others draw what is not ASCII is theirs to say.
            cursor = (symbol.len() == 1).then_some((x + 1, y));
        }
        if style.is_some_and(|style| style != (Color::Reset, Modifier::empty())) {
            bytes.push_str("\x1b[0m");
        }
        self.shown = Some(next);
        bytes
    }

    /// The bytes that leave the terminal as it was before the first frame.
    pub fn end(&self) -> &'static str {
        if self.began { END } else { "" }
    }

    fn style(&self, bytes: &mut String, (color, modifier): (Color, Modifier)) {
        bytes.push_str("\x1b[0");
        for (part, code) in
            [(Modifier::BOLD, ";1"), (Modifier::DIM, ";2"), (Modifier::UNDERLINED, ";4"), (Modifier::REVERSED, ";7")]
        {
            if modifier.contains(part) {
                bytes.push_str(code);
            }
        }
        let code = match color {
            Color::Red => ";31",
            Color::Green => ";32",
            Color::Yellow => ";33",
            Color::Cyan => ";36",
            _ => "",
        };
        if self.colors {
            bytes.push_str(code);
        }
        bytes.push('m');
    }
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    const SIZE: WindowSize = WindowSize { columns: 20, rows: 3 };

    fn frame(screen: &mut Screen, text: &str, style: Style) -> String {
        screen.frame(SIZE, |_, buffer| {
            buffer.set_string(0, 1, text, style);
        })
    }

    #[test]
    fn a_frame_is_what_differs_and_the_same_again_is_nothing() {
        let mut screen = Screen::new(true);
        let first = frame(&mut screen, "web-1-Running", Style::new());
        assert_eq!(first, format!("{BEGIN}\x1b[0m\x1b[2J\x1b[2;1H\x1b[0mweb-1-Running"));
        assert_eq!(frame(&mut screen, "web-1-Running", Style::new()), "");
        assert_eq!(frame(&mut screen, "web-2-Running", Style::new()), "\x1b[2;5H\x1b[0m2");
        screen.forget();
        assert!(frame(&mut screen, "web-2-Running", Style::new()).contains("\x1b[2J"));
    }

    #[test]
    fn without_colours_the_marks_stay() {
        let style = Style::new().fg(Color::Red).add_modifier(Modifier::REVERSED);
        assert!(frame(&mut Screen::new(true), "x", style).contains("\x1b[0;7;31mx\x1b[0m"));
        assert!(frame(&mut Screen::new(false), "x", style).contains("\x1b[0;7mx\x1b[0m"));
    }

    #[test]
    fn no_text_acts_and_no_size_is_too_large() {
        let mut screen = Screen::new(true);
        let all = frame(&mut screen, "a\x1b[31mb\u{9b}2J\u{202e}c\r\n", Style::new());
        let text = all.rsplit("\x1b[0m").next().unwrap();
        assert!(!text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{text:?}");
        let huge = WindowSize { columns: u16::MAX, rows: u16::MAX };
        screen.frame(huge, |area, _| assert_eq!(area.as_size(), (COLUMNS_MAX, ROWS_MAX).into()));
        screen.frame(WindowSize { columns: 0, rows: 0 }, |area, _| assert_eq!(area.as_size(), (1, 1).into()));
    }
}
