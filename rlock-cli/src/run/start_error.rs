//! Reasons why a program was not started.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};

use nix::errno::Errno;

use crate::exit::Exit;

/// The reason why a program was not started.
#[derive(Debug, thiserror::Error)]
#[error("{program:?} cannot be started: {source}; {remedy}")]
pub(crate) struct StartError {
    program: OsString,
    remedy: &'static str,
    source: io::Error,
}

impl StartError {
    pub(super) fn new(program: &OsStr, source: io::Error) -> Self {
        let text = program.to_string_lossy();
        let remedy = match source.kind() {
            _ if Self::is_of_the_system(&source) => "there are too many processes: raise the limit (ulimit -u)",
            ErrorKind::NotFound if text.contains(char::is_whitespace) => "for shell code: -- sh -c '…'",
            ErrorKind::NotFound => "check the name, the PATH, and the interpreter if it is a script",
            _ => "check that it is an executable file",
        };
        Self { program: program.into(), remedy, source }
    }

    /// Whether the system refused a process, a descriptor or memory: the program itself may be good.
    fn is_of_the_system(source: &io::Error) -> bool {
        const OF_THE_SYSTEM: [Errno; 4] = [Errno::EAGAIN, Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
        source.raw_os_error().is_some_and(|error| OF_THE_SYSTEM.contains(&Errno::from_raw(error)))
    }

    /// The status that a shell would report.
    pub(super) fn exit(&self) -> Exit {
        match self.source.kind() {
            _ if Self::is_of_the_system(&self.source) => Exit::SYSTEM,
            ErrorKind::NotFound => Exit::NOT_FOUND,
            _ => Exit::NOT_EXECUTABLE,
        }
    }
}
