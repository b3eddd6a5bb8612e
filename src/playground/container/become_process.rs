//! The last steps before a container's process is itself: its terminal, its user, its program.
//!
//! The wire closes with the start of the program, and by that alone; whatever fails before is said on it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Gid, Mode, Uid, fchmod, fchown};
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior};
use rustix::pty::OpenptFlags;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{CapabilitySet, CapabilitySets, ThreadNameSpaceType, UnshareFlags};

use super::super::control::{Control, Place, Program, Report, Run};
use super::web;

pub(super) fn become_process(control: Control, run: Run, fds: Vec<OwnedFd>) -> io::Result<i32> {
    rustix::process::setsid()?;
    match fds.as_slice() {
        [] if run.terminal => take_terminal(&control, run.uid)?,
        [stdin, stdout, stderr, ..] => {
            dup2_stdin(stdin)?;
            dup2_stdout(stdout)?;
            dup2_stderr(stderr)?;
        }
        _ => return Err(io::Error::other("a process without standard streams")),
    }
    drop(fds);
    enter_directory(run.directory.as_deref().unwrap_or(Path::new("/")))?;
    take_credentials(&run)?;
    match run.program {
        Program::Command(words) => Err(execute(&words, run.env)),
        Program::Web { bind, port, body } => {
            let listener = std::net::TcpListener::bind((bind, port))?;
            settle(run.capabilities.as_deref())?;
            control.close();
            web::serve(&listener, &body)
        }
        Program::Pause => {
            settle(run.capabilities.as_deref())?;
            control.close();
            loop {
                std::thread::park();
            }
        }
    }
}

/// A terminal of the container's own `/dev/pts`, so that `tty` and `ps` name it as they would anywhere.
fn take_terminal(control: &Control, uid: Option<u32>) -> io::Result<()> {
    let controller = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    rustix::pty::grantpt(&controller)?;
    rustix::pty::unlockpt(&controller)?;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&controller, OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    if let Some(uid) = uid {
        // In a user namespace there is one user; the terminal is theirs already.
        let _ = fchown(&terminal, Some(Uid::from_raw(uid)), None::<Gid>);
    }
    fchmod(&terminal, Mode::from_raw_mode(0o620))?;
    control.send(&Report::Terminal, &[controller.as_fd()])?;
    rustix::process::ioctl_tiocsctty(&terminal)?;
    dup2_stdin(&terminal)?;
    dup2_stdout(&terminal)?;
    dup2_stderr(&terminal)?;
    Ok(())
}

fn enter_directory(directory: &Path) -> io::Result<()> {
    // A container runtime makes a missing working directory; where we cannot, entering it says why.
    let _ = std::fs::create_dir_all(directory);
    std::env::set_current_dir(directory)
}

fn take_credentials(run: &Run) -> io::Result<()> {
    if let Some(kept) = run.capabilities.as_ref().filter(|_| rustix::process::geteuid().is_root()) {
        for (name, capability) in CapabilitySet::all().iter_names() {
            // Both rustix and Kubernetes name them without `CAP_`.
            if !kept.iter().any(|kept| kept == name) {
                // The kernel may know fewer than rustix.
                let _ = rustix::thread::remove_capability_from_bounding_set(capability);
            }
        }
    }
    let uid = run.uid.unwrap_or(0);
    let gid = run.gid.unwrap_or(0);
    let mapped = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let one_user = mapped.split_whitespace().nth(2) == Some("1");
    if matches!(run.place, Place::Host) && !rustix::process::geteuid().is_root() {
        // Plain processes of an ordinary user: there is no other user to become.
    } else if one_user {
        // An exec is in the container's user namespace already.
        if rustix::process::geteuid() != Uid::from_raw(uid) {
            take_name(uid, gid)?;
        }
    } else {
        let mut groups = vec![Gid::from_raw(gid)];
        groups.extend(run.groups.iter().copied().map(Gid::from_raw));
        rustix::thread::set_thread_groups(&groups)?;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    if run.no_new_privileges {
        rustix::thread::set_no_new_privs(true)?;
    }
    // A change of user forgets it.
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// What starting a program would have done to us: the capabilities that the bounding set leaves, and that our
/// `/proc` entry is our user's to read.
fn settle(kept: Option<&[String]>) -> io::Result<()> {
    let had = rustix::thread::capabilities(None)?;
    let mut left = CapabilitySet::empty();
    for (name, capability) in CapabilitySet::all().iter_names() {
        if kept.is_none_or(|kept| kept.iter().any(|kept| kept == name)) {
            left |= capability;
        }
    }
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: had.effective & left,
            permitted: had.permitted & left,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?)
}

/// With one user to go around, another number for the same user: a user namespace in the user namespace.
fn take_name(uid: u32, gid: u32) -> io::Result<()> {
    super::unshare(UnshareFlags::NEWUSER)?;
    super::sandbox::map_user((uid, 0), (gid, 0))
}

/// The process `container` may have another number for its user than the pod has.
pub(super) fn enter_user_namespace(container: impl AsFd) {
    // It fails where this is our own already, and then there is nothing to enter.
    let _ = rustix::thread::move_into_thread_name_spaces(container.as_fd(), ThreadNameSpaceType::USER);
}

fn execute(words: &[String], env: Vec<(String, String)>) -> io::Error {
    let Some((program, arguments)) = words.split_first() else {
        return io::Error::other("args must not be empty");
    };
    // What cannot be mended here would fail a program later, if at all.
    let _ = default_signals();
    let path = env.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value.as_str());
    let error = match find(program, path) {
        Some(found) => Command::new(found).arg0(program).args(arguments).env_clear().envs(env).exec(),
        None if program.contains('/') => io::ErrorKind::NotFound.into(),
        None => return unstartable(program, "executable file not found in $PATH"),
    };
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    unstartable(program, &format!("stat {program}: {reason}"))
}

/// Gives the program the default action for what a keyboard sends, as a container runtime does. Whoever started us may
/// have left it ignored (a shell does, for what it runs in the background), and ignored signals survive an exec; signals
/// with a handler do not.
fn default_signals() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::quit(), SignalKind::hangup(), SignalKind::terminate()] {
        drop(signal(kind)?);
    }
    Ok(())
}

/// As runc words it.
fn unstartable(program: &str, reason: &str) -> io::Error {
    io::Error::other(format!("unable to start container process: exec: {program:?}: {reason}"))
}

fn find(program: &str, path: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(program.into());
    }
    let executable = |file: &PathBuf| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file();
    path.split(':').map(|directory| Path::new(directory).join(program)).find(executable)
}
