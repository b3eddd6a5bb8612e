//! The container's side of the playground: what the hidden subcommand `playground-container` does, before any
//! runtime or thread starts, since a process with threads cannot enter a user namespace.
//!
//! A container is a chain of the same program: an outer process that joins the pod's namespaces and answers
//! for the end, and an inner one that becomes the container's process. A container that shares another's
//! process namespace has a reaper between the two, so that nothing which it leaves behind outlives it.

mod become_process;
mod network;
mod root;
mod sandbox;
mod supervise;
mod web;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::Signal;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};

use super::control::{Control, Order, Place, Report, Run, Stage};

/// The entry of the hidden subcommand. Takes its orders from standard input, and never returns.
pub fn container_main() -> ! {
    let code = match obey() {
        Ok(code) => code,
        // Whoever is above went while we told it something; we were to go with it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 137,
        Err(error) => {
            eprintln!("porthole: the playground's container process failed: {error}");
            125
        }
    };
    std::process::exit(code)
}

fn obey() -> io::Result<i32> {
    let control = Control::from_stdin()?;
    // A parent that dies before this line has not sent the order yet, since it waits for `Ready`.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    control.send(&Report::Ready, &[])?;
    let Some((order, fds)) = control.receive::<Order>()? else {
        return Ok(137);
    };
    match order {
        Order::Probe { scratch } => sandbox::probe(&control, scratch),
        Order::ProbeRoot { root } => sandbox::probe_root(&root),
        Order::Sandbox { hostname, address } => sandbox::hold(control, &hostname, address),
        Order::Run(run) => start(control, *run, fds),
        Order::Dial { .. } | Order::Signal { .. } => Err(io::Error::other("an order out of place")),
    }
}

fn start(control: Control, run: Run, fds: Vec<OwnedFd>) -> io::Result<i32> {
    let result = match run.stage {
        Stage::Outer => outer(&control, run, fds),
        Stage::Reaper => reaper(&control, run, fds),
        Stage::Inner => inner(control.try_clone()?, run, fds),
    };
    if let Err(error) = &result {
        control.send(&Report::Failed { message: error.to_string() }, &[])?;
        return Ok(128);
    }
    result
}

/// Joins the pod and starts what is below.
fn outer(control: &Control, mut run: Run, mut fds: Vec<OwnedFd>) -> io::Result<i32> {
    // The emulator may start this from a thread that ends before the container does; the lifeline is enough.
    rustix::process::set_parent_process_death_signal(None)?;
    let stdio = if run.terminal { 0 } else { 3 };
    let spaces = fds.split_off(stdio.min(fds.len()));
    let namespaces = ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION;
    let joins = match (&run.place, spaces.as_slice()) {
        (Place::Host, _) => {
            run.stage = Stage::Inner;
            return supervise::supervise(
                control,
                supervise::Task { run, fds, processes: supervise::Processes::Ours, reap: true, prepare: || Ok(()) },
            );
        }
        (_, [sandbox, rest @ ..]) => {
            if run.isolation == super::Isolation::Namespaces && !rustix::process::geteuid().is_root() {
                move_into_thread_name_spaces(sandbox.as_fd(), ThreadNameSpaceType::USER)?;
            }
            move_into_thread_name_spaces(sandbox.as_fd(), namespaces)?;
            rest
        }
        _ => return Err(io::Error::other("a container without its pod's namespaces")),
    };
    let processes = match (&run.place, joins) {
        (Place::Container { shares: false, .. }, _) => supervise::Processes::New,
        (_, [container, ..]) => supervise::Processes::Of(container.try_clone()?),
        _ => return Err(io::Error::other("a container without the one whose processes it shares")),
    };
    let shares = matches!(run.place, Place::Container { shares: true, .. });
    run.stage = if shares { Stage::Reaper } else { Stage::Inner };
    if let (Place::Inside, [container, ..]) = (&run.place, joins) {
        fds.push(container.try_clone()?);
    }
    supervise::supervise(control, supervise::Task { run, fds, processes, reap: false, prepare: || Ok(()) })
}

/// Builds the root directory, and stays beside the process that enters it.
fn reaper(control: &Control, mut run: Run, fds: Vec<OwnedFd>) -> io::Result<i32> {
    let Place::Container { root, .. } = run.place.clone() else {
        return Err(io::Error::other("a reaper without a container"));
    };
    unshare(UnshareFlags::NEWNS)?;
    root::build(&root)?;
    run.stage = Stage::Inner;
    run.place = Place::Host;
    // The process below is started from the host's files, since the image may hold none that it could start
    // from; `pivot_root` then moves the roots of both, because they share the mount namespace.
    let prepare = || root::enter(&root);
    supervise::supervise(
        control,
        supervise::Task { run, fds, processes: supervise::Processes::Ours, reap: true, prepare },
    )
}

fn inner(control: Control, run: Run, mut fds: Vec<OwnedFd>) -> io::Result<i32> {
    match &run.place {
        Place::Host => {}
        Place::Container { root, .. } => {
            unshare(UnshareFlags::NEWNS)?;
            root::build(root)?;
            root::enter(root)?;
        }
        Place::Inside => {
            let container = fds.pop().ok_or_else(|| io::Error::other("no container to enter"))?;
            move_into_thread_name_spaces(container.as_fd(), ThreadNameSpaceType::MOUNT)?;
            become_process::enter_user_namespace(&container);
        }
    }
    become_process::become_process(control, run, fds)
}

/// rustix calls `unshare` unsafe because of `CLONE_FILES` alone, which never passes here.
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES));
    #[allow(deprecated)]
    Ok(rustix::thread::unshare(flags)?)
}
