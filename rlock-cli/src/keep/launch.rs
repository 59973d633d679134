//! The start of the program.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::process::Command;

use nix::unistd::Pid;

use super::namespace::Namespace;
use crate::sys;

/// A program that can be started once.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a OsStr,
    pub(crate) arguments: &'a [OsString],
}

impl<'a> Launch<'a> {
    pub(crate) fn of(command: &'a [OsString]) -> Self {
        let (program, arguments) = command.split_first().expect("the command line demands a program");
        Self { program, arguments }
    }

    /// Starts the program in a process group of its own. On Linux it dies with the thread that calls this.
    pub(super) fn start(
        &self,
        environment: Vec<(String, String)>,
        in_front: bool,
        namespace: Namespace,
    ) -> io::Result<Pid> {
        let terminal = in_front.then(|| File::options().read(true).write(true).open("/dev/tty")).transpose()?;
        let mut command = Command::new(self.program);
        command.args(self.arguments).envs(environment);
        if namespace == Namespace::Own {
            sys::see_own_processes(&mut command);
        }
        sys::prepare(&mut command, terminal.map(Into::into));
        let child = command.spawn()?;
        sys::leave_the_streams();
        Ok(Pid::from_raw(i32::try_from(child.id()).expect("process ids are positive numbers of 31 bits")))
    }
}
