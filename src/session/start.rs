//! From a grant to a process that runs: a task of its own, which goes on when nobody waits for it any more.
//!
//! Guards: the audit trail has the container before anything may run in it and the program before it runs; whatever was
//! started is ended, however early its client leaves; and the session counts until then (`Hold`).

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use super::exit::Failure;
use super::request::Request;
use super::tenure::duration_over;
use super::{Admitted, Caller, Hold, Sessions};
use crate::audit::{ConnectionId, Event, SessionId};
use crate::authorize::Grant;
use crate::cluster::{Container, Control, Launch, Process, StartError, WindowSize};
use crate::config;

/// What a start needs, and owns, since it may outlive the client.
struct Start {
    sessions: Arc<Sessions>,
    connection: ConnectionId,
    session: SessionId,
    grant: Grant,
    profile_name: String,
    profile: config::Profile,
    hold: Hold,
}

/// A process whose client is gone, or whose time is over.
pub(super) struct Leftover {
    pub container: String,
    pub control: Control,
    pub hold: Hold,
}

/// Where the process goes; closed when nobody waits any more.
type Give = oneshot::Sender<Result<Process, Failure>>;

impl Sessions {
    /// Starts what was asked for. Giving up the wait ends it again.
    pub(super) async fn start(
        self: &Arc<Self>,
        caller: &Caller,
        session: &SessionId,
        admitted: &Admitted<'_>,
        request: Request,
        sizes: watch::Receiver<WindowSize>,
        hold: Hold,
    ) -> Result<Process, Failure> {
        let (give, take) = oneshot::channel();
        let start = Start {
            sessions: Arc::clone(self),
            connection: caller.connection.clone(),
            session: session.clone(),
            grant: admitted.grant.clone(),
            profile_name: admitted.profile_name.to_owned(),
            profile: admitted.profile.clone(),
            hold,
        };
        self.endings.spawn(async move { start.go(request, sizes, give).await });
        take.await.unwrap_or_else(|_| Err(failure(&StartError::aborted())))
    }

    /// Ends what is left of a session, in a task of its own.
    pub(super) fn end_in_background(
        self: &Arc<Self>,
        caller: &Caller,
        session: &SessionId,
        grant: &Grant,
        left: Leftover,
    ) {
        let (sessions, connection) = (Arc::clone(self), caller.connection.clone());
        let (session, grant) = (session.clone(), grant.clone());
        self.endings.spawn(async move { sessions.end(&connection, &session, &grant, left).await });
    }

    async fn end(&self, connection: &ConnectionId, session: &SessionId, grant: &Grant, left: Leftover) {
        let Leftover { container, control, hold } = left;
        let ended = control.end().await;
        self.record_end(connection, session, &container_ended(grant, container, ended)).await;
        drop(hold);
    }
}

impl Start {
    async fn go(self, request: Request, sizes: watch::Receiver<WindowSize>, give: Give) {
        let Request { what, mut env, terminal } = request;
        if let Some(terminal) = &terminal {
            env.retain(|(name, _)| name != "TERM");
            env.push(("TERM".to_owned(), terminal.name.clone()));
        }
        let launch = Launch {
            session: &self.session,
            profile_name: &self.profile_name,
            profile: &self.profile,
            program: what.program(self.grant.obligations().read_only),
            env,
            terminal: terminal.as_ref().map(|_| sizes),
        };
        let started = Instant::now();
        // Where the client has left, nobody is there for an answer; what is to be told of it has been recorded.
        match self.sessions.cluster.start(&self.grant, launch).await {
            Ok(container) => match self.tell(&container, started, terminal.is_some(), &give).await {
                Ok(()) => self.run(container, give).await,
                Err(failure) => {
                    let _ = give.send(Err(failure));
                    self.discard(container).await;
                }
            },
            Err(error) => {
                let failed = Event::ContainerFailed {
                    subject: self.subject(),
                    target: self.target(),
                    container: error.container().unwrap_or_default().to_owned(),
                    code: error.code(),
                    detail: error.to_string(),
                };
                self.record_end(&failed).await;
                let _ = give.send(Err(failure(&error)));
            }
        }
    }

    /// Records that the container is there and its program about to run.
    async fn tell(
        &self,
        container: &Container<'_>,
        started: Instant,
        terminal: bool,
        give: &Give,
    ) -> Result<(), Failure> {
        let there = Event::ContainerStarted {
            subject: self.subject(),
            target: self.target(),
            container: container.name().to_owned(),
            image: container.image().to_owned(),
            profile: self.profile_name.clone(),
            seconds: started.elapsed().as_secs_f64(),
        };
        self.sessions.record(&self.connection, &self.session, &there).await?;
        if give.is_closed() {
            return Err(Failure::new("client_left", "the client left before its program began"));
        }
        // It was granted a while ago: the image had to be pulled.
        if self.grant.obligations().until.is_some_and(|until| until <= Timestamp::now()) {
            return Err(duration_over());
        }
        let begins = Event::ProcessStarted {
            subject: self.subject(),
            target: self.target(),
            container: container.name().to_owned(),
            terminal,
            program: self.grant.action().command().unwrap_or("shell").to_owned(),
        };
        self.sessions.record(&self.connection, &self.session, &begins).await
    }

    async fn run(&self, container: Container<'_>, give: Give) {
        let name = container.name().to_owned();
        let ended = |code| Event::ProcessEnded {
            subject: self.subject(),
            target: self.target(),
            container: name.clone(),
            code,
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            seconds: 0.0,
        };
        match container.run().await {
            Ok(process) => {
                if let Err(Ok(process)) = give.send(Ok(process)) {
                    self.record_end(&ended("client_left")).await;
                    let left =
                        Leftover { container: name.clone(), control: process.control, hold: Arc::clone(&self.hold) };
                    self.sessions.end(&self.connection, &self.session, &self.grant, left).await;
                }
            }
            Err(error) => {
                self.record_end(&ended(error.code())).await;
                let _ = give.send(Err(failure(&error)));
            }
        }
    }

    async fn discard(&self, container: Container<'_>) {
        let name = container.name().to_owned();
        let ended = container.discard().await;
        self.record_end(&container_ended(&self.grant, name, ended)).await;
    }

    async fn record_end(&self, event: &Event) {
        self.sessions.record_end(&self.connection, &self.session, event).await;
    }

    fn subject(&self) -> String {
        self.grant.identity().subject().to_owned()
    }

    fn target(&self) -> String {
        self.grant.target().to_string()
    }
}

fn container_ended(grant: &Grant, container: String, ended: bool) -> Event {
    Event::ContainerEnded {
        subject: grant.identity().subject().to_owned(),
        target: grant.target().to_string(),
        container,
        code: if ended { "terminated" } else { "still_running" },
    }
}

fn failure(error: &StartError) -> Failure {
    Failure { code: error.code(), person: error.person(), operator: error.to_string() }
}
