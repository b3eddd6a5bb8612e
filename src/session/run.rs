//! Runs one session from its request to its end.
//!
//! What has been started in a pod is also ended: a client that leaves, at whatever moment, leaves a task behind that
//! sees the container's end, and `Sessions::finish` waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::exit::{Exit, Failure};
use super::pump::{self, Counts};
use super::request::Request;
use super::{Admitted, Caller, Client, Outlet, Sessions};
use crate::audit::{ConnectionId, Event, SessionId};
use crate::auth::Method;
use crate::cluster::{Control, End, Launch, Process, StartError, WindowSize};

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
        force_command(caller, &mut request);
        let admitted = self.admit(caller, session, request.what.action()).await?;
        let limit = self.limit(caller, &admitted);
        let started = Instant::now();
        let starting = self.start(caller, session, &admitted, request, client.sizes.clone());
        let program = admitted.grant.action().command().unwrap_or("shell").to_owned();
        let process = tokio::select! {
            process = starting => process,
            () = client.gone.cancelled() => return Ok(None),
            () = caller.distrusted.cancelled() => return Err(distrusted()),
        };
        let subject = caller.identity.subject().to_owned();
        let target = admitted.target.to_string();
        let process = match process {
            Ok(process) => process,
            Err(error) => {
                let failed = Event::ContainerFailed {
                    subject,
                    target,
                    container: error.container().unwrap_or_default().to_owned(),
                    code: error.code(),
                    detail: error.to_string(),
                };
                self.record(caller, session, &failed).await?;
                return Err(Failure { code: error.code(), person: error.person(), operator: error.to_string() });
            }
        };
        let opened = Opened { process, subject, target, limit };
        let events = [
            Event::ContainerStarted {
                subject: opened.subject.clone(),
                target: opened.target.clone(),
                container: opened.process.container.clone(),
                image: opened.process.image.clone(),
                profile: admitted.profile_name.to_owned(),
                seconds: started.elapsed().as_secs_f64(),
            },
            Event::ProcessStarted {
                subject: opened.subject.clone(),
                target: opened.target.clone(),
                container: opened.process.container.clone(),
                terminal: opened.process.terminal,
                program,
            },
        ];
        for event in &events {
            if let Err(failure) = self.record(caller, session, event).await {
                let Opened { process, subject, target, .. } = opened;
                self.end_in_background(
                    caller,
                    session,
                    Leftover::new(subject, target, process.container, process.control),
                );
                return Err(failure);
            }
        }
        Ok(Some(opened))
    }

    async fn serve<O: Outlet>(
        self: &Arc<Self>,
        caller: &Caller,
        session: &SessionId,
        opened: Opened,
        client: &mut Client<O>,
    ) -> Exit {
        let Opened { process, subject, target, limit } = opened;
        let Process { mut input, mut output, control, container, .. } = process;
        let started = Instant::now();
        let counts = Counts::default();

        let ending = {
            let inward = pump::inward(&client.input, &mut input, &counts);
            let outward = pump::outward(&mut output, &client.output, &counts);
            let terminal = follow(&mut client.sizes, &mut client.signals, &control);
            tokio::select! {
                // The output's end is the session's; the other two go on beside it and never end it.
                sent = outward => if sent.is_ok() { Ending::Output } else { Ending::ClientLeft },
                never = async { tokio::join!(inward, terminal).1 } => match never {},
                () = client.gone.cancelled() => Ending::ClientLeft,
                failure = limit.reached() => Ending::Failed(failure),
                () = self.closing.cancelled() => Ending::Failed(shutting_down()),
                () = caller.distrusted.cancelled() => Ending::Failed(distrusted()),
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
            let leftover = Leftover::new(subject.clone(), target.clone(), container.clone(), control);
            self.end_in_background(caller, session, leftover);
        }
        let ended = Event::ProcessEnded {
            subject,
            target,
            container,
            code,
            status: if let Exit::Status(status) = exit { Some(status) } else { None },
            bytes_in: counts.to_process.load(Ordering::Relaxed),
            bytes_out: counts.to_client.load(Ordering::Relaxed),
            seconds: started.elapsed().as_secs_f64(),
        };
        self.record_end(caller, session, &ended).await;
        exit
    }

    /// Starts the process in a task of its own, so that it is seen through, and ended, also when nobody waits for it
    /// any more.
    async fn start(
        self: &Arc<Self>,
        caller: &Caller,
        session: &SessionId,
        admitted: &Admitted<'_>,
        request: Request,
        sizes: watch::Receiver<WindowSize>,
    ) -> Result<Process, StartError> {
        let (give, take) = tokio::sync::oneshot::channel();
        let sessions = Arc::clone(self);
        let (connection, session, grant) = (caller.connection.clone(), session.clone(), admitted.grant.clone());
        let (profile_name, profile) = (admitted.profile_name.to_owned(), admitted.profile.clone());
        self.endings.spawn(async move {
            let Request { what, mut env, terminal } = request;
            if let Some(terminal) = &terminal {
                env.retain(|(name, _)| name != "TERM");
                env.push(("TERM".to_owned(), terminal.name.clone()));
            }
            let launch = Launch {
                session: &session,
                profile_name: &profile_name,
                profile: &profile,
                program: what.program(),
                env,
                terminal: terminal.map(|_| sizes),
            };
            let started = sessions.cluster.start(&grant, launch).await;
            if let Err(Ok(process)) = give.send(started) {
                let (subject, target) = (grant.identity().subject().to_owned(), grant.target().to_string());
                let leftover = Leftover::new(subject, target, process.container, process.control);
                sessions.end(&connection, &session, leftover).await;
            }
        });
        take.await.unwrap_or_else(|_| Err(StartError::aborted()))
    }

    fn end_in_background(self: &Arc<Self>, caller: &Caller, session: &SessionId, leftover: Leftover) {
        let (sessions, connection, session) = (Arc::clone(self), caller.connection.clone(), session.clone());
        self.endings.spawn(async move { sessions.end(&connection, &session, leftover).await });
    }

    async fn end(&self, connection: &ConnectionId, session: &SessionId, leftover: Leftover) {
        let Leftover { subject, target, container, control } = leftover;
        let code = if control.end().await { "terminated" } else { "still_running" };
        let ended = Event::ContainerEnded { subject, target, container, code };
        if let Err(error) = self.audit.record(connection, Some(session), &ended).await {
            tracing::error!(%session, %error, ?ended, "an event is missing from the audit trail");
        }
    }

    fn limit(&self, caller: &Caller, admitted: &Admitted<'_>) -> Limit {
        let granted = admitted.grant.obligations().max_duration.map(|duration| {
            let line = "this session's granted time is over: log in again if you need more";
            (duration, Failure::new("duration_over", line))
        });
        let by_certificate = caller.identity.method() == Method::Certificate;
        let expiry = caller.identity.valid_until().filter(|_| by_certificate && self.end_at_expiry).map(|until| {
            let left = Duration::try_from(Timestamp::now().until(until).unwrap_or_default()).unwrap_or_default();
            let line = "your certificate has ended, and this session with it: get a new one and log in again";
            (left, Failure::new("credential_expired", line))
        });
        let first = [granted, expiry].into_iter().flatten().min_by_key(|(left, _)| *left);
        Limit { first: first.map(|(left, failure)| (tokio::time::Instant::now() + left, failure)) }
    }
}

/// A session that has its process.
struct Opened {
    process: Process,
    subject: String,
    target: String,
    limit: Limit,
}

/// A process whose client is gone, or whose time is over.
struct Leftover {
    subject: String,
    target: String,
    container: String,
    control: Control,
}

impl Leftover {
    fn new(subject: String, target: String, container: String, control: Control) -> Leftover {
        Leftover { subject, target, container, control }
    }
}

enum Ending {
    Output,
    ClientLeft,
    Failed(Failure),
}

/// The moment at which a session must end, whatever it is doing.
struct Limit {
    first: Option<(tokio::time::Instant, Failure)>,
}

impl Limit {
    async fn reached(self) -> Failure {
        match self.first {
            Some((at, failure)) => {
                tokio::time::sleep_until(at).await;
                failure
            }
            None => std::future::pending().await,
        }
    }
}

/// A certificate's `force-command` replaces whatever was asked for, as sshd does it: the client's own wish is left in
/// the environment.
fn force_command(caller: &Caller, request: &mut Request) {
    use super::request::What;
    let Some(forced) = caller.identity.force_command() else { return };
    let asked = match &request.what {
        What::Shell => None,
        What::Command(command) => Some(command.clone()),
        What::Sftp => Some("internal-sftp".to_owned()),
    };
    request.env.extend(asked.map(|asked| ("SSH_ORIGINAL_COMMAND".to_owned(), asked)));
    request.what = What::Command(forced.to_owned());
}

/// Passes sizes and signals on to the process, for as long as it is polled.
async fn follow(
    sizes: &mut watch::Receiver<WindowSize>,
    signals: &mut mpsc::Receiver<String>,
    control: &Control,
) -> std::convert::Infallible {
    loop {
        tokio::select! {
            Ok(()) = sizes.changed() => {
                let size = *sizes.borrow_and_update();
                control.resize(size);
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

fn distrusted() -> Failure {
    Failure::new("credential_revoked", "your login was taken back, and this session with it: log in again")
}

fn shutting_down() -> Failure {
    Failure::new("shutdown", "porthole is restarting: log in again")
}
