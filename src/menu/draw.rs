//! The full screen: a title, the filter, the list under its column heads, a line on the selection, and the keys.
//!
//! Only the lines that are seen are made. Smaller screens lose what is needed least, line by line and column by column.

use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Row as TableRow, Table, Widget as _};

use super::choice::{Choice, Focus};
use super::state::{Row, State};
use crate::cluster::Place;
use crate::session::{age, plain};

/// What a frame shows beside the menu's state.
pub struct Look<'a> {
    /// The person, as they are named to policies.
    pub subject: &'a str,
    pub now: Timestamp,
    /// Whether the terminal shows more than ASCII.
    pub unicode: bool,
}

/// The columns after the name: title, width, and how wide the screen must be for it, so that a name keeps its room.
const COLUMNS: [(&str, u16, u16); 4] = [("READY", 5, 52), ("STATE", 18, 44), ("RESTARTS", 8, 68), ("AGE", 4, 58)];
/// From here on names take what they need, so that the other columns stand near them, and there is room for one more.
const WIDE: u16 = 120;
const NAME_WIDE_MIN: usize = 32;
/// The widest state on wide screens.
const STATE_WIDE: u16 = 28;

const PLAIN: Style = Style::new();
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const HEAD: Style = Style::new().add_modifier(Modifier::UNDERLINED).add_modifier(Modifier::DIM);
const ACCENT: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
const WARNING: Style = Style::new().fg(Color::Yellow);
/// One line, one colour: what is selected stands out by nothing else.
const SELECTED: Style = Style::new().fg(Color::Reset).add_modifier(Modifier::REVERSED).remove_modifier(Modifier::DIM);

/// Draws the whole screen.
pub fn draw(state: &mut State, look: &Look<'_>, area: Rect, buffer: &mut Buffer) {
    let mut lines = Lines { area, buffer, top: 0, bottom: area.height };
    if area.height >= 8 {
        let place = if state.choice().is_some() { "a container and a profile" } else { "the places open to you" };
        let title = Line::from_iter([Span::styled("porthole", ACCENT), Span::styled(format!("  {place}"), DIM)]);
        lines.top(title, Line::styled(plain(look.subject), DIM));
    }
    if area.height >= 3 {
        lines.bottom(keys(state, area.width), Line::styled(count(state), DIM));
    }
    if area.height >= 6 {
        lines.bottom(detail(state), Line::default());
    }
    if let Some(choice) = state.choice() {
        let name = state.name().unwrap_or_default();
        if area.height >= 8 {
            lines.top(Line::styled(name, BOLD), Line::default());
            lines.skip(1);
        }
        return choices(choice, state, lines.middle(1), buffer);
    }
    if area.height >= 2 {
        lines.top(filter(state), Line::default());
    }
    if area.height >= 10 {
        lines.skip(1);
    }
    let middle = lines.middle(1);
    list(state, look, area.height >= 5, middle, buffer);
}

/// A screen that is filled from both ends.
struct Lines<'a> {
    area: Rect,
    buffer: &'a mut Buffer,
    top: u16,
    bottom: u16,
}

impl Lines<'_> {
    fn top(&mut self, left: Line<'_>, right: Line<'_>) {
        self.put(self.top, left, right);
        self.top += 1;
    }

    fn bottom(&mut self, left: Line<'_>, right: Line<'_>) {
        self.bottom = self.bottom.saturating_sub(1);
        self.put(self.bottom, left, right);
    }

    fn skip(&mut self, lines: u16) {
        self.top += lines;
    }

    /// One line, with a blank at each side; what is on the right gives way.
    fn put(&mut self, line: u16, left: Line<'_>, right: Line<'_>) {
        let margin = u16::from(self.area.width > 20);
        let width = self.area.width.saturating_sub(2 * margin);
        if line >= self.area.height {
            return;
        }
        let (used, _) = self.buffer.set_line(margin, line, &left, width);
        let needed = u16::try_from(right.width()).unwrap_or(u16::MAX);
        if needed > 0 && used.saturating_add(needed).saturating_add(1) <= margin + width {
            self.buffer.set_line(margin + width - needed, line, &right, needed);
        }
    }

    /// What is left between both ends.
    fn middle(&self, gap: u16) -> Rect {
        let gap = if self.area.height >= 14 { gap } else { 0 };
        let margin = u16::from(self.area.width > 20);
        let height = self.bottom.saturating_sub(self.top).saturating_sub(gap);
        Rect::new(margin, self.top, self.area.width.saturating_sub(2 * margin), height)
    }
}

fn filter(state: &State) -> Line<'static> {
    let mark = Span::styled("> ", ACCENT);
    let cursor = Span::styled(" ", SELECTED);
    match state.filter() {
        "" => Line::from_iter([mark, cursor, Span::styled(" type to filter", DIM)]),
        text => Line::from_iter([mark, Span::styled(text.to_owned(), BOLD), cursor]),
    }
}

fn detail(state: &State) -> Line<'static> {
    if let Some(note) = state.note() {
        return Line::styled(plain(note), WARNING);
    }
    match state.name() {
        Some(name) => {
            let suffix = state.choice().map(|choice| choice.suffix(state.profiles())).unwrap_or_default();
            Line::from_iter([
                Span::styled("login name  ", DIM),
                Span::styled(name, PLAIN),
                Span::styled(suffix, Style::new().fg(Color::Cyan)),
            ])
        }
        None => Line::default(),
    }
}

fn keys(state: &State, width: u16) -> Line<'static> {
    let back = if state.filter().is_empty() { "leave" } else { "clear" };
    let keys: &[(&str, &str)] = match state.choice() {
        Some(_) => &[("Enter", "go in"), ("Tab", "next"), ("Up/Down", "choose"), ("Esc", "back")],
        None => &[("Enter", "go in"), ("Tab", "container, profile"), ("Esc", back), ("Left/Right", "namespace")],
    };
    let mut line = Line::default();
    for (key, does) in keys {
        let gap = if line.spans.is_empty() { "" } else { "   " };
        let needed = gap.len() + key.len() + 1 + does.len();
        if line.width() + needed + 14 > usize::from(width) && !line.spans.is_empty() {
            break;
        }
        line.push_span(Span::raw(gap));
        line.push_span(Span::styled(*key, BOLD));
        line.push_span(Span::styled(format!(" {does}"), DIM));
    }
    line
}

fn count(state: &State) -> String {
    let (found, all) = state.counts();
    let pods = if all == 1 { "pod" } else { "pods" };
    match state.is_looking() {
        true => format!("looking, {all} {pods}"),
        false if found == all => format!("{all} {pods}"),
        false => format!("{found} of {all} {pods}"),
    }
}

fn list(state: &mut State, look: &Look<'_>, headed: bool, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let height = usize::from(area.height.saturating_sub(u16::from(headed)));
    let window = state.window(height);
    if window.is_empty() {
        let words = match (state.is_looking(), state.counts().1) {
            (true, _) => "looking for the places that are open to you",
            (false, 0) if state.note().is_some() => "no place can be shown just now",
            (false, 0) => "no place is open to you: ask whoever runs this for access, and it shows here",
            (false, _) => "nothing has this in its name: Esc clears the filter",
        };
        buffer.set_line(area.x, area.y, &Line::styled(words, DIM), area.width);
        return;
    }
    let width = area.width;
    let columns: Vec<_> = (COLUMNS.into_iter().filter(|(_, _, from)| width >= *from))
        .map(|(title, own, _)| (title, if title == "STATE" && width >= WIDE { STATE_WIDE } else { own }))
        .collect();
    let others: u16 = columns.iter().map(|(_, width)| width + 2).sum();
    let wide = width >= WIDE;
    let needed = u16::try_from(state.widest().max(NAME_WIDE_MIN)).unwrap_or(u16::MAX);
    let name_width = width.saturating_sub(others).min(if wide { needed } else { u16::MAX });
    let mut widths = vec![Constraint::Length(name_width)];
    widths.extend(columns.iter().map(|(_, width)| Constraint::Length(*width)));
    if wide {
        widths.push(Constraint::Fill(1));
    }
    // A namespace whose own line is above the window is named in the head.
    let over = match state.row(window.start) {
        Some(Row::Workload(at, _) | Row::Pod(at)) => state.place(at).map(|place| place.namespace()),
        _ => None,
    };
    let name =
        Line::from_iter([Span::styled("NAME  ", HEAD), Span::styled(over.unwrap_or_default().to_owned(), ACCENT)]);
    let others = columns.iter().map(|(title, _)| *title).chain(wide.then_some("CONTAINERS"));
    let others = others.map(|title| cell(title.to_owned(), HEAD, side(title)));
    let head: Vec<_> = std::iter::once(Cell::from(name)).chain(others).collect();
    let (selected, first) = (state.selected(), window.start);
    let rows = window.filter_map(|at| {
        let fields = fields(state, state.row(at)?, look, usize::from(name_width))?;
        let mut cells = vec![Cell::from(fields.name)];
        for (title, width) in &columns {
            let (text, style) = match *title {
                "READY" => (fields.ready.clone(), PLAIN),
                "STATE" => (short(&fields.state, usize::from(*width), look.unicode), judge(&fields.state)),
                "RESTARTS" => (fields.restarts.clone(), PLAIN),
                _ => (fields.age.clone(), PLAIN),
            };
            cells.push(cell(text, style, side(title)));
        }
        if wide {
            cells.push(cell(fields.containers, DIM, Alignment::Left));
        }
        Some(TableRow::new(cells))
    });
    let table = Table::new(rows.collect::<Vec<_>>(), widths).column_spacing(2);
    let table = if headed { table.header(TableRow::new(head).style(HEAD)) } else { table };
    table.render(area, buffer);
    let line = u16::try_from(selected.saturating_sub(first)).unwrap_or(u16::MAX);
    let line = area.y.saturating_add(u16::from(headed)).saturating_add(line);
    buffer.set_style(Rect { y: line, height: 1, ..area }.intersection(area), SELECTED);
}

/// The columns of one row.
struct Fields {
    name: Line<'static>,
    ready: String,
    state: String,
    restarts: String,
    age: String,
    containers: String,
}

fn fields(state: &State, row: Row, look: &Look<'_>, width: usize) -> Option<Fields> {
    let empty = |name| Fields {
        name,
        ready: String::new(),
        state: String::new(),
        restarts: String::new(),
        age: String::new(),
        containers: String::new(),
    };
    match row {
        Row::Namespace(at) => {
            let place = state.place(at)?;
            Some(empty(Line::styled(short(place.namespace(), width, look.unicode), ACCENT)))
        }
        Row::Workload(first, end) => {
            let pods = state.places(first..end);
            let (kind, name) = pods.first()?.workload()?;
            let name = short(name, width.saturating_sub(2), look.unicode);
            let kind = if name.len() + kind.len() + 4 <= width { format!("  {kind}") } else { String::new() };
            let ready = pods.iter().filter(|place| is_ready(place)).count();
            let name = Line::from_iter([Span::raw("  "), Span::styled(name, BOLD), Span::styled(kind, DIM)]);
            Some(Fields { ready: format!("{ready}/{}", pods.len()), ..empty(name) })
        }
        Row::Pod(at) => {
            let place = state.place(at)?;
            let shown = place.shown();
            let indent = if place.workload().is_some() { "    " } else { "  " };
            let name = short(place.pod(), width.saturating_sub(indent.len()), look.unicode);
            Some(Fields {
                name: Line::from(format!("{indent}{name}")),
                ready: format!("{}/{}", shown.ready, shown.total),
                state: shown.state.clone(),
                restarts: shown.restarts.to_string(),
                age: shown.created.map(|created| age(created, look.now)).unwrap_or_default(),
                containers: plain(&place.containers().collect::<Vec<_>>().join(", ")),
            })
        }
    }
}

fn is_ready(place: &Place) -> bool {
    place.shown().ready == place.shown().total && place.shown().total > 0
}

/// Numbers stand at the right of their column.
fn side(title: &str) -> Alignment {
    if ["READY", "RESTARTS", "AGE"].contains(&title) { Alignment::Right } else { Alignment::Left }
}

fn cell(text: String, style: Style, alignment: Alignment) -> Cell<'static> {
    Cell::from(Text::from(text).style(style).alignment(alignment))
}

/// What is as it should be has no colour; what is on its way is yellow, and what is wrong red.
fn judge(state: &str) -> Style {
    match state {
        "" | "Running" | "Completed" | "Succeeded" => PLAIN,
        "Pending" | "ContainerCreating" | "PodInitializing" | "Terminating" | "NotReady" => WARNING,
        starting if starting.starts_with("Init:") && starting.contains('/') => WARNING,
        _ => Style::new().fg(Color::Red),
    }
}

/// The text, or its beginning with a mark that it goes on. All names are ASCII.
fn short(text: &str, width: usize, unicode: bool) -> String {
    if text.len() <= width {
        return text.to_owned();
    }
    let mark = if unicode { '…' } else { '~' };
    text.chars().take(width.saturating_sub(1)).chain((width > 0).then_some(mark)).collect()
}

fn choices(choice: &Choice, state: &State, area: Rect, buffer: &mut Buffer) {
    let half = area.width / 2;
    let left = Rect { width: half.saturating_sub(1).min(48), ..area };
    let right = Rect { x: area.x + left.width + 2, width: (area.width - left.width).saturating_sub(2).min(48), ..area };
    let containers = choice.containers.iter().enumerate();
    let containers = containers.map(|(at, name)| (plain(name), choice.is_default(at))).collect();
    let profiles = state.profiles().iter().enumerate().map(|(at, name)| (plain(name), at == 0)).collect();
    options("CONTAINER", containers, choice.container, choice.focus == Focus::Container, left, buffer);
    options("PROFILE", profiles, choice.profile, choice.focus == Focus::Profile, right, buffer);
}

fn options(title: &str, names: Vec<(String, bool)>, chosen: usize, focused: bool, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 || area.width == 0 {
        return;
    }
    buffer.set_line(area.x, area.y, &Line::styled(title.to_owned(), HEAD), area.width);
    buffer.set_style(Rect { height: 1, ..area }, HEAD);
    let height = usize::from(area.height - 1);
    let top = (chosen + 1).saturating_sub(height);
    for (line, (at, (name, default))) in (area.y + 1..).zip(names.into_iter().enumerate().skip(top).take(height)) {
        let mark = if at == chosen { "* " } else { "  " };
        let note = if default { "  default" } else { "" };
        let style = if at == chosen { BOLD } else { PLAIN };
        let text = Line::from_iter([Span::styled(format!("{mark}{name}"), style), Span::styled(note, DIM)]);
        buffer.set_line(area.x, line, &text, area.width);
        if at == chosen && focused {
            buffer.set_style(Rect { y: line, height: 1, ..area }, SELECTED);
        }
    }
}

#[cfg(test)]
mod tests;
