//! A pod's sandbox: the process that holds the network namespace, the host name and, for an ordinary user, the
//! user namespace that the pod's containers share. It dials the pod's ports for port-forwards, from inside.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::UnshareFlags;

use super::super::control::{Control, Order, Report, Root};
use super::{network, root, unshare};

/// A loopback dial waits only for the listener's backlog, so this many at once are plenty.
const MOST_DIALS: usize = 64;

pub(super) fn hold(control: Control, hostname: &str, address: Ipv4Addr) -> io::Result<i32> {
    // Lives as long as the wire, not as the thread that started it.
    rustix::process::set_parent_process_death_signal(None)?;
    if let Err(error) = enter(hostname, address) {
        control.send(&Report::Failed { message: error.to_string() }, &[])?;
        return Ok(128);
    }
    control.send(&Report::Ready, &[])?;
    let control = Arc::new(control);
    let dials = Arc::new(AtomicUsize::new(0));
    while let Some((order, _)) = control.receive::<Order>()? {
        let Order::Dial { id, port } = order else { continue };
        if dials.fetch_add(1, Ordering::SeqCst) >= MOST_DIALS {
            dials.fetch_sub(1, Ordering::SeqCst);
            control.send(&Report::DialFailed { id, message: "too many connections at once".into() }, &[])?;
            continue;
        }
        let (control, dials) = (control.clone(), dials.clone());
        std::thread::Builder::new().name("dial".into()).spawn(move || {
            // An error means that the emulator is gone, and then so are we.
            let _ = dial(&control, id, port);
            dials.fetch_sub(1, Ordering::SeqCst);
        })?;
    }
    Ok(0)
}

fn dial(control: &Control, id: u64, port: u16) -> io::Result<()> {
    match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
        Ok(stream) => control.send(&Report::Dialled { id }, &[stream.as_fd()]),
        Err(error) => control.send(&Report::DialFailed { id, message: reason(&error) }, &[]),
    }
}

/// As Go, and so a kubelet, says it.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        _ => error.to_string(),
    }
}

fn enter(hostname: &str, address: Ipv4Addr) -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if !uid.is_root() {
        unshare(UnshareFlags::NEWUSER)?;
        map_user((0, uid.as_raw()), (0, gid.as_raw()))?;
    }
    unshare(UnshareFlags::NEWNET | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC)?;
    rustix::system::sethostname(hostname.as_bytes())?;
    network::bring_up(address)
}

/// One user and one group, as (number inside, number outside), is what an ordinary user may map.
pub(super) fn map_user(uid: (u32, u32), gid: (u32, u32)) -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{} {} 1", uid.0, uid.1))?;
    std::fs::write("/proc/self/gid_map", format!("{} {} 1", gid.0, gid.1))
}

/// Makes all that a pod needs, once; what fails here would fail for each container.
pub(super) fn probe(control: &Control, scratch: PathBuf) -> io::Result<i32> {
    let address = Ipv4Addr::new(10, 244, 0, 1);
    enter("probe", address)?;
    unshare(UnshareFlags::NEWPID)?;
    let (below, theirs) = Control::pair()?;
    let mut child = std::process::Command::new("/proc/self/exe").arg("playground-container").stdin(theirs).spawn()?;
    let _: Option<(Report, _)> = below.receive()?;
    let root = Root {
        mountpoint: scratch,
        programs: true,
        copiers: true,
        hostname: "probe".into(),
        namespace: "probe".into(),
        address,
        uid: None,
        mounts: Vec::new(),
    };
    below.send(&Order::ProbeRoot { root }, &[])?;
    let passed = child.wait()?.success();
    if passed {
        control.send(&Report::Exited { code: 0 }, &[])?;
    }
    Ok(i32::from(!passed))
}

/// The part of the probe that happens in the new process namespace.
pub(super) fn probe_root(root: &Root) -> io::Result<i32> {
    unshare(UnshareFlags::NEWNS)?;
    root::build(root)?;
    root::enter(root)?;
    rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY)?;
    Ok(0)
}
