//! The calls that are not safe by their types: all of them in this file.
#![allow(unsafe_code, reason = "a child between fork and exec, its status, and the disposition of signals")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};

use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getpgrp, tcsetpgrp};

/// What a program does between its start and its first instruction.
#[derive(Debug)]
pub(crate) struct Birth {
    /// Is told the process id, which is that of the program's group.
    pub(crate) keeper: OwnedFd,
    /// Whose foreground group it makes its own.
    pub(crate) terminal: Option<OwnedFd>,
}

/// Lets the child live in a process group of its own, and die with this process where the system can do that. There
/// that holds for as long as the thread lives that starts it.
pub(crate) fn prepare(command: &mut Command, birth: Birth) {
    let parent = std::process::id();
    command.process_group(0);
    // SAFETY: between fork and exec the closure makes system calls alone, by functions that are safe in a signal
    // handler: it allocates nothing, takes no lock and touches no memory of other threads.
    unsafe {
        command.pre_exec(move || {
            die_with(parent)?;
            nix::unistd::write(&birth.keeper, &nix::unistd::getpid().as_raw().to_ne_bytes())?;
            start_in_front(birth.terminal.as_ref())
        });
    }
}

#[cfg(target_os = "linux")]
fn die_with(parent: u32) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let parent_died_before = nix::unistd::getppid().as_raw().cast_unsigned() != parent;
    if parent_died_before { Err(io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(()) }
}

#[cfg(not(target_os = "linux"))]
fn die_with(_parent: u32) -> io::Result<()> {
    Ok(())
}

/// Takes the terminal, which a group in the background may do only while it blocks SIGTTOU, as this process does. The
/// program is not to inherit that.
fn start_in_front(terminal: Option<&OwnedFd>) -> io::Result<()> {
    let taken = terminal.map_or(Ok(()), |terminal| tcsetpgrp(terminal, getpgrp()));
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTTOU);
    blocked.thread_unblock()?;
    Ok(taken?)
}

/// A child, or an adopted orphan, of which something has become that was not told yet: it has ended, and is reaped, or
/// has been stopped.
pub(crate) fn poll_children() -> Option<(Pid, ExitStatus)> {
    let mut status = 0;
    // SAFETY: the status is written to an integer that lives on past the call.
    let child = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
    (child > 0).then(|| (Pid::from_raw(child), ExitStatus::from_raw(status)))
}

/// Whether this process was started with `signal` ignored, as by `nohup`, or still ignores it.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    let mut disposition = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new disposition is given, and the old one is written to memory of its own type, for which all
    // zeroes are a valid value.
    let disposition = unsafe {
        libc::sigaction(signal as libc::c_int, std::ptr::null(), disposition.as_mut_ptr());
        disposition.assume_init()
    };
    disposition.sa_sigaction == libc::SIG_IGN
}
