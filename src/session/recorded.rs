//! A client whose output is recorded: each piece is in the file before it is on its way.

use bytes::Bytes;
use tokio::sync::{Notify, OnceCell};

use super::exit::Failure;
use super::request::Request;
use super::{Caller, ClientGone, Outlet, Sessions};
use crate::audit::{Event, SessionId};
use crate::authorize::{Action, Grant};
use crate::recording::{Recording, RecordingError, Title};

/// An outlet with a recorder before it, where there is one.
pub(super) struct Recorded<'a, O> {
    output: &'a O,
    recording: Option<&'a Recording>,
    failure: OnceCell<Failure>,
    failed: Notify,
}

impl Sessions {
    /// Begins the recording that a grant asks for. Of files and forwards nothing is shown: the audit trail has them.
    pub(super) async fn recording(
        &self,
        caller: &Caller,
        session: &SessionId,
        grant: &Grant,
        request: &Request,
    ) -> Result<Option<Recording>, Failure> {
        let shows = matches!(grant.action(), Action::Shell | Action::Exec { .. });
        if !grant.obligations().record || !shows {
            return Ok(None);
        }
        let Some(recorder) = &self.recorder else {
            // The gate grants nothing that it cannot have recorded.
            return Err(Failure::new("recorder_unavailable", "this must be recorded, and cannot be"));
        };
        let terminal = request.terminal.as_ref();
        let title = Title {
            session,
            subject: caller.identity.subject(),
            target: &grant.target().to_string(),
            command: grant.action().command(),
            terminal: terminal.map(|terminal| (terminal.name.as_str(), terminal.size.columns, terminal.size.rows)),
        };
        let recording = recorder.begin(&title).await.map_err(failure)?;
        let told = Event::RecordingStarted {
            subject: caller.identity.subject().to_owned(),
            target: grant.target().to_string(),
            file: recording.file().display().to_string(),
        };
        self.record(&caller.connection, session, &told).await?;
        Ok(Some(recording))
    }
}

impl<'a, O: Outlet> Recorded<'a, O> {
    pub(super) fn new(output: &'a O, recording: Option<&'a Recording>) -> Recorded<'a, O> {
        Recorded { output, recording, failure: OnceCell::new(), failed: Notify::new() }
    }

    /// Records a new size.
    pub(super) async fn resize(&self, columns: u16, rows: u16) {
        if let Some(recording) = self.recording
            && let Err(error) = recording.resize(columns, rows).await
        {
            self.fail(error);
        }
    }

    /// Returns when the recording cannot go on, so that neither can the session.
    pub(super) async fn failed(&self) -> Failure {
        loop {
            let told = self.failed.notified();
            if let Some(failure) = self.failure.get() {
                return failure.clone();
            }
            told.await;
        }
    }

    async fn record(&self, bytes: &Bytes) {
        let Some(recording) = self.recording else { return };
        if let Err(error) = recording.output(bytes).await {
            self.fail(error);
            // What is not recorded is not shown, and the session ends by `failed`.
            std::future::pending::<()>().await;
        }
    }

    fn fail(&self, error: RecordingError) {
        // The first failure is the one to tell.
        let _ = self.failure.set(failure(error));
        self.failed.notify_waiters();
    }
}

impl<O: Outlet> Outlet for Recorded<'_, O> {
    async fn stdout(&self, bytes: Bytes) -> Result<(), ClientGone> {
        self.record(&bytes).await;
        self.output.stdout(bytes).await
    }

    async fn stderr(&self, bytes: Bytes) -> Result<(), ClientGone> {
        self.record(&bytes).await;
        self.output.stderr(bytes).await
    }
}

fn failure(error: RecordingError) -> Failure {
    let person = match &error {
        RecordingError::Full { .. } => "this session's recording is full, so it has been ended: log in again",
        _ => "this session must be recorded, and cannot be, so it has been ended: tell whoever runs porthole",
    };
    Failure { code: "recording_failed", person: person.to_owned(), operator: error.to_string() }
}
