//! The wire between the emulator and the processes that it starts as containers: a `SOCK_SEQPACKET` pair at
//! the child's standard input, which carries JSON and file descriptors.
//!
//! The same wire is the child's lifeline: when the emulator goes, however it goes, the kernel closes its end,
//! and everything below kills what it started. No container outlives the emulator.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use super::Isolation;

/// The longest message, in bytes. A command line or an environment above this cannot start a container; the
/// kernel's own limit for a packet (`net.core.wmem_default`, 208 KiB) is not far above.
const LONGEST: usize = 128 * 1024;
/// Standard input, output, error, and the two namespaces to join.
const MOST_DESCRIPTORS: usize = 6;

/// What a parent tells a child.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    /// Say whether this machine allows namespaces, by making some.
    Probe { scratch: PathBuf },
    /// The same, from inside the process namespace that the probe made.
    ProbeRoot { root: Root },
    /// Hold the namespaces that the containers of a pod share, and dial inside them.
    Sandbox { hostname: String, address: Ipv4Addr },
    /// Connect to a port of the pod. Descriptors: none; the answer carries the socket.
    Dial { id: u64, port: u16 },
    /// Start a process and answer for its end.
    Run(Box<Run>),
    /// Deliver a signal to the main process.
    Signal { number: i32 },
}

/// What a child tells its parent.
#[derive(Serialize, Deserialize)]
pub(super) enum Report {
    /// The child lives, will die with its parent, and takes orders.
    Ready,
    /// The terminal's controlling side, as a descriptor.
    Terminal,
    /// The process runs; its id as the emulator sees it.
    Started {
        pid: i32,
    },
    /// The process could not be started.
    Failed {
        message: String,
    },
    /// The process is gone: its status, or 128 and the signal's number.
    Exited {
        code: i32,
    },
    /// The socket of a `Dial`, as a descriptor.
    Dialled {
        id: u64,
    },
    DialFailed {
        id: u64,
        message: String,
    },
}

/// One process to start. Descriptors, in this order: standard input, output and error unless `terminal` is
/// set; the pod's namespaces and the container's, as `place` says.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Run {
    pub stage: Stage,
    pub isolation: Isolation,
    pub place: Place,
    pub program: Program,
    /// What `ps` shows for a built-in program.
    pub title: String,
    pub env: Vec<(String, String)>,
    pub directory: Option<PathBuf>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub groups: Vec<u32>,
    /// Capabilities kept in the bounding set, by their Kubernetes names; none: all.
    pub capabilities: Option<Vec<String>>,
    pub no_new_privileges: bool,
    pub terminal: bool,
}

/// How far below the emulator the reader of a `Run` is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Joins the pod's namespaces and answers for the container.
    Outer,
    /// Lives beside the process in a process namespace that is not its own, and buries what it leaves behind.
    Reaper,
    /// Becomes the process.
    Inner,
}

/// Where a process runs.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Place {
    /// A new container in a pod. Descriptors: the sandbox, and with `shares` the container whose processes it sees.
    Container { root: Root, shares: bool },
    /// Inside a running container. Descriptors: the sandbox, the container.
    Inside,
    /// Among the host's processes.
    Host,
}

/// The root directory of a container.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Root {
    /// An empty directory of the host over which the root is mounted, in the container's own mount namespace.
    pub mountpoint: PathBuf,
    /// With the host's programs, read-only; else with nothing at all.
    pub programs: bool,
    /// With `sftp-server`, `scp` and `rsync` among them.
    pub copiers: bool,
    pub hostname: String,
    pub namespace: String,
    pub address: Ipv4Addr,
    pub uid: Option<u32>,
    pub mounts: Vec<Mount>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Mount {
    pub source: PathBuf,
    pub target: PathBuf,
    pub read_only: bool,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Program {
    Command(Vec<String>),
    /// A web server that answers with the pod's name.
    Web {
        bind: Ipv4Addr,
        port: u16,
        body: String,
    },
    /// Does nothing until it is killed.
    Pause,
}

/// A child's end of the wire: blocking.
pub(super) struct Control(OwnedFd);

impl Control {
    pub(super) fn pair() -> io::Result<(Control, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Control(ours), theirs))
    }

    pub(super) fn from_stdin() -> io::Result<Control> {
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        let null = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        Ok(Control(socket))
    }

    pub(super) fn try_clone(&self) -> io::Result<Control> {
        Ok(Control(self.0.try_clone()?))
    }

    pub(super) fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(self.0.as_fd(), message, fds)
    }

    /// The next message; `None` when the other side is gone.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        loop {
            match receive(self.0.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Ends the wire for every holder of this socket.
    pub(super) fn close(&self) {
        // An error means that it is closed already.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

/// The emulator's end of the wire: asynchronous.
pub(super) struct Handle(AsyncFd<OwnedFd>);

impl Handle {
    pub(super) fn new(control: Control) -> io::Result<Handle> {
        rustix::io::ioctl_fionbio(&control.0, true)?;
        // tokio would rather have the unsafe `register`, for types that may swap their descriptor; this one cannot.
        #[expect(deprecated)]
        Ok(Handle(AsyncFd::new(control.0)?))
    }

    pub(super) async fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.async_io(tokio::io::Interest::WRITABLE, |socket| send(socket.as_fd(), message, fds)).await
    }

    pub(super) async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.0.async_io(tokio::io::Interest::READABLE, |socket| receive(socket.as_fd())).await
    }

    /// Cuts the lifeline: the process is killed with all that it left behind.
    pub(super) fn cut(&self) {
        // An error means that it is closed already.
        let _ = rustix::net::shutdown(self.0.get_ref(), rustix::net::Shutdown::Both);
    }
}

fn send(socket: BorrowedFd<'_>, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > LONGEST || fds.len() > MOST_DESCRIPTORS {
        return Err(io::Error::other("argument list too long"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
        // The other side died with messages of ours unread.
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        other => other?,
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    bytes.truncate(received.bytes);
    Ok(Some((serde_json::from_slice(&bytes)?, fds)))
}
