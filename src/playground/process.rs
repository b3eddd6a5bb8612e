//! Processes as the emulator sees them: started in a place, with their streams, until they exit.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};

use super::Isolation;
use super::control::{Control, Handle, Order, Place, Program, Report, Run};
use super::terminal::Terminal;

/// Starts processes: this program again, as a container.
pub(super) struct Launcher {
    /// Held open, so that a build which replaces the file does not change what containers run.
    program: File,
    pub isolation: Isolation,
    pub root: PathBuf,
}

/// A process that runs, or ran.
pub(super) struct Process {
    handle: Arc<Handle>,
    pub identity: OwnedFd,
    exit: watch::Receiver<Option<i32>>,
}

/// What a process reads and writes.
pub(super) struct Streams {
    pub stdin: Option<Input>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
}

pub(super) enum Input {
    Pipe(pipe::Sender),
    Terminal(Arc<Terminal>),
}

pub(super) enum Output {
    Pipe(pipe::Receiver),
    Terminal(Arc<Terminal>),
}

impl Launcher {
    pub(super) fn new(program: &Path, isolation: Isolation, root: PathBuf) -> io::Result<Launcher> {
        Ok(Launcher { program: File::open(program)?, isolation, root })
    }

    /// Where new roots are mounted; each in its own mount namespace, so one serves all.
    pub(super) fn mountpoint(&self) -> PathBuf {
        self.root.join("mnt")
    }

    fn spawn(&self) -> io::Result<(Control, tokio::process::Child)> {
        let (control, theirs) = Control::pair()?;
        let child = tokio::process::Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()))
            .arg0("porthole")
            .arg("playground-container")
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok((control, child))
    }

    /// Starts a process. `spaces` are the sandbox and the container that `run.place` asks for.
    ///
    /// # Errors
    ///
    /// With what a container runtime would say, if the program cannot be started.
    pub(super) async fn start(
        &self,
        run: Run,
        wants_stdin: bool,
        spaces: &[BorrowedFd<'_>],
    ) -> io::Result<(Process, Streams)> {
        let terminal = run.terminal;
        let mut streams = Streams { stdin: None, stdout: None, stderr: None };
        let mut theirs = Vec::new();
        if !terminal {
            if wants_stdin {
                let (read, write) = io::pipe()?;
                theirs.push(OwnedFd::from(read));
                streams.stdin = Some(Input::Pipe(pipe::Sender::from_owned_fd(write.into())?));
            } else {
                theirs.push(File::open("/dev/null")?.into());
            }
            for stream in [&mut streams.stdout, &mut streams.stderr] {
                let (read, write) = io::pipe()?;
                theirs.push(write.into());
                *stream = Some(Output::Pipe(pipe::Receiver::from_owned_fd(read.into())?));
            }
        }
        let (control, child) = self.spawn()?;
        let handle = Arc::new(Handle::new(control)?);
        let mut fds: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
        fds.extend(spaces);
        expect_ready(&handle).await?;
        handle.send(&Order::Run(Box::new(run)), &fds).await?;
        drop(theirs);
        let identity = loop {
            match handle.receive::<Report>().await? {
                Some((Report::Terminal, fds)) => {
                    let controller = fds.into_iter().next().ok_or_else(|| io::Error::other("no terminal"))?;
                    let shared = Arc::new(Terminal::new(controller)?);
                    streams.stdin = wants_stdin.then(|| Input::Terminal(shared.clone()));
                    streams.stdout = Some(Output::Terminal(shared));
                }
                Some((Report::Started { pid }, _)) => {
                    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("a process without an id"))?;
                    // Not reaped before the outer process has told of its end, which we read later.
                    break pidfd_open(pid, PidfdFlags::empty());
                }
                Some((Report::Failed { message }, _)) => return Err(io::Error::other(message)),
                Some(_) => {}
                None => return Err(io::Error::other("the container's process ended before it started")),
            }
        };
        let (tell, exit) = watch::channel(None);
        let (identity, reaper) = match identity {
            Ok(identity) => (identity, handle.clone()),
            // Over already: any identity will do, for what is gone.
            Err(_) => (File::open("/dev/null")?.into(), handle.clone()),
        };
        tokio::spawn(wait(reaper, child, tell));
        Ok((Process { handle, identity, exit }, streams))
    }

    pub(super) async fn sandbox(&self, hostname: &str, address: Ipv4Addr) -> io::Result<Sandbox> {
        if self.isolation == Isolation::None {
            return Ok(Sandbox { address, held: None });
        }
        let (control, child) = self.spawn()?;
        let handle = Arc::new(Handle::new(control)?);
        expect_ready(&handle).await?;
        handle.send(&Order::Sandbox { hostname: hostname.into(), address }, &[]).await?;
        expect_ready(&handle).await?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or_else(|| io::Error::other("the sandbox ended"))?;
        let identity = pidfd_open(pid, PidfdFlags::empty())?;
        let dials: Arc<Mutex<Dials>> = Arc::default();
        tokio::spawn(answer_dials(handle.clone(), child, dials.clone()));
        Ok(Sandbox { address, held: Some(Held { handle, identity, dials, next: AtomicU64::new(0) }) })
    }
}

/// Whether this machine allows namespaces to us, found out by making them all in a process of `program`.
pub(super) fn probe(program: &Path) -> io::Result<bool> {
    let scratch = std::env::temp_dir().join(format!("porthole-probe-{:016x}", rand::random::<u64>()));
    std::fs::create_dir(&scratch)?;
    let (control, theirs) = Control::pair()?;
    let mut child = std::process::Command::new(program)
        .arg("playground-container")
        .env_clear()
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let asked = match control.receive::<Report>() {
        Ok(Some(_)) => control.send(&Order::Probe { scratch: scratch.clone() }, &[]),
        _ => Ok(()),
    };
    let passed = child.wait()?.success();
    std::fs::remove_dir(&scratch)?;
    Ok(asked.is_ok() && passed)
}

async fn expect_ready(handle: &Handle) -> io::Result<()> {
    match handle.receive::<Report>().await? {
        Some((Report::Ready, _)) => Ok(()),
        Some((Report::Failed { message }, _)) => Err(io::Error::other(message)),
        _ => Err(io::Error::other("the container's process ended before it started")),
    }
}

async fn wait(handle: Arc<Handle>, mut child: tokio::process::Child, tell: watch::Sender<Option<i32>>) {
    let mut code = 137;
    while let Ok(Some((report, _))) = handle.receive::<Report>().await {
        if let Report::Exited { code: told } = report {
            code = told;
        }
    }
    // It has nothing left to do but to exit; an error says that it has.
    let _ = child.wait().await;
    // Nobody may be waiting any more.
    let _ = tell.send(Some(code));
}

impl Process {
    /// The status, once the process and whatever it must not leave behind are gone.
    pub(super) async fn exited(&self) -> i32 {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(code) => code.unwrap_or(137),
            Err(_) => 137,
        }
    }

    pub(super) async fn signal(&self, number: i32) {
        // A process that is gone takes no signal.
        let _ = self.handle.send(&Order::Signal { number }, &[]).await;
    }

    pub(super) fn kill(&self) {
        self.handle.cut();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.handle.cut();
    }
}

type Dials = std::collections::HashMap<u64, oneshot::Sender<Result<OwnedFd, String>>>;

/// A pod's network, as seen from the emulator.
pub(super) struct Sandbox {
    address: Ipv4Addr,
    held: Option<Held>,
}

struct Held {
    handle: Arc<Handle>,
    identity: OwnedFd,
    dials: Arc<Mutex<Dials>>,
    next: AtomicU64,
}

impl Sandbox {
    pub(super) fn identity(&self) -> Option<BorrowedFd<'_>> {
        self.held.as_ref().map(|held| held.identity.as_fd())
    }

    /// Connects to a port on the pod's loopback.
    ///
    /// # Errors
    ///
    /// With the reason alone, as a kubelet words it.
    pub(super) async fn dial(&self, port: u16) -> Result<TcpStream, String> {
        let Some(held) = &self.held else {
            return TcpStream::connect(SocketAddrV4::new(self.address, port)).await.map_err(|error| {
                match error.kind() {
                    io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                    _ => error.to_string(),
                }
            });
        };
        let id = held.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        held.dials.lock().unwrap_or_else(PoisonError::into_inner).insert(id, answer);
        let gone = |_| "the pod is gone".to_owned();
        held.handle.send(&Order::Dial { id, port }, &[]).await.map_err(|error| error.to_string())?;
        let socket = answered.await.map_err(gone)??;
        let stream = std::net::TcpStream::from(socket);
        stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)).map_err(|error| error.to_string())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            held.handle.cut();
        }
    }
}

async fn answer_dials(handle: Arc<Handle>, mut child: tokio::process::Child, dials: Arc<Mutex<Dials>>) {
    while let Ok(Some((report, fds))) = handle.receive::<Report>().await {
        let (id, answer) = match report {
            Report::Dialled { id } => (id, fds.into_iter().next().ok_or_else(|| "no socket".to_owned())),
            Report::DialFailed { id, message } => (id, Err(message)),
            _ => continue,
        };
        let waiting = dials.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(waiting) = waiting {
            // Whoever asked may have gone.
            let _ = waiting.send(answer);
        }
    }
    dials.lock().unwrap_or_else(PoisonError::into_inner).clear();
    // As in `wait`.
    let _ = child.wait().await;
}

impl Run {
    /// A process with nothing asked for.
    pub(super) fn new(isolation: Isolation, place: Place, program: Program) -> Run {
        Run {
            stage: super::control::Stage::Outer,
            isolation,
            place,
            title: match &program {
                Program::Web { .. } => "web".into(),
                Program::Pause => "pause".into(),
                Program::Command(words) => words.first().cloned().unwrap_or_default(),
            },
            program,
            env: Vec::new(),
            directory: None,
            uid: None,
            gid: None,
            groups: Vec::new(),
            capabilities: None,
            no_new_privileges: false,
            terminal: false,
        }
    }
}
