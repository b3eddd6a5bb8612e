//! The parent of a container's process: starts it, passes on what it reports, and answers for its end.
//!
//! Whoever is above cuts the wire to kill; then the process dies, and with `reap` all that descends from it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, set_child_subreaper, wait};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};

use super::super::control::{Control, Order, Report, Run, Stage};

/// The process namespace of the child.
pub(super) enum Processes {
    Ours,
    New,
    Of(OwnedFd),
}

pub(super) struct Task<P> {
    pub run: Run,
    pub fds: Vec<OwnedFd>,
    pub processes: Processes,
    /// Whether descendants that outlive the process come to us and are killed.
    pub reap: bool,
    /// Runs when the child exists, and before it has its order.
    pub prepare: P,
}

/// The child, as the thread that holds the lifeline knows it.
struct Below {
    process: OwnedFd,
    control: Control,
    stage: Stage,
}

impl Below {
    fn signal(&self, number: i32) {
        if self.stage == Stage::Reaper {
            // It is gone if it does not read.
            let _ = self.control.send(&Order::Signal { number }, &[]);
        } else if let Some(signal) = Signal::from_named_raw(number) {
            let _ = pidfd_send_signal(&self.process, signal);
        }
    }

    fn kill(&self) {
        if self.stage == Stage::Reaper {
            self.control.close();
        } else {
            let _ = pidfd_send_signal(&self.process, Signal::KILL);
        }
    }
}

pub(super) fn supervise<P: FnOnce() -> io::Result<()>>(above: &Control, task: Task<P>) -> io::Result<i32> {
    let Task { run, fds, processes, reap, prepare } = task;
    if reap {
        // Any process id means yes.
        set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    // A process that may no longer start threads is what `Processes::New` makes of us, so this one starts first.
    let child_below: Arc<OnceLock<Below>> = Arc::default();
    hold_lifeline(above.try_clone()?, child_below.clone())?;
    match processes {
        Processes::Ours => {}
        Processes::New => super::unshare(UnshareFlags::NEWPID)?,
        Processes::Of(container) => {
            move_into_thread_name_spaces(container.as_fd(), ThreadNameSpaceType::PROCESS_ID)?;
        }
    }
    let (control, theirs) = Control::pair()?;
    let mut child = Command::new("/proc/self/exe")
        .arg0(if run.stage == Stage::Reaper { "reaper" } else { &run.title })
        .arg("playground-container")
        .env_clear()
        .stdin(theirs)
        .stdout(Stdio::null())
        .spawn()?;
    let pid = Pid::from_child(&child);
    let stage = run.stage;
    let known = Below { process: pidfd_open(pid, PidfdFlags::empty())?, control: control.try_clone()?, stage };
    if child_below.set(known).is_err() {
        return Err(io::Error::other("two children of one supervisor"));
    }
    if control.receive::<Report>()?.is_none() {
        return Err(io::Error::other("the process ended before it started"));
    }
    prepare()?;
    control.send(&Order::Run(Box::new(run)), &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>())?;
    // Whoever reads the output waits until the last holder of it is gone.
    drop(fds);
    relay(above, &control, pid)?;
    let code = if reap { bury(&mut child)? } else { code_of(child.wait()?) };
    // Above may be gone already.
    let _ = above.send(&Report::Exited { code }, &[]);
    Ok(code)
}

/// Passes reports upwards until the wire below closes, which is when the process runs or has failed.
fn relay(above: &Control, below: &Control, pid: Pid) -> io::Result<()> {
    let mut settled = false;
    let started = Report::Started { pid: pid.as_raw_nonzero().get() };
    while let Some((report, fds)) = below.receive::<Report>()? {
        let report = match report {
            Report::Started { .. } => &started,
            // Said once more by whoever waits for the reaper itself.
            Report::Exited { .. } => continue,
            ref other => other,
        };
        settled |= matches!(report, Report::Started { .. } | Report::Failed { .. });
        above.send(report, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>())?;
    }
    if !settled {
        above.send(&started, &[])?;
    }
    Ok(())
}

fn hold_lifeline(above: Control, below: Arc<OnceLock<Below>>) -> io::Result<()> {
    std::thread::Builder::new().name("lifeline".into()).spawn(move || {
        loop {
            match (above.receive::<Order>(), below.get()) {
                (Ok(Some((Order::Signal { number }, _))), Some(child)) => child.signal(number),
                (Ok(Some(_)), _) => {}
                (_, Some(child)) => return child.kill(),
                // The child, if there is one already, waits for an order that does not come.
                (_, None) => std::process::exit(137),
            }
        }
    })?;
    Ok(())
}

/// Waits for the process, then kills all that it left behind, until we have no descendant.
fn bury(child: &mut Child) -> io::Result<i32> {
    let main = Pid::from_child(child);
    let mut code = 0;
    let mut over = false;
    loop {
        if over {
            for pid in children()? {
                // It may have ended meanwhile.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == main => {
                over = true;
                code = code_of(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CHILD) => return Ok(code),
            Err(error) => return Err(error.into()),
        }
    }
}

fn children() -> io::Result<Vec<Pid>> {
    let ours = rustix::process::getpid().as_raw_nonzero().get().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
            continue;
        };
        // The parent is the second field after the name, which is in brackets and may hold anything.
        let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        if parent == Some(ours.as_str()) {
            found.extend(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// A shell's and a container runtime's way to say both in one number.
fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
