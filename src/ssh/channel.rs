//! One session channel: what the client asks of it before it runs, the task that runs it, and its end.
//!
//! A channel asks for its terminal and variables first and for a shell, command or subsystem once (RFC 4254 section 6.5:
//! only one of these succeeds). The end goes out in the one order that every client reads right: all output, the exit
//! status, end of file, close.

use std::sync::Arc;

use bytes::Bytes;
use russh::server::Msg;
use russh::{ChannelWriteHalf, Sig};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::limits::ChannelPlace;
use super::stream::Login;
use crate::audit::SessionId;
use crate::cluster::WindowSize;
use crate::menu::{self, Chosen, Menu};
use crate::session::{
    Caller, Client, ClientGone, Exit, FAILURE_STATUS, Inbound, Outlet, Request, Sessions, Terminal, What,
};

/// Variables that one channel may set, and the longest of them: what a shell's start could want, and no more.
const ENV_MAX_COUNT: usize = 64;
const ENV_MAX_BYTES: usize = 4096;
/// All of them together: they go to the pod before the program begins.
const ENV_ALL_MAX_BYTES: usize = 16 << 10;
/// Signals that may wait for the pod; more are dropped.
const SIGNALS: usize = 8;
/// A terminal without a size is this large, as it always was.
pub const DEFAULT_SIZE: WindowSize = WindowSize { columns: 80, rows: 24 };

/// A channel as the connection's callbacks see it.
pub struct SessionChannel {
    pub id: SessionId,
    pub inbound: Inbound,
    gone: CancellationToken,
    terminal: Option<String>,
    env: Vec<(String, String)>,
    sizes: watch::Sender<WindowSize>,
    signals: mpsc::Sender<String>,
    /// What the task takes when it starts.
    idle: Option<Idle>,
}

struct Idle {
    writer: ChannelWriteHalf<Msg>,
    signals: mpsc::Receiver<String>,
    place: ChannelPlace,
}

/// The client's side for a session: waits for the client's window, by russh's write half.
#[derive(Clone)]
pub struct Writer {
    half: Arc<ChannelWriteHalf<Msg>>,
}

impl SessionChannel {
    pub fn new(
        id: SessionId,
        writer: ChannelWriteHalf<Msg>,
        place: ChannelPlace,
        gone: CancellationToken,
    ) -> SessionChannel {
        let (signals, pending) = mpsc::channel(SIGNALS);
        SessionChannel {
            id,
            inbound: Inbound::default(),
            gone,
            terminal: None,
            env: Vec::new(),
            sizes: watch::Sender::new(DEFAULT_SIZE),
            signals,
            idle: Some(Idle { writer, signals: pending, place }),
        }
    }

    pub fn terminal(&mut self, name: &str, columns: u32, rows: u32) {
        self.terminal = Some(name.chars().filter(|c| c.is_ascii_graphic()).take(64).collect());
        self.resize(columns, rows);
    }

    pub fn resize(&self, columns: u32, rows: u32) {
        self.sizes.send_replace(size(columns, rows));
    }

    /// Takes a variable; false where there are too many or it is too long.
    pub fn env(&mut self, name: &str, value: &str) -> bool {
        let all: usize = self.env.iter().map(|(name, value)| name.len() + value.len()).sum();
        let more = name.len() + value.len();
        let fits =
            self.env.len() < ENV_MAX_COUNT && more <= ENV_MAX_BYTES && all.saturating_add(more) <= ENV_ALL_MAX_BYTES;
        // No program can be given a NUL, and a shell takes only names.
        let sound = !value.contains('\0')
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.starts_with(|first: char| first.is_ascii_digit());
        if fits && sound {
            self.env.retain(|(known, _)| known != name);
            self.env.push((name.to_owned(), value.to_owned()));
        }
        fits && sound
    }

    pub fn signal(&self, signal: Sig) {
        let name = match signal {
            Sig::Custom(name) => name,
            known => format!("{known:?}"),
        };
        // A full queue means that the pod is behind by several signals already.
        let _ = self.signals.try_send(name);
    }

    /// The client has closed the channel.
    pub fn close(&self) {
        self.gone.cancel();
    }

    /// Whether the session has ended, or the client has closed the channel.
    pub fn is_over(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Whether nothing has been asked of it yet.
    pub fn is_idle(&self) -> bool {
        self.idle.is_some()
    }

    /// Starts the session, once; false where one runs already.
    pub fn start(
        &mut self,
        what: What,
        caller: &Arc<Caller>,
        sessions: &Arc<Sessions>,
        login: &Login,
        unwanted: watch::Receiver<u32>,
        draining: CancellationToken,
    ) -> bool {
        let Some(Idle { writer, signals, place }) = self.idle.take() else { return false };
        let size = *self.sizes.borrow();
        let request = Request {
            what,
            env: std::mem::take(&mut self.env),
            terminal: self.terminal.clone().map(|name| Terminal { name, size }),
        };
        let client = Client {
            input: self.inbound.clone(),
            output: Writer::new(writer),
            sizes: self.sizes.subscribe(),
            signals,
            gone: self.gone.child_token(),
            hold: Arc::new(place),
        };
        let (caller, sessions, id, login) = (Arc::clone(caller), Arc::clone(sessions), self.id.clone(), login.clone());
        let (gone, stop) = (self.gone.clone(), client.gone.clone());
        login.channel_opened();
        tokio::spawn(async move {
            let served = serve(&caller, &sessions, &id, request, client, &gone, &draining);
            tokio::pin!(served);
            tokio::select! {
                () = &mut served => {}
                () = is_unwanted(&login, unwanted, &stop) => served.await,
            }
            gone.cancel();
            login.channel_closed();
        });
        true
    }
}

/// Stops a session whose output the client has nowhere to write to, and returns then. Which channel it is can only be
/// known where it is the only one; among several, the session goes on until its program ends.
async fn is_unwanted(login: &Login, mut unwanted: watch::Receiver<u32>, stop: &CancellationToken) {
    unwanted.mark_unchanged();
    while unwanted.changed().await.is_ok() {
        if login.channels() == 1 {
            return stop.cancel();
        }
    }
    std::future::pending().await
}

async fn serve(
    caller: &Caller,
    sessions: &Arc<Sessions>,
    id: &SessionId,
    request: Request,
    mut client: Client<Writer>,
    gone: &CancellationToken,
    draining: &CancellationToken,
) {
    let newline = if request.terminal.is_some() { "\r\n" } else { "\n" };
    let writer = client.output.clone();
    let chosen = match menu::terminal(caller, &request) {
        Some(terminal) => {
            let menu = Menu { sessions, caller, session: id, request: &request, draining };
            Some(menu.choose(terminal, &mut client).await)
        }
        None => None,
    };
    let exit = match chosen {
        None => sessions.run(caller, id, request, client).await,
        Some(chosen) => match chosen {
            Chosen::Place(place) => sessions.run(&caller.at(place), id, request, client).await,
            Chosen::Left => Exit::Status(0),
            Chosen::Failed(failure) => Exit::Failed(failure),
            Chosen::ClientLeft => Exit::ClientLeft,
        },
    };
    let farewell = async {
        match exit {
            Exit::Status(status) => writer.half.exit_status(status).await.map_err(|_| ClientGone)?,
            Exit::Failed(failure) => {
                writer.stderr(Bytes::from(failure.line(id) + newline)).await?;
                writer.half.exit_status(FAILURE_STATUS).await.map_err(|_| ClientGone)?;
            }
            // Without a status, as sshd does for a program that its closed output has killed.
            Exit::ClientLeft => {}
        }
        writer.finish().await
    };
    tokio::select! {
        // Nobody is left to tell where it fails.
        _ = farewell => {}
        () = gone.cancelled() => {}
    }
}

impl Writer {
    pub fn new(half: ChannelWriteHalf<Msg>) -> Writer {
        Writer { half: Arc::new(half) }
    }

    /// End of file and close: the last of every channel.
    pub async fn finish(&self) -> Result<(), ClientGone> {
        self.half.eof().await.map_err(|_| ClientGone)?;
        self.half.close().await.map_err(|_| ClientGone)
    }
}

impl Outlet for Writer {
    async fn stdout(&self, bytes: Bytes) -> Result<(), ClientGone> {
        self.half.data_bytes(bytes).await.map_err(|_| ClientGone)
    }

    async fn stderr(&self, bytes: Bytes) -> Result<(), ClientGone> {
        /// RFC 4254 section 5.2: SSH_EXTENDED_DATA_STDERR.
        const STDERR: u32 = 1;
        self.half.extended_data_bytes(STDERR, bytes).await.map_err(|_| ClientGone)
    }
}

/// A size as Kubernetes takes it; 0 stands for a side that the client does not know (RFC 4254 section 6.2).
fn size(columns: u32, rows: u32) -> WindowSize {
    let side = |side: u32, default: u16| match u16::try_from(side) {
        Ok(0) => default,
        Ok(side) => side,
        Err(_) => u16::MAX,
    };
    WindowSize { columns: side(columns, DEFAULT_SIZE.columns), rows: side(rows, DEFAULT_SIZE.rows) }
}
