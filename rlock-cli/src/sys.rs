//! All unsafe calls of the command.
#![allow(unsafe_code, reason = "forks, a child before it runs its program, its status, and signals by number")]

mod namespace;

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{ForkResult, Pid, getpgrp, tcsetpgrp};

pub(crate) use self::namespace::{become_init, see_own_processes, unshare_processes, wait_for_children};

/// Forks this process, and returns the child's process id to the parent. Call this before there is a second thread: the
/// child has no copy of it, and would wait for ever for a mutex that it held.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process has one thread, so that the child may do whatever the parent might.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Puts the child into its own process group, and makes that the foreground group of `terminal`. On Linux the child
/// dies with the thread that starts it.
pub(crate) fn prepare(command: &mut Command, terminal: Option<OwnedFd>) {
    let parent = std::process::id();
    command.process_group(0);
    // SAFETY: between fork and exec the closure makes system calls alone, by functions that are safe in a signal
    // handler: it allocates nothing, takes no lock and touches no memory of other threads.
    unsafe {
        command.pre_exec(move || {
            signal_at_death_of(parent, Signal::SIGKILL)?;
            start_in_front(terminal.as_ref())
        });
    }
}

/// Lets the system send `signal` to this process when the thread that started it dies. Fails if that thread's process,
/// `parent`, is dead already. Outside Linux it does nothing.
#[cfg(target_os = "linux")]
pub(crate) fn signal_at_death_of(parent: u32, signal: Signal) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(signal)?;
    // In a PID namespace the number is 0, since the parent is outside. The namespace itself ends with the parent.
    let now = nix::unistd::getppid().as_raw().cast_unsigned();
    let parent_died_before = now != parent && now != 0;
    if parent_died_before { Err(io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(()) }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn signal_at_death_of(_parent: u32, _signal: Signal) -> io::Result<()> {
    Ok(())
}

/// Takes the terminal. A background group may do that only while it blocks SIGTTOU, as the keeper does. The program
/// inherits no blocked signal.
fn start_in_front(terminal: Option<&OwnedFd>) -> io::Result<()> {
    let taken = terminal.map_or(Ok(()), |terminal| tcsetpgrp(terminal, getpgrp()));
    SigSet::empty().thread_set_mask()?;
    Ok(taken?)
}

/// Lets this process run before others, if the system allows it, so that it does not kill too late on a loaded host. On
/// Linux it gets a real-time priority, because a nice value counts only among the processes of one session if the kernel
/// groups processes by session (`sched(7)`, autogroups). Its children do not inherit it. Where that is refused, the nice
/// value remains.
pub(crate) fn hurry() {
    const FIRST: i32 = -20;
    #[cfg(target_os = "linux")]
    {
        let lowest: libc::c_int = 1; // all that the kernel reads of `sched_param`
        let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
        // SAFETY: the call reads the number. The function of musl refuses always, the system call does not.
        let _not_allowed = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const lowest) };
    }
    // SAFETY: the call touches no memory.
    let _not_allowed = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, FIRST) };
}

/// On Linux, makes this process the new parent of each descendant whose parent dies.
pub(crate) fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    let _old_kernel = nix::sys::prctl::set_child_subreaper(true);
}

/// Closes the standard streams, because their readers wait until the last process has closed them.
pub(crate) fn leave_the_streams() {
    if let Ok(nothing) = File::options().read(true).write(true).open("/dev/null") {
        for stream in 0..=2 {
            // SAFETY: both descriptors are open. The types of the standard library borrow the streams by their numbers
            // alone, which stay open.
            let _cannot_fail = unsafe { libc::dup2(nothing.as_raw_fd(), stream) };
        }
    }
}

/// A change of a child, or of an adopted orphan.
pub(crate) enum Child {
    /// It ended and was reaped, or it was stopped.
    Changed(Pid, ExitStatus),
    Unchanged,
    /// There is no child.
    None,
}

/// The next unreported change of a child. Does not wait for one.
pub(crate) fn next_child() -> Child {
    let mut status = 0;
    // SAFETY: the status is written to an integer that lives on past the call.
    let child = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
    match child {
        1.. => Child::Changed(Pid::from_raw(child), ExitStatus::from_raw(status)),
        0 => Child::Unchanged,
        _ if Errno::last() == Errno::ECHILD => Child::None,
        _ => Child::Unchanged,
    }
}

/// Whether this process has a child, dead or alive. Always true outside Linux.
pub(crate) fn has_children() -> bool {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
        waitid(Id::All, flags) != Err(Errno::ECHILD)
    }
    #[cfg(not(target_os = "linux"))]
    true
}

/// Sends a signal to a process group. The signal is a number, because not all signals have names.
pub(crate) fn signal_group(group: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: the call touches no memory.
    Errno::result(unsafe { libc::killpg(group.as_raw(), signal) }).map(drop)
}

/// Sends a signal to the process `pid`, if `is_meant` confirms that it is still the same process.
///
/// On Linux it opens a descriptor first, so that the number cannot pass to another process between the check and the
/// signal.
pub(crate) fn signal_process(pid: i32, signal: i32, is_meant: impl FnOnce() -> bool) -> Result<(), Errno> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::FromRawFd as _;
        let no_flags = 0;
        // SAFETY: the call takes two integers, and returns a descriptor or an error.
        match Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, no_flags) }) {
            Ok(descriptor) => {
                let descriptor = i32::try_from(descriptor).expect("descriptors are small numbers");
                // SAFETY: the call before made the descriptor, and no other code knows it.
                let process = unsafe { OwnedFd::from_raw_fd(descriptor) };
                if !is_meant() {
                    return Err(Errno::ESRCH);
                }
                let no_info = std::ptr::null::<libc::siginfo_t>();
                // SAFETY: the descriptor is open, and without an info the call reads no memory.
                let sent = unsafe {
                    libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, no_info, no_flags)
                };
                return Errno::result(sent).map(drop);
            }
            Err(Errno::ENOSYS | Errno::EMFILE | Errno::ENFILE | Errno::EPERM) => {}
            Err(error) => return Err(error),
        }
    }
    if !is_meant() {
        return Err(Errno::ESRCH);
    }
    // SAFETY: the call touches no memory.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Ends this process by `signal`, so that its parent sees the signal and not a status. Returns where the system ignores
/// the signal, as for the first process of a container.
pub(crate) fn die_of(signal: Signal) {
    // SAFETY: the default disposition runs no code of this program.
    let _cannot_fail = unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) };
    let _cannot_fail = SigSet::from_iter([signal]).thread_unblock();
    let _cannot_fail = nix::sys::signal::raise(signal);
}

/// Whether this process ignores `signal`, as when `nohup` started it.
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
