//! The terminal. One process group at a time is its foreground group.

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
    /// The modes from before the program got the terminal. A killed program does not restore them.
    modes: Option<Termios>,
}

impl Terminal {
    pub(super) fn of_the_session() -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/tty").ok()?;
        Some(Self { device, is_given: false, modes: None })
    }

    /// Lets all threads started from now on write to the terminal, and hand it over, from the background.
    pub(super) fn block_sigttou() -> nix::Result<()> {
        sigttou().thread_block()
    }

    /// Whether `rlock` is in the foreground.
    pub(super) fn is_ours(&self) -> bool {
        tcgetpgrp(&self.device) == Ok(getpgrp())
    }

    /// Whether a program that starts now should make its group the foreground group.
    ///
    /// In a pipeline the other programs are in our group, and a pager there has to read keys from the start. The
    /// program then gets the terminal when it reads from it.
    pub(super) fn lend(&mut self) -> bool {
        if !self.is_ours() || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return false;
        }
        self.modes = tcgetattr(&self.device).ok();
        self.is_given = true;
        true
    }

    /// Whether the program's group has the terminal.
    pub(super) fn is_given(&self) -> bool {
        self.is_given
    }

    /// Makes `group` the foreground group, if our group is that now.
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

    /// Takes the terminal back from a program that was killed, and restores its modes.
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

/// Stops this process and the others of its job, since the shell waits for all of them. Returns when they are
/// continued. Does nothing where no shell could continue them.
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
