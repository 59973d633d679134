//! The program under the lock.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::exit::Exit;
use crate::run::held::Held;
use crate::sys::{self, Birth};

/// A program that has been started, and its process group.
#[derive(Debug)]
pub(super) struct Program {
    pid: Pid,
    is_reaped: bool,
}

/// What has become of a program.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Ended(ExitStatus),
    /// By the signal with this number.
    Stopped(i32),
}

impl Program {
    /// Starts `command`. To be called on the main thread: on Linux the program dies with the thread that started it.
    pub(super) fn start(command: &[OsString], held: &Held, birth: Birth) -> Result<Self, StartError> {
        let (program, arguments) = command.split_first().expect("the command line demands a program");
        let mut command = Command::new(program);
        command.args(arguments);
        command.envs(held.environment());
        adopt_orphans();
        sys::prepare(&mut command, birth);
        let child = command.spawn().map_err(|source| StartError::new(program, source))?;
        let pid = i32::try_from(child.id()).expect("process ids are positive numbers of 31 bits");
        Ok(Self { pid: Pid::from_raw(pid), is_reaped: false })
    }

    pub(super) fn group(&self) -> Pid {
        self.pid
    }

    /// The next change that has not been told yet, without waiting for one. A program that has ended is reaped, and so
    /// are its orphans.
    pub(super) fn change(&mut self) -> Option<Change> {
        let status =
            std::iter::from_fn(sys::poll_children).find_map(|(pid, status)| (pid == self.pid).then_some(status))?;
        if let Some(signal) = status.stopped_signal() {
            return Some(Change::Stopped(signal));
        }
        self.is_reaped = true;
        Some(Change::Ended(status))
    }

    /// Sends `signal` to the whole group.
    pub(super) fn signal(&self, signal: Signal) {
        let _nobody_left = killpg(self.pid, signal);
    }

    /// Whether nobody is left of the group. Until the program has been reaped, that is not the case.
    pub(super) fn group_is_gone(&mut self) -> bool {
        let _nothing_new = self.change();
        self.is_reaped && killpg(self.pid, None) == Err(Errno::ESRCH)
    }
}

/// Whatever it has left that has ended by now is reaped.
impl Drop for Program {
    fn drop(&mut self) {
        while self.change().is_some() {}
    }
}

/// Somebody has to reap them before their group has gone, and the first process of a container may not.
fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    let _old_kernel = nix::sys::prctl::set_child_subreaper(true);
}

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
#[error("{program:?} cannot be started: {source}; {remedy}")]
pub(crate) struct StartError {
    program: OsString,
    remedy: &'static str,
    source: io::Error,
}

impl StartError {
    fn new(program: &OsStr, source: io::Error) -> Self {
        let remedy = match source.kind() {
            ErrorKind::NotFound => "check the name, the PATH, and the interpreter if it is a script",
            _ => "check that it is an executable file",
        };
        Self { program: program.into(), remedy, source }
    }

    /// As shells have it.
    pub(super) fn exit(&self) -> Exit {
        if self.source.kind() == ErrorKind::NotFound { Exit::NOT_FOUND } else { Exit::NOT_EXECUTABLE }
    }
}
