//! Recordings: what a person saw, as asciicast files (version 2), written while it happens.
//!
//! Guards: what must be recorded is on its way to the person only once the file has it, and a recorder that fails or is
//! full ends what it was to record. What people type is not recorded: passwords are typed where nothing shows them.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::audit::SessionId;
use crate::config;

mod text;

use text::Text;

/// Where recordings go.
pub struct Recorder {
    folder: PathBuf,
    max_bytes: u64,
}

/// What a recording says of itself.
#[derive(Debug, Clone)]
pub struct Title<'a> {
    pub session: &'a SessionId,
    pub subject: &'a str,
    pub target: &'a str,
    pub command: Option<&'a str>,
    /// The terminal's name and size; a program without one has none.
    pub terminal: Option<(&'a str, u16, u16)>,
}

/// One recording that goes on.
pub struct Recording {
    file: PathBuf,
    started: Instant,
    tape: Mutex<Tape>,
}

struct Tape {
    out: File,
    left: u64,
    text: Text,
}

/// A recording that cannot be made, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("cannot write the recording {file}: {source}", file = file.display())]
    Unwritable { file: PathBuf, source: io::Error },
    #[error("the recording {file} has reached recording.max-bytes", file = file.display())]
    Full { file: PathBuf },
    #[error("recording.folder: {folder} is not there, or is no folder", folder = folder.display())]
    NoFolder { folder: PathBuf },
}

impl Recorder {
    /// None where no folder is configured. The folder must be there.
    pub async fn open(settings: &config::Recording) -> Result<Option<Recorder>, RecordingError> {
        let Some(folder) = settings.folder.clone() else { return Ok(None) };
        match tokio::fs::metadata(&folder).await {
            Ok(there) if there.is_dir() => Ok(Some(Recorder { folder, max_bytes: settings.max_bytes })),
            _ => Err(RecordingError::NoFolder { folder }),
        }
    }

    /// Begins a file of its own, which only Porthole's user can read.
    pub async fn begin(&self, title: &Title<'_>) -> Result<Recording, RecordingError> {
        let now = Timestamp::now();
        // No session has another's id, so none writes over another.
        let file = self.folder.join(format!("{}-{}.cast", now.strftime("%Y%m%dT%H%M%SZ"), title.session));
        let unwritable = |source| RecordingError::Unwritable { file: file.clone(), source };
        let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).await.map_err(unwritable)?;
        let tape = Tape { out, left: self.max_bytes, text: Text::default() };
        let recording = Recording { file: file.clone(), started: Instant::now(), tape: Mutex::new(tape) };
        let (term, columns, rows) = title.terminal.unwrap_or(("dumb", 80, 24));
        let header = json!({
            "version": 2,
            "width": columns,
            "height": rows,
            "timestamp": now.as_second(),
            "title": format!("{} in {}, session {}", title.subject, title.target, title.session),
            "command": title.command,
            "env": { "TERM": term },
        });
        recording.line(&mut *recording.tape.lock().await, &header).await?;
        Ok(recording)
    }
}

impl Recording {
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Records what goes to the person; returns when the file has it.
    pub async fn output(&self, bytes: &[u8]) -> Result<(), RecordingError> {
        let mut tape = self.tape.lock().await;
        match tape.text.take(bytes) {
            text if text.is_empty() => Ok(()),
            text => self.event(&mut tape, "o", &text).await,
        }
    }

    /// Records the terminal's new size.
    pub async fn resize(&self, columns: u16, rows: u16) -> Result<(), RecordingError> {
        let mut tape = self.tape.lock().await;
        self.event(&mut tape, "r", &format!("{columns}x{rows}")).await
    }

    async fn event(&self, tape: &mut Tape, kind: &str, text: &str) -> Result<(), RecordingError> {
        let seconds = (self.started.elapsed().as_secs_f64() * 1e6).round() / 1e6;
        self.line(tape, &json!([seconds, kind, text])).await
    }

    async fn line(&self, tape: &mut Tape, value: &serde_json::Value) -> Result<(), RecordingError> {
        let line = format!("{value}\n");
        let left = tape.left.checked_sub(line.len() as u64);
        tape.left = left.ok_or_else(|| RecordingError::Full { file: self.file.clone() })?;
        let written = async {
            tape.out.write_all(line.as_bytes()).await?;
            // Until then it is only on its way there.
            tape.out.flush().await
        };
        written.await.map_err(|source| RecordingError::Unwritable { file: self.file.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::ConnectionId;

    async fn begin(max_bytes: u64) -> (tempfile::TempDir, Recording) {
        let folder = tempfile::tempdir().unwrap();
        let settings = config::Recording { folder: Some(folder.path().to_owned()), max_bytes };
        let recorder = Recorder::open(&settings).await.unwrap().unwrap();
        let session = ConnectionId::random().session(1);
        let terminal = Some(("xterm", 100, 30));
        let title = Title { session: &session, subject: "dev", target: "demo.web+web", command: None, terminal };
        let recording = recorder.begin(&title).await.unwrap();
        (folder, recording)
    }

    #[tokio::test]
    async fn a_recording_is_a_header_and_what_was_shown_with_its_moment() {
        let (_folder, recording) = begin(10_000).await;
        // A character that comes in two pieces is one in the file.
        recording.output(b"caf\xc3").await.unwrap();
        recording.output(b"\xa9\r\n").await.unwrap();
        recording.resize(120, 40).await.unwrap();
        let text = std::fs::read_to_string(recording.file()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (&lines[0]["version"], &lines[0]["width"], &lines[0]["height"]),
            (&2.into(), &100.into(), &30.into())
        );
        let events: Vec<_> = lines[1..].iter().map(|event| (event[1].as_str(), event[2].as_str())).collect();
        assert_eq!(events, [(Some("o"), Some("caf")), (Some("o"), Some("é\r\n")), (Some("r"), Some("120x40"))]);
        assert!(lines[1][0].as_f64().unwrap() >= 0.0);
    }

    #[tokio::test]
    async fn a_full_recording_takes_nothing_more() {
        let (_folder, recording) = begin(400).await;
        assert!(matches!(recording.output(&[b'x'; 400]).await, Err(RecordingError::Full { .. })));
    }
}
