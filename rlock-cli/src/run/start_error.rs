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
        let remedy = Self::remedy_of_the_system(&source).unwrap_or_else(|| match source.kind() {
            ErrorKind::NotFound if text.contains(char::is_whitespace) => "for shell code: -- sh -c '…'",
            ErrorKind::NotFound => "check the name, the PATH, and the interpreter if it is a script",
            _ => "check that it is an executable file",
        });
        Self { program: program.into(), remedy, source }
    }

    /// The remedy if the system refused a process, a descriptor or memory: the program itself may be good.
    pub(super) fn remedy_of_the_system(source: &io::Error) -> Option<&'static str> {
        Some(match Errno::from_raw(source.raw_os_error()?) {
            Errno::EAGAIN => "there are too many processes: raise the limit (ulimit -u)",
            Errno::EMFILE | Errno::ENFILE => "too many files are open: raise the limit (ulimit -n, fs.file-max)",
            Errno::ENOMEM => "the system has too little memory",
            _ => return None,
        })
    }

    /// The status that a shell would report.
    pub(super) fn exit(&self) -> Exit {
        match self.source.kind() {
            _ if Self::remedy_of_the_system(&self.source).is_some() => Exit::SYSTEM,
            ErrorKind::NotFound => Exit::NOT_FOUND,
            _ => Exit::NOT_EXECUTABLE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_the_system_have_their_remedies() {
        for (errno, remedy) in [
            (Errno::EAGAIN, "too many processes"),
            (Errno::EMFILE, "too many files"),
            (Errno::ENOMEM, "too little memory"),
        ] {
            let error = StartError::new(OsStr::new("job"), io::Error::from_raw_os_error(errno as i32));
            assert!(error.to_string().contains(remedy), "{error}");
            assert_eq!(error.exit(), Exit::SYSTEM);
        }
    }
}
