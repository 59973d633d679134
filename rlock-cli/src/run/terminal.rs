//! The terminal, which belongs to one process group at a time.

use std::fs::File;
use std::io::{self, IsTerminal as _};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// The terminal that controls this session.
#[derive(Debug)]
pub(super) struct Terminal {
    device: File,
    is_given: bool,
    /// How it was when it was given away. Who is killed does not put it right.
    modes: Option<Termios>,
}

impl Terminal {
    pub(super) fn of_the_session() -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/tty").ok()?;
        Some(Self { device, is_given: false, modes: None })
    }

    /// Lets all threads started from now on write to the terminal, and pass it on, from the background.
    pub(super) fn block_sigttou() -> nix::Result<()> {
        sigttou().thread_block()
    }

    /// Whether `rlock` is in the foreground.
    pub(super) fn is_ours(&self) -> bool {
        tcgetpgrp(&self.device) == Ok(getpgrp())
    }

    /// Whether a program that starts now should make its group the foreground group.
    ///
    /// Others of a pipeline are of our group: a pager has to be able to read keys from the first. The program gets the
    /// terminal then when it asks for it.
    pub(super) fn lend(&mut self) -> bool {
        if !self.is_ours() || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return false;
        }
        self.modes = tcgetattr(&self.device).ok();
        self.is_given = true;
        true
    }

    /// Whether the program's group has it.
    pub(super) fn is_given(&self) -> bool {
        self.is_given
    }

    /// Makes `group` the foreground group, if that is ours to do.
    pub(super) fn give(&mut self, group: Pid) {
        if self.is_ours() {
            self.modes = tcgetattr(&self.device).ok();
            self.is_given = tcsetpgrp(&self.device, group).is_ok();
        }
    }

    /// Makes our group the foreground group again, if it was given away.
    pub(super) fn take_back(&mut self) {
        if std::mem::take(&mut self.is_given) {
            let _hung_up = tcsetpgrp(&self.device, getpgrp());
        }
    }

    /// The same, from a program that was killed: the terminal is left as it was before.
    pub(super) fn put_right(&mut self) {
        if self.is_given {
            self.take_back();
            let _hung_up = self.modes.take().map(|modes| tcsetattr(&self.device, SetArg::TCSADRAIN, &modes));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// Stops this process and the others of its job, since the shell waits for all of it: returns when they are continued. Where
/// no shell could do that, nothing happens.
pub(super) fn stop_the_job() {
    let _cannot_fail = sigttou().thread_unblock();
    let _cannot_fail = kill(Pid::from_raw(0), Signal::SIGTTOU);
    let _cannot_fail = sigttou().thread_block();
}

fn sigttou() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTTOU);
    set
}
