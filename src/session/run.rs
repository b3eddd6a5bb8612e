//! Runs one session from its request to its end.
//!
//! What has been started in a pod is also ended: a client that leaves, at whatever moment, leaves a task behind that
//! sees the container's end, and `Sessions::finish` waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::{mpsc, watch};

use super::exit::{Exit, Failure};
use super::plain::plain;
use super::pump::{self, Counts};
use super::recorded::Recorded;
use super::request::{Request, What};
use super::start::Leftover;
use super::tenure::Tenure;
use super::word::Word;
use super::{Caller, Client, ClientGone, Outlet, Sessions, bounded};
use crate::audit::{Event, SessionId};
use crate::authorize::{Action, Grant};
use crate::cluster::{Control, End, Process, WindowSize};
use crate::recording::Recording;

impl Sessions {
    /// Serves `request` for `client` and returns how it ended. Never longer than the client, the grant and, where the
    /// configuration says so, the credential last.
    pub async fn run<O: Outlet>(
        self: &Arc<Self>,
        caller: &Caller,
        session: &SessionId,
        request: Request,
        mut client: Client<O>,
    ) -> Exit {
        if let Some(word) = Word::of(caller, &request) {
            return self.answer(caller, session, word, &request, &client).await;
        }
        match self.open(caller, session, request, &client).await {
            Ok(Some(opened)) => self.serve(caller, session, opened, &mut client).await,
            Ok(None) => Exit::ClientLeft,
            Err(failure) => {
                tracing::info!(%session, code = failure.code, detail = failure.operator, "session refused or failed");
                Exit::Failed(failure)
            }
        }
    }

    /// Up to a process that runs; none if the client left before.
    async fn open<O: Outlet>(
        self: &Arc<Self>,
        caller: &Caller,
        session: &SessionId,
        mut request: Request,
        client: &Client<O>,
    ) -> Result<Option<Opened>, Failure> {
        self.force_command(caller, session, &mut request).await?;
        let admitted = self.admit(caller, session, request.what.action()).await?;
        let recording = self.recording(caller, session, &admitted.grant, &request).await?;
        if self.greet(&admitted.grant, &request, &client.output).await.is_err() {
            return Ok(None);
        }
        let hold = Arc::clone(&client.hold);
        let starting = self.start(caller, session, &admitted, request, client.sizes.clone(), hold);
        tokio::select! {
            process = starting => {
                let tenure = self.tenure(caller, admitted.changes);
                Ok(Some(Opened { process: process?, grant: admitted.grant, recording, tenure }))
            }
            () = client.gone.cancelled() => Ok(None),
            failure = self.discounted(caller) => Err(failure),
        }
    }

    /// Shows the message that a grant comes with, to those who read what a program says.
    async fn greet(&self, grant: &Grant, request: &Request, output: &impl Outlet) -> Result<(), ClientGone> {
        let (Some(message), Action::Shell | Action::Exec { .. }) = (&grant.obligations().message, grant.action())
        else {
            return Ok(());
        };
        let newline = if request.terminal.is_some() { "\r\n" } else { "\n" };
        let shown: String = message.lines().map(|line| plain(line) + newline).collect();
        output.stderr(shown.into()).await
    }

    /// A certificate's `force-command` replaces whatever was asked for, as sshd does it: the client's own wish is left in
    /// the environment, and in the trail.
    async fn force_command(&self, caller: &Caller, session: &SessionId, request: &mut Request) -> Result<(), Failure> {
        let Some(forced) = caller.identity.force_command() else { return Ok(()) };
        let asked = match &request.what {
            What::Shell => None,
            What::Command(command) => Some(command.clone()),
            What::Sftp => Some("internal-sftp".to_owned()),
        };
        let told = Event::CommandForced {
            subject: caller.identity.subject().to_owned(),
            asked: asked.clone(),
            forced: forced.to_owned(),
        };
        self.record(&caller.connection, session, &told).await?;
        bounded(&request.what.action())?;
        request.env.extend(asked.map(|asked| ("SSH_ORIGINAL_COMMAND".to_owned(), asked)));
        request.what = What::Command(forced.to_owned());
        Ok(())
    }

    async fn serve<O: Outlet>(
        self: &Arc<Self>,
        caller: &Caller,
        session: &SessionId,
        opened: Opened,
        client: &mut Client<O>,
    ) -> Exit {
        let Opened { process, grant, recording, tenure } = opened;
        let Process { mut input, mut output, control, container, .. } = process;
        let started = Instant::now();
        let counts = Counts::default();

        let ending = {
            let recorded = Recorded::new(&client.output, recording.as_ref());
            let inward = pump::inward(&client.input, &mut input, &counts);
            let outward = pump::outward(&mut output, &recorded, &counts);
            let terminal = follow(&mut client.sizes, &mut client.signals, &control, &recorded);
            tokio::select! {
                // The output's end is the session's; the other two go on beside it and never end it.
                sent = outward => if sent.is_ok() { Ending::Output } else { Ending::ClientLeft },
                never = async { tokio::join!(inward, terminal).1 } => match never {},
                () = client.gone.cancelled() => Ending::ClientLeft,
                failure = tenure.over(self, caller, session, &grant) => Ending::Failed(failure),
                failure = self.discounted(caller) => Ending::Failed(failure),
                failure = recorded.failed() => Ending::Failed(failure),
                () = self.closing.cancelled() => Ending::Failed(shutting_down()),
            }
        };
        let (exit, code) = match ending {
            Ending::Output => match control.exit().await {
                End::Exited { status } => (Exit::Status(status), "exited"),
                End::Lost { detail } => (Exit::Failed(lost(detail)), "lost"),
            },
            Ending::ClientLeft => (Exit::ClientLeft, "client_left"),
            Ending::Failed(failure) => {
                let code = failure.code;
                (Exit::Failed(failure), code)
            }
        };
        if !matches!(exit, Exit::Status(_)) {
            let left = Leftover { container: container.clone(), control, hold: Arc::clone(&client.hold) };
            self.end_in_background(caller, session, &grant, left);
        }
        let ended = Event::ProcessEnded {
            subject: grant.identity().subject().to_owned(),
            target: grant.target().to_string(),
            container,
            code,
            status: if let Exit::Status(status) = exit { Some(status) } else { None },
            bytes_in: counts.to_process.load(Ordering::Relaxed),
            bytes_out: counts.to_client.load(Ordering::Relaxed),
            seconds: started.elapsed().as_secs_f64(),
        };
        self.record_end(&caller.connection, session, &ended).await;
        exit
    }
}

/// A session that has its process.
struct Opened {
    process: Process,
    grant: Grant,
    recording: Option<Recording>,
    tenure: Tenure,
}

enum Ending {
    Output,
    ClientLeft,
    Failed(Failure),
}

/// Passes sizes and signals on to the process, for as long as it is polled.
async fn follow(
    sizes: &mut watch::Receiver<WindowSize>,
    signals: &mut mpsc::Receiver<String>,
    control: &Control,
    recorded: &Recorded<'_, impl Outlet>,
) -> std::convert::Infallible {
    loop {
        tokio::select! {
            Ok(()) = sizes.changed() => {
                let size = *sizes.borrow_and_update();
                control.resize(size);
                recorded.resize(size.columns, size.rows).await;
            }
            Some(signal) = signals.recv() => {
                if let Err(error) = control.signal(&signal).await {
                    tracing::debug!(signal, %error, "a signal did not reach the process");
                }
            }
            else => std::future::pending().await,
        }
    }
}

fn lost(detail: String) -> Failure {
    Failure {
        code: "lost",
        person: "the connection to the pod was lost, and what became of the program is not known: log in again"
            .to_owned(),
        operator: detail,
    }
}

/// The line of what ends because Porthole does.
pub fn shutting_down() -> Failure {
    Failure::new("shutdown", "porthole is restarting: log in again")
}
