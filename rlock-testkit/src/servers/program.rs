//! Server programs of this machine: finding them, and running one with its descendants.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::{env, io};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::tree;

/// The first of `names` that is on the `PATH`, or else in one of `folders`.
pub(super) fn find(names: &[&str], folders: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).chain(folders.iter().map(PathBuf::from)).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file()))
}

/// A running program. Dropping this kills it and all its descendants.
#[derive(Debug)]
pub(super) struct RunningProgram {
    child: Child,
}

impl RunningProgram {
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self { child: command.spawn()? })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Pauses it; does nothing if it is paused already.
    pub(super) fn pause(&mut self) -> io::Result<()> {
        self.freeze().map(drop)
    }

    /// Lets it continue, paused or not.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        // Only a frozen tree can be listed completely.
        for process in self.freeze()? {
            kill(process, Signal::SIGCONT)?;
        }
        Ok(())
    }

    /// Stops all its processes, and returns them, the root first.
    fn freeze(&mut self) -> io::Result<Vec<Pid>> {
        if self.has_ended()? {
            return Err(io::Error::other("it has ended"));
        }
        tree::freeze(Pid::from_raw(self.child.id().cast_signed()))
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        // The descendants end first: a stopped parent does not reap them, so that no id can be reused by another
        // process.
        if let Ok(tree) = self.freeze() {
            tree::end(&tree[1..]);
        }
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}
