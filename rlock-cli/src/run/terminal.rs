//! The terminal, which belongs to one process group at a time.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// The terminal that standard input is, if it is one and controls this session.
#[derive(Debug)]
pub(super) struct Terminal {
    is_given: bool,
}

impl Terminal {
    pub(super) fn of_stdin() -> Option<Self> {
        tcgetpgrp(io::stdin()).ok().map(|_| Self { is_given: false })
    }

    /// Lets all threads started from now on write to the terminal, and pass it on, from the background.
    pub(super) fn block_sigttou() -> nix::Result<()> {
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTTOU);
        blocked.thread_block()
    }

    /// Whether `rlock` is in the foreground.
    pub(super) fn is_ours(&self) -> bool {
        tcgetpgrp(io::stdin()) == Ok(getpgrp())
    }

    /// Whether a program that starts now is to make its group the foreground group.
    pub(super) fn lend(&mut self) -> bool {
        self.is_given = self.is_ours();
        self.is_given
    }

    /// Whether the program's group has it.
    pub(super) fn is_given(&self) -> bool {
        self.is_given
    }

    /// Makes `group` the foreground group, if that is ours to do.
    pub(super) fn give(&mut self, group: Pid) {
        if self.is_ours() {
            self.is_given = tcsetpgrp(io::stdin(), group).is_ok();
        }
    }

    /// Makes our group the foreground group again, if it was given away.
    pub(super) fn take_back(&mut self) {
        if std::mem::take(&mut self.is_given) {
            let _hung_up = tcsetpgrp(io::stdin(), getpgrp());
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.take_back();
    }
}
