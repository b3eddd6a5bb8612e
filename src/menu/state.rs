//! What the menu shows and where the person is in it: keys and news in, rows out. No terminal, no clock, no waiting.
//!
//! Guards: only what is in the view becomes a row or a choice, and what leaves the view leaves both. The selection is a
//! place, not a line: it stays on it while others come and go. Work is linear in the places, and memory a few words each.

use std::ops::Range;
use std::sync::Arc;

use super::choice::{Choice, Focus};
use super::keys::Key;
use crate::cluster::Place;
use crate::session::Seen;
use crate::target::{LoginName, TargetName};

/// No name that could be found is longer.
const FILTER_MAX_CHARS: usize = 64;

/// A line of the list; numbers are of places in the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// The namespace of this place, and of those that follow.
    Namespace(usize),
    /// From the first to beyond the last of its pods.
    Workload(usize, usize),
    Pod(usize),
}

/// What a key leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Stay,
    Enter(TargetName),
    Leave,
    /// The screen is to be drawn anew: something else has written on it.
    Redraw,
}

/// The menu of one person.
#[derive(Debug)]
pub struct State {
    seen: Arc<Seen>,
    profiles: Vec<String>,
    filter: String,
    rows: Vec<Row>,
    /// Pods among the rows.
    found: usize,
    /// The longest line of names, filtered or not: columns do not move while somebody types.
    widest: usize,
    selected: usize,
    /// Once the person has moved, the selection follows its place; before, it is the first.
    moved: bool,
    top: usize,
    height: usize,
    choice: Option<Choice>,
    message: Option<String>,
}

impl State {
    /// A menu without places yet; the first profile is the default.
    pub fn new(profiles: Vec<String>) -> State {
        State {
            // Nothing has been seen yet, which is not the same as that there is nothing.
            seen: Arc::new(Seen { looking: true, ..Seen::default() }),
            profiles,
            filter: String::new(),
            rows: Vec::new(),
            found: 0,
            widest: 0,
            selected: 0,
            moved: false,
            top: 0,
            height: 1,
            choice: None,
            message: None,
        }
    }

    /// Takes what is seen now.
    pub fn see(&mut self, seen: Arc<Seen>) {
        let before = std::mem::replace(&mut self.seen, seen);
        let width = |place: &Arc<Place>| match place.workload() {
            Some((kind, name)) => (place.pod().len() + 4).max(name.len() + kind.len() + 4),
            None => place.pod().len() + 2,
        };
        self.widest = self.seen.places.iter().map(width).max().unwrap_or(0);
        let selected = self.row(self.selected).filter(|_| self.moved || self.choice.is_some());
        let near = if self.moved { self.selected } else { 0 };
        let stays = self.rebuild(selected.map(|row| (before, row)), near);
        if !stays {
            self.choice = None;
        }
    }

    /// Takes a key.
    pub fn press(&mut self, key: Key) -> Step {
        self.message = None;
        match (key, &mut self.choice) {
            (Key::Ctrl('c' | 'd'), _) => return Step::Leave,
            (Key::Ctrl('l'), _) => return Step::Redraw,
            (Key::Enter, _) => return self.enter(),
            (Key::Esc, Some(_)) => self.choice = None,
            (Key::Tab | Key::Right, Some(choice)) if choice.focus == Focus::Container => choice.focus = Focus::Profile,
            (Key::BackTab | Key::Left, Some(choice)) if choice.focus == Focus::Profile => {
                choice.focus = Focus::Container;
            }
            (Key::Tab | Key::BackTab, Some(_)) => self.choice = None,
            (Key::Up | Key::Ctrl('p'), Some(choice)) => choice.step(self.profiles.len(), -1),
            (Key::Down | Key::Ctrl('n'), Some(choice)) => choice.step(self.profiles.len(), 1),
            (_, Some(_)) => {}
            (Key::Esc, None) if self.filter.is_empty() => return Step::Leave,
            (Key::Esc | Key::Ctrl('u'), None) => self.search(""),
            (Key::Tab, None) => self.choice = self.choose(),
            (Key::Up | Key::Ctrl('p'), None) => self.go(-1),
            (Key::Down | Key::Ctrl('n'), None) => self.go(1),
            (Key::PageUp, None) => self.go(-self.page()),
            (Key::PageDown, None) => self.go(self.page()),
            (Key::Home, None) => self.go(isize::MIN),
            (Key::End, None) => self.go(isize::MAX),
            (Key::Left, None) => self.leap(false),
            (Key::Right, None) => self.leap(true),
            (Key::Backspace, None) => {
                let mut filter = self.filter.clone();
                filter.pop();
                self.search(&filter);
            }
            (Key::Ctrl('w'), None) => {
                let mut filter = self.filter.trim_end().to_owned();
                filter.truncate(filter.rfind(' ').map_or(0, |blank| blank + 1));
                self.search(&filter);
            }
            (Key::Char(typed), None) => self.search(&format!("{}{typed}", self.filter)),
            (Key::BackTab | Key::Ctrl(_), None) => {}
        }
        Step::Stay
    }

    /// Shows what has these words. Names are in lower case, and in ASCII.
    pub fn search(&mut self, filter: &str) {
        let (seen, selected) = (Arc::clone(&self.seen), self.row(self.selected));
        let kept = filter.chars().filter(|c| *c == ' ' || c.is_ascii_graphic()).take(FILTER_MAX_CHARS);
        self.filter = kept.collect::<String>().to_ascii_lowercase();
        self.rebuild(selected.map(|row| (seen, row)), 0);
    }

    /// The rows that `height` lines show, with the selection among them.
    pub fn window(&mut self, height: usize) -> Range<usize> {
        self.height = height.max(1);
        self.top = self.top.min(self.selected).min(self.rows.len().saturating_sub(self.height));
        self.top = self.top.max((self.selected + 1).saturating_sub(self.height));
        // What stands over the first place is shown with it, where there is room.
        while self.top > 0
            && self.selected - self.top + 1 < self.height
            && !matches!(self.rows.get(self.top - 1), Some(Row::Pod(_)) | None)
        {
            self.top -= 1;
        }
        self.top..(self.top + self.height).min(self.rows.len())
    }

    pub fn row(&self, at: usize) -> Option<Row> {
        self.rows.get(at).copied()
    }

    pub fn place(&self, at: usize) -> Option<&Arc<Place>> {
        self.seen.places.get(at)
    }

    pub fn places(&self, range: Range<usize>) -> &[Arc<Place>] {
        self.seen.places.get(range).unwrap_or_default()
    }

    pub fn selected(&self) -> usize {
        self.selected
    }

    pub fn filter(&self) -> &str {
        &self.filter
    }

    pub fn choice(&self) -> Option<&Choice> {
        self.choice.as_ref()
    }

    pub fn profiles(&self) -> &[String] {
        &self.profiles
    }

    pub fn is_looking(&self) -> bool {
        self.seen.looking
    }

    /// Characters that the names of the list need.
    pub fn widest(&self) -> usize {
        self.widest
    }

    /// Pods that the filter finds, and all.
    pub fn counts(&self) -> (usize, usize) {
        (self.found, self.seen.places.len())
    }

    /// What the person should know: of what they did, or of the view.
    pub fn note(&self) -> Option<&str> {
        self.message.as_deref().or(self.seen.note.as_deref())
    }

    /// The login name of the selected place, by a pod's name or its workload's.
    pub fn name(&self) -> Option<String> {
        let (namespace, name) = match self.row(self.selected)? {
            Row::Namespace(_) => return None,
            Row::Workload(first, _) => {
                self.place(first).and_then(|place| Some((place.namespace(), place.workload()?.1)))
            }
            Row::Pod(at) => self.place(at).map(|place| (place.namespace(), place.pod())),
        }?;
        Some(format!("{namespace}.{name}"))
    }

    fn page(&self) -> isize {
        isize::try_from(self.height.saturating_sub(1).max(1)).unwrap_or(1)
    }

    fn enter(&mut self) -> Step {
        let Some(name) = self.name() else { return Step::Stay };
        let name = match &self.choice {
            Some(choice) => name + &choice.suffix(&self.profiles),
            None => name,
        };
        match LoginName::parse(&name) {
            Ok(LoginName::Place(place)) => Step::Enter(place),
            Ok(LoginName::Lobby) => Step::Stay,
            Err(error) => {
                self.message = Some(error.to_string());
                Step::Stay
            }
        }
    }

    fn choose(&self) -> Option<Choice> {
        let (Row::Workload(at, _) | Row::Pod(at)) = self.row(self.selected)? else { return None };
        Some(Choice::of(self.place(at)?))
    }

    /// Makes the rows, and selects what was selected `before`, if it is still there, or else what is `near`; whether it is.
    fn rebuild(&mut self, before: Option<(Arc<Seen>, Row)>, near: usize) -> bool {
        let places = &self.seen.places;
        let words: Vec<&str> = self.filter.split_whitespace().collect();
        self.rows.clear();
        self.found = 0;
        let (mut first, mut namespace) = (0, "");
        while let Some(place) = places.get(first) {
            let same =
                |other: &Arc<Place>| other.namespace() == place.namespace() && other.workload() == place.workload();
            let more = places.iter().skip(first + 1);
            let end = match place.workload() {
                Some(_) => first + 1 + more.take_while(|other| same(other)).count(),
                None => first + 1,
            };
            let mut headed = place.workload().is_none();
            for at in (first..end).filter(|at| places.get(*at).is_some_and(|place| matches(place, &words))) {
                if namespace != place.namespace() {
                    namespace = place.namespace();
                    self.rows.push(Row::Namespace(first));
                }
                if !headed {
                    headed = true;
                    self.rows.push(Row::Workload(first, end));
                }
                self.rows.push(Row::Pod(at));
                self.found += 1;
            }
            first = end;
        }
        let kept = before.and_then(|(before, row)| {
            self.rows.iter().position(|now| match (row, *now) {
                (Row::Pod(then), Row::Pod(now)) => is_same(before.places.get(then), places.get(now), Place::uid),
                (Row::Workload(then, _), Row::Workload(now, _)) => {
                    is_same(before.places.get(then), places.get(now), |place| (place.namespace(), place.workload()))
                }
                _ => false,
            })
        });
        match kept {
            Some(at) => self.selected = at,
            None => self.select(near),
        }
        kept.is_some()
    }

    /// The place at this row, or the next one to it.
    fn select(&mut self, at: usize) {
        let at = at.min(self.rows.len().saturating_sub(1));
        let is_place = |row: &Row| !matches!(row, Row::Namespace(_));
        let after = self.rows.iter().skip(at).position(is_place).map(|more| at + more);
        self.selected = after.or_else(|| self.rows.iter().take(at).rposition(is_place)).unwrap_or(0);
    }

    fn go(&mut self, by: isize) {
        self.moved = true;
        let wanted = self.selected.saturating_add_signed(by);
        let at = wanted.min(self.rows.len().saturating_sub(1));
        // A heading is no place: on to the one beyond it.
        match self.row(at) {
            Some(Row::Namespace(_)) if by < 0 && at > 0 => self.selected = at - 1,
            _ => self.select(at),
        }
    }

    /// To the first place of the next or an earlier namespace.
    fn leap(&mut self, forward: bool) {
        self.moved = true;
        let heads = |row: &Row| matches!(row, Row::Namespace(_));
        let target = if forward {
            self.rows.iter().skip(self.selected).position(heads).map(|more| self.selected + more)
        } else {
            // From within a namespace to its first place, and from there to the one before.
            let before = self.selected.saturating_sub(2);
            self.rows.iter().take(before + 1).rposition(heads)
        };
        if let Some(at) = target {
            self.select(at);
        }
    }
}

fn is_same<'a, K: PartialEq>(
    one: Option<&'a Arc<Place>>,
    other: Option<&'a Arc<Place>>,
    key: impl Fn(&'a Place) -> K,
) -> bool {
    matches!((one, other), (Some(one), Some(other)) if key(one) == key(other))
}

/// Whether each word is in one of the names, or in the state. `namespace.name` is read as a login name is.
fn matches(place: &Place, words: &[&str]) -> bool {
    words.iter().all(|word| {
        let workload = place.workload().map_or("", |(_, name)| name);
        let state = &place.shown().state;
        place.pod().contains(word)
            || place.namespace().contains(word)
            || workload.contains(word)
            || word.split_once('.').is_some_and(|(namespace, name)| {
                place.namespace().ends_with(namespace) && (place.pod().starts_with(name) || workload.starts_with(name))
            })
            || state.to_ascii_lowercase().contains(word)
    })
}

#[cfg(test)]
mod tests;
