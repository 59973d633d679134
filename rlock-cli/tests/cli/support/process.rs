//! Processes that a test observes without having started them.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::until;

/// A process that a test did not start itself. Dropping this kills it, unless another process has its number by then.
pub(crate) struct Process(Pid, Option<String>);

impl Process {
    pub(crate) fn pid(&self) -> Pid {
        self.0
    }

    /// Whether it can still run an instruction.
    pub(crate) fn is_alive(&self) -> bool {
        Self::is_running(self.0)
    }

    /// Whether a process that the test does not kill is alive. A process with a pending SIGKILL runs no more
    /// instructions.
    pub(crate) fn is_running(pid: Pid) -> bool {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let pending = status.lines().filter(|line| line.starts_with("SigPnd:") || line.starts_with("ShdPnd:"));
        let signals = pending.filter_map(|line| u64::from_str_radix(line.split('\t').nth(1)?, 16).ok());
        if signals.fold(0, |all, signals| all | signals) & (1 << (Signal::SIGKILL as i32 - 1)) != 0 {
            return false;
        }
        // The state is that of the first thread, which other threads may outlive.
        let is_zombie = ["\nState:\tZ", "\nState:\tX"].iter().any(|state| status.contains(state));
        let has_one_thread = ["\nThreads:\t0\n", "\nThreads:\t1\n"].iter().any(|threads| status.contains(threads));
        let has_ended = status.is_empty() || is_zombie && has_one_thread;
        !has_ended
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_in_state('T')
    }

    fn is_in_state(&self, expected: char) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(expected))
    }

    pub(crate) fn wait_until_dead(&self) {
        until("the end of a process", || (!self.is_alive()).then_some(()));
    }

    /// Waits until its parent has reaped it.
    pub(crate) fn wait_until_reaped(&self) {
        until("the end of a process", || (start_of(self.0) != self.1).then_some(()));
    }

    pub(crate) fn wait_until_stopped(&self) {
        until("the stop of a process", || self.is_stopped().then_some(()));
    }
}

/// The parent of a process.
pub(crate) fn parent_of(pid: Pid) -> Pid {
    parent_of_any(pid).expect("it runs")
}

/// The children of a process.
pub(crate) fn children_of(pid: Pid) -> Vec<Pid> {
    let folders = fs::read_dir("/proc").expect("it is mounted").flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    pids.filter(|child| Process::is_running(*child) && parent_of_any(*child) == Some(pid)).collect()
}

fn parent_of_any(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(1)?.parse().ok().map(Pid::from_raw)
}

/// The time at which a process was started.
fn start_of(pid: Pid) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19).map(str::to_owned)
}

impl From<Pid> for Process {
    fn from(pid: Pid) -> Self {
        Self(pid, start_of(pid))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_alive() && self.1 == start_of(self.0) {
            let _ended_already = kill(self.0, Signal::SIGKILL);
        }
    }
}
