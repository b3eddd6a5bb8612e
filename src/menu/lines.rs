//! The menu where no screen can be drawn (`TERM=dumb`, an unknown terminal): a numbered list, a prompt, and a line to answer.
//!
//! The client's terminal is raw, so what is typed is echoed from here. A list is what the view has when it is printed; a
//! number means the place that was printed with it.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::keys::Key;
use super::state::{Row, State, Step};
use crate::cluster::WindowSize;
use crate::session::{age, plain};
use crate::target::{LoginName, TargetName};

/// The longest line that is taken: a number with a container and a profile.
const LINE_MAX_BYTES: usize = 160;
/// Lines of the screen that the list leaves free.
const FRAME_LINES: u16 = 4;
const PAGE_MAX: usize = 50;

/// A dialogue by lines.
#[derive(Default)]
pub struct Lines {
    line: String,
    /// The login names that were printed, by their numbers from 1.
    printed: Vec<String>,
    next: usize,
}

impl Lines {
    /// The next part of the list, and the prompt.
    pub fn page(&mut self, state: &State, size: WindowSize, now: Timestamp) -> String {
        let height = usize::from(size.rows.saturating_sub(FRAME_LINES)).clamp(1, PAGE_MAX);
        let mut text = String::from("\r\n");
        let (mut row, mut left) = (self.next, height);
        while left > 0
            && let Some(found) = state.row(row)
        {
            row += 1;
            let Some((name, line)) = entry(state, found, now) else { continue };
            self.printed.push(name);
            left -= 1;
            // Writing to a String does not fail.
            let _ = write!(text, "{:>5}  {line}\r\n", self.printed.len());
        }
        self.next = row;
        let more = state.row(row).is_some();
        let (found, all) = state.counts();
        if let Some(note) = state.note() {
            let _ = write!(text, "{}\r\n", plain(note));
        }
        let count = match (found, all) {
            (_, 0) => "no place is open to you".to_owned(),
            (0, _) => format!("no name has {:?} in it", state.filter()),
            (found, all) if found == all => format!("{all} pods"),
            (found, all) => format!("{found} of {all} pods have {:?}", state.filter()),
        };
        let next = if more { "more" } else { "all again" };
        let _ = write!(
            text,
            "{count}. A number goes in (or N+container~profile), words filter,\r\nEnter alone shows {next}, Ctrl-D leaves\r\n> "
        );
        text
    }

    /// Takes a key; what is to be echoed, and what it leads to, once a line is whole.
    pub fn press(&mut self, key: Key, state: &mut State) -> (String, Option<Step>) {
        match key {
            Key::Ctrl('c' | 'd') => ("\r\n".to_owned(), Some(Step::Leave)),
            Key::Backspace if !self.line.is_empty() => {
                self.line.pop();
                ("\x08 \x08".to_owned(), None)
            }
            Key::Char(typed) if typed == ' ' || typed.is_ascii_graphic() => {
                if self.line.len() >= LINE_MAX_BYTES {
                    return (String::new(), None);
                }
                self.line.push(typed);
                (typed.to_string(), None)
            }
            Key::Enter => {
                let line = std::mem::take(&mut self.line);
                match self.answer(line.trim(), state) {
                    Ok(Some(place)) => ("\r\n".to_owned(), Some(Step::Enter(place))),
                    Ok(None) => (String::new(), Some(Step::Stay)),
                    Err(what) => (format!("\r\n{}\r\n> ", plain(&what)), None),
                }
            }
            _ => (String::new(), None),
        }
    }

    /// Whether the next page is the first: the moment to look at what is there now.
    pub fn begins(&self) -> bool {
        self.next == 0
    }

    /// The place that the line names; none where another page answers it.
    fn answer(&mut self, line: &str, state: &mut State) -> Result<Option<TargetName>, String> {
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        let (number, suffix) = line.split_at(digits);
        if digits > 0 && (suffix.is_empty() || suffix.starts_with(['+', '~'])) {
            let number = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let name = number.and_then(|number| self.printed.get(number)).map(|name| format!("{name}{suffix}"));
            return match name.map(|name| LoginName::parse(&name)) {
                Some(Ok(LoginName::Place(place))) => Ok(Some(place)),
                Some(Err(error)) => Err(error.to_string()),
                _ => Err("there is no such number".to_owned()),
            };
        }
        if !line.is_empty() || state.row(self.next).is_none() {
            state.search(line);
            self.printed.clear();
            self.next = 0;
        }
        Ok(None)
    }
}

/// A place's login name and its line; none for a heading.
fn entry(state: &State, row: Row, now: Timestamp) -> Option<(String, String)> {
    match row {
        Row::Namespace(_) => None,
        Row::Workload(first, end) => {
            let pods = state.places(first..end);
            let place = pods.first()?;
            let (kind, name) = place.workload()?;
            let name = format!("{}.{name}", place.namespace());
            Some((name.clone(), format!("{name:<40} {kind} of {}", pods.len())))
        }
        Row::Pod(at) => {
            let place = state.place(at)?;
            let shown = place.shown();
            let name = format!("{}.{}", place.namespace(), place.pod());
            let age = shown.created.map(|created| age(created, now)).unwrap_or_default();
            let line =
                format!("{name:<40} {}/{} {} {} restarts {age}", shown.ready, shown.total, shown.state, shown.restarts);
            Some((name, line))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::Place;
    use crate::session::Seen;

    const SIZE: WindowSize = WindowSize { columns: 80, rows: 6 };

    fn type_in(lines: &mut Lines, state: &mut State, keys: &str) -> (String, Option<Step>) {
        let mut said = String::new();
        for typed in keys.chars() {
            let key = if typed == '\r' { Key::Enter } else { Key::Char(typed) };
            let (echo, step) = lines.press(key, state);
            said.push_str(&echo);
            if step.is_some() {
                return (said, step);
            }
        }
        (said, None)
    }

    #[test]
    fn pages_follow_each_other_and_a_number_is_the_place_that_was_printed_with_it() {
        let place = |name: &str| Arc::new(Place::for_tests("demo", name, None, &["app"], "Running"));
        let places = ["a", "b", "c"].map(place).to_vec();
        let mut state = State::new(vec!["general".to_owned()]);
        state.see(Arc::new(Seen { places, looking: false, note: None }));
        let (mut lines, now) = (Lines::default(), "2026-01-01T03:00:00Z".parse().unwrap());
        let first = lines.page(&state, SIZE, now);
        assert!(
            first.contains("    1  demo.a ") && first.contains("    2  demo.b ") && !first.contains("demo.c"),
            "{first}"
        );
        assert!(first.contains("3 pods.") && first.ends_with("\r\n> ") && !first.contains('\u{1b}'), "{first}");
        assert_eq!(type_in(&mut lines, &mut state, "\r"), (String::new(), Some(Step::Stay)));
        assert!(lines.page(&state, SIZE, now).contains("    3  demo.c ") && !lines.begins());
        let (said, step) = type_in(&mut lines, &mut state, "9\r1+app~x\r");
        assert!(said.starts_with("9\r\nthere is no such number\r\n> 1+app~x"), "{said:?}");
        assert!(matches!(step, Some(Step::Enter(place)) if place.to_string() == "demo.a+app~x"));
        type_in(&mut lines, &mut state, "\r");
        assert!(lines.begins(), "after the last page comes the first");
        type_in(&mut lines, &mut state, "C\r");
        assert!(lines.page(&state, SIZE, now).contains("    1  demo.c "));
        assert_eq!(lines.press(Key::Ctrl('d'), &mut state).1, Some(Step::Leave));
        let (said, _) = type_in(&mut lines, &mut state, &"x".repeat(1000));
        assert_eq!(said.len(), LINE_MAX_BYTES);
        assert_eq!(lines.press(Key::Backspace, &mut state).0, "\x08 \x08");
    }
}
