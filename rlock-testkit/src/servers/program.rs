//! A program that runs, with the processes that it has started.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::{env, io};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::tree;

/// A program that runs. Dropping this kills it, and every process that descends from it.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
}

impl Program {
    /// The first of `names` that the `PATH` has, or else one of `folders`.
    pub(super) fn find(names: &[&str], folders: &[&str]) -> Option<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders: Vec<_> = env::split_paths(&path).chain(folders.iter().map(PathBuf::from)).collect();
        names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file()))
    }

    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self { child: command.spawn()? })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Stops it; more than once is as good as once.
    pub(super) fn pause(&mut self) -> io::Result<()> {
        self.freeze().map(drop)
    }

    /// Lets it go on, paused or not.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        // To know all of them, they have to stand still.
        for process in self.freeze()? {
            kill(process, Signal::SIGCONT)?;
        }
        Ok(())
    }

    /// Stops all of its processes, and says which they are: itself in front.
    fn freeze(&mut self) -> io::Result<Vec<Pid>> {
        if self.has_ended()? {
            return Err(io::Error::other("it has ended"));
        }
        tree::freeze(Pid::from_raw(self.child.id().cast_signed()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The others first: while the parent stands still it waits for nobody, and an id cannot be given to a stranger.
        if let Ok(tree) = self.freeze() {
            tree::end(&tree[1..]);
        }
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}
