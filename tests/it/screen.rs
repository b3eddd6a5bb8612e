//! A person's terminal: `ssh` runs in a real one, by `script`, and what it writes is shown on a screen that a test can
//! read.
//!
//! The screen knows what the menu may write, and nothing else: any other sequence fails the test.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use crate::house::{House, PATIENCE, text};

/// `ssh` in a terminal.
pub struct Window {
    child: Child,
    shared: Arc<Shared>,
    /// Of the process in the terminal, which became `ssh`.
    id: String,
}

#[derive(Default)]
struct Shared {
    state: Mutex<Received>,
    more: Condvar,
}

/// All that came, and what the screen shows of it.
#[derive(Default)]
pub struct Received {
    pub bytes: Vec<u8>,
    pub screen: Screen,
    ended: bool,
}

/// Lines of characters, while the menu has the whole screen.
#[derive(Default)]
pub struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// A sequence that is not whole.
    partial: Vec<u8>,
    pub full: bool,
}

impl Window {
    /// Opens a window of that size, where `ssh LOGIN@porthole` runs with this `TERM`.
    pub fn open(house: &House, login: &str, term: &str, [columns, rows]: [u16; 2]) -> Window {
        Window::with(house, login, term, [columns, rows], "")
    }

    /// The same with more options for `ssh`.
    pub fn with(house: &House, login: &str, term: &str, [columns, rows]: [u16; 2], options: &str) -> Window {
        let config = house.file("ssh_config");
        let client = format!(
            "stty cols {columns} rows {rows}; echo pid:$$:; exec ssh -F {} {options} {login}@porthole",
            config.display()
        );
        let mut child = Command::new("script")
            .args(["-qefc", &client, "/dev/null"])
            .env("TERM", term)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is installed (util-linux)");
        let mut output = child.stdout.take().expect("piped");
        let shared = Arc::<Shared>::default();
        let reader = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let read = output.read(&mut buffer).unwrap_or(0);
                let mut state = reader.state.lock().expect("not poisoned");
                let state = &mut *state;
                state.bytes.extend_from_slice(&buffer[..read]);
                buffer[..read].iter().for_each(|byte| state.screen.take(*byte));
                state.ended |= read == 0;
                reader.more.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        let mut window = Window { child, shared, id: String::new() };
        window.id = window.until("process id", |seen| {
            let seen = text(&seen.bytes);
            Some(seen.split_once("pid:")?.1.split_once(':')?.0.to_owned())
        });
        window
    }

    /// Waits until `look` finds something in what has come.
    pub fn until<T>(&self, what: &str, look: impl Fn(&Received) -> Option<T>) -> T {
        let mut state = self.shared.state.lock().expect("not poisoned");
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            assert!(!state.ended, "it ended without {what}: {}", text(&state.bytes));
            let (next, waited) = self.shared.more.wait_timeout(state, PATIENCE).expect("not poisoned");
            state = next;
            assert!(!waited.timed_out(), "no {what}:\n{}\n{:?}", state.screen.text(), text(&state.bytes));
        }
    }

    /// Waits until the screen shows all of these, and none of those.
    pub fn shows(&self, words: &[&str], not: &[&str]) -> String {
        self.until(&format!("{words:?} without {not:?}"), |seen| {
            let shown = seen.screen.text();
            let found = seen.screen.full && words.iter().all(|word| shown.contains(word));
            (found && !not.iter().any(|word| shown.contains(word))).then_some(shown)
        })
    }

    /// Waits until this has come, on whatever screen.
    pub fn says(&self, words: &str) {
        self.until(words, |seen| text(&seen.bytes).contains(words).then_some(()));
    }

    pub fn keys(&mut self, keys: &str) {
        let input = self.child.stdin.as_mut().expect("piped");
        input.write_all(keys.as_bytes()).and_then(|()| input.flush()).expect("the terminal is open");
    }

    /// The window is made another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        let tty = std::fs::read_link(format!("/proc/{}/fd/0", self.id)).expect("the client's terminal");
        let size = ["cols", &columns.to_string(), "rows", &rows.to_string()].map(str::to_owned);
        let resized = Command::new("stty").arg("-F").arg(&tty).args(size).status().expect("stty runs");
        assert!(resized.success());
    }

    /// The exit status of `ssh`, and all that came.
    pub fn end(&mut self) -> (Option<i32>, Vec<u8>) {
        let status = {
            let mut state = self.shared.state.lock().expect("not poisoned");
            while !state.ended {
                let (next, waited) = self.shared.more.wait_timeout(state, PATIENCE).expect("not poisoned");
                state = next;
                assert!(!waited.timed_out(), "it does not end:\n{}\n{:?}", state.screen.text(), text(&state.bytes));
            }
            self.child.wait().expect("a child of ours")
        };
        (status.code(), self.shared.state.lock().expect("not poisoned").bytes.clone())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Screen {
    pub fn text(&self) -> String {
        let lines = self.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What stands in the last line that has anything.
    pub fn last(&self) -> (usize, String) {
        let text = self.text();
        let lines: Vec<_> = text.lines().collect();
        let at = lines.iter().rposition(|line| !line.is_empty()).unwrap_or(0);
        (at + 1, lines.get(at).map_or_else(String::new, |line| (*line).to_owned()))
    }

    fn take(&mut self, byte: u8) {
        self.partial.push(byte);
        match self.partial.as_slice() {
            [0x1b] | [0x1b, b'['] => {}
            [0x1b, b'[', middle @ .., last] if last.is_ascii_alphabetic() => {
                let parameters = String::from_utf8_lossy(middle).into_owned();
                let last = char::from(*last);
                self.partial.clear();
                self.act(&parameters, last);
            }
            [0x1b, b'[', ..] => {}
            whole if std::str::from_utf8(whole).is_ok() => {
                let text = text(whole);
                self.partial.clear();
                text.chars().for_each(|shown| self.put(shown));
            }
            _ => assert!(self.partial.len() < 4, "no text: {:?}", self.partial),
        }
    }

    fn act(&mut self, parameters: &str, last: char) {
        match (parameters, last) {
            ("?1049", 'h') => self.full = true,
            ("?1049", 'l') => self.full = false,
            ("2", 'J') => self.lines.clear(),
            (_, 'H') => {
                let (row, column) = parameters.split_once(';').unwrap_or(("1", "1"));
                self.row = row.parse::<usize>().expect("a row") - 1;
                self.column = column.parse::<usize>().expect("a column") - 1;
            }
            (_, 'm') | ("?25", 'h' | 'l') => {}
            // What a shell writes is no matter of the menu's.
            _ => assert!(!self.full, "the menu wrote ESC [ {parameters} {last}"),
        }
    }

    fn put(&mut self, shown: char) {
        if !self.full {
            return;
        }
        assert!(!shown.is_control(), "the menu wrote {shown:?}");
        if self.lines.len() <= self.row {
            self.lines.resize(self.row + 1, Vec::new());
        }
        let line = &mut self.lines[self.row];
        if line.len() <= self.column {
            line.resize(self.column + 1, ' ');
        }
        line[self.column] = shown;
        self.column += 1;
    }
}
