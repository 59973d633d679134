//! PID namespaces.

use std::io;
use std::process::Command;

#[cfg(target_os = "linux")]
use {
    nix::errno::Errno,
    nix::libc,
    nix::sys::signal::{SigHandler, Signal, signal},
    std::fs,
    std::os::unix::process::CommandExt as _,
    std::ptr,
};

/// Makes a PID namespace for the children that this process starts from now on. A user without the right to do that
/// gets a user namespace as well, in which there is no other user. Call this before there is a second thread.
#[cfg(target_os = "linux")]
pub(crate) fn unshare_processes() -> io::Result<()> {
    // SAFETY: the call touches no memory.
    match Errno::result(unsafe { libc::unshare(libc::CLONE_NEWPID) }) {
        Err(Errno::EPERM) => {}
        done => return Ok(done.map(drop)?),
    }
    // SAFETY: the calls touch no memory.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: the call touches no memory.
    Errno::result(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) })?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn unshare_processes() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Prepares the first process of a PID namespace: it dies with its parent, keeps no dead children, and leaves the
/// standard streams. Fails if a program in the namespace could not [see its processes](see_own_processes).
#[cfg(target_os = "linux")]
pub(crate) fn become_init() -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // SAFETY: an ignored signal runs no code of this program.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    mount_proc()?;
    super::leave_the_streams();
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn become_init() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Waits until this process has no child.
#[cfg(target_os = "linux")]
pub(crate) fn wait_for_children() {
    // SAFETY: without a pointer the call writes no status.
    while unsafe { libc::waitpid(-1, ptr::null_mut(), libc::__WALL) } > 0 || Errno::last() == Errno::EINTR {}
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn wait_for_children() {}

/// Gives the command the `/proc` of its own PID namespace.
#[cfg(target_os = "linux")]
pub(crate) fn see_own_processes(command: &mut Command) {
    // SAFETY: between fork and exec the function makes system calls alone, with strings that are part of the program.
    unsafe {
        command.pre_exec(mount_proc);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn see_own_processes(_command: &mut Command) {}

/// Mounts the `/proc` of this PID namespace for this process and its descendants alone.
#[cfg(target_os = "linux")]
fn mount_proc() -> io::Result<()> {
    let none: *const libc::c_char = ptr::null();
    let (slave, proc) = (libc::MS_REC | libc::MS_SLAVE, libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC);
    // SAFETY: the call touches no memory.
    Errno::result(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    // SAFETY: the string ends with NUL, and the call takes null pointers for what it does not need.
    Errno::result(unsafe { libc::mount(none, c"/".as_ptr(), none, slave, ptr::null()) })?;
    // SAFETY: the strings end with NUL, and the call takes a null pointer for absent options.
    Errno::result(unsafe { libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), proc, ptr::null()) })?;
    Ok(())
}
