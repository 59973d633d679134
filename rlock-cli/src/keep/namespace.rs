//! The PID namespace of a program. The kernel kills all processes in it when its first process ends, and that one ends
//! with the keeper. So nothing of the tree is left even if `rlock` and the keeper are killed at once.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::exit;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::sys;

/// The PID namespace that a program runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// The one of `rlock`.
    Shared,
    /// A new one, for the program and its descendants.
    Own,
}

/// The first process of a PID namespace, the parent of its orphans. It ends after all other processes there. Dropping
/// this kills it, if it has not ended, and with it the whole namespace.
#[derive(Debug)]
pub(super) struct Init {
    pid: Pid,
    socket: UnixStream,
    /// The name of the namespace.
    name: String,
    is_released: bool,
}

impl Init {
    /// Starts it. The children that this process starts afterwards are in the namespace as well. Call this before there
    /// is a second thread.
    pub(super) fn start() -> io::Result<Self> {
        sys::unshare_processes()?;
        let (socket, keeper) = UnixStream::pair()?;
        let Some(pid) = sys::fork()? else {
            drop(socket);
            exit(i32::from(serve(keeper).is_err()));
        };
        drop(keeper);
        let mut init = Self { pid, socket, name: String::new(), is_released: false };
        let mut answer = [0; 4];
        init.socket.read_exact(&mut answer)?;
        match i32::from_ne_bytes(answer) {
            0 => {
                let unnamed = |error| io::Error::other(format!("its name cannot be read: {error}"));
                init.name = name_of_namespace(pid).map_err(unnamed)?;
            }
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        Ok(init)
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// The name of the namespace, by which the processes in it recognize it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Lets it end once it has no child. Call this when its parent has no other child: all others in the namespace are
    /// then below it.
    pub(super) fn release(&mut self) {
        self.is_released = true;
        let _dead = self.socket.write_all(&[1]);
    }

    pub(super) fn is_released(&self) -> bool {
        self.is_released
    }
}

impl Drop for Init {
    /// Also reaps it: `rlock` does not reap the orphans of its keeper, nor does the first process of many a container.
    fn drop(&mut self) {
        // Once it has been reaped, its number may belong to another process.
        if waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
            let _cannot_fail = kill(self.pid, Signal::SIGKILL);
            // The kernel ends it after the program, once that has been reaped.
            sys::wait_for_children();
        }
    }
}

/// The name of the PID namespace of a process, or of this process for `self`. No two namespaces of a host have the same
/// name at the same time. Fails outside Linux.
pub(crate) fn name_of_namespace(process: impl fmt::Display) -> io::Result<String> {
    let link = fs::read_link(format!("/proc/{process}/ns/pid"))?;
    Ok(link.to_string_lossy().into_owned())
}

/// The work of the first process.
fn serve(mut keeper: UnixStream) -> io::Result<()> {
    let ready = sys::become_init();
    let answer = ready.as_ref().err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
    keeper.write_all(&answer.to_ne_bytes())?;
    ready?;
    sys::hurry(); // the kernel kills the others only once this process runs its end
    keeper.read_exact(&mut [0])?; // fails if the keeper has died
    sys::wait_for_children();
    Ok(())
}
