//! Exit statuses.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};

use nix::sys::signal::Signal;
use rlock::{ConnectError, LockError};

use crate::sys;

/// The status that `rlock` ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    status: u8,
    /// `rlock` dies of SIGINT, as the program did. A shell ends its loop then.
    is_interrupted: bool,
}

impl Exit {
    pub(crate) const OK: Self = Self::new(0);
    /// The user declined at the terminal.
    pub(crate) const DECLINED: Self = Self::new(1);
    /// An election has no leader.
    pub(crate) const VACANT: Self = Self::new(1);
    /// The store is not fit for locks.
    pub(crate) const AT_RISK: Self = Self::new(1);
    /// `EX_USAGE`.
    pub(crate) const USAGE: Self = Self::new(64);
    /// `EX_UNAVAILABLE`.
    pub(crate) const UNAVAILABLE: Self = Self::new(69);
    /// `EX_OSERR`.
    pub(crate) const SYSTEM: Self = Self::new(71);
    /// `EX_IOERR`.
    pub(crate) const IO_ERROR: Self = Self::new(74);
    /// `EX_TEMPFAIL`.
    pub(crate) const NOT_ACQUIRED: Self = Self::new(75);
    /// `EX_PROTOCOL`, for being the next number.
    pub(crate) const LOCK_LOST: Self = Self::new(76);
    /// `EX_NOPERM`.
    pub(crate) const HELD_TOO_LONG: Self = Self::new(77);
    pub(crate) const NOT_EXECUTABLE: Self = Self::new(126);
    pub(crate) const NOT_FOUND: Self = Self::new(127);

    pub(crate) const fn new(status: u8) -> Self {
        Self { status, is_interrupted: false }
    }

    /// The program's own status, or 128 and the number of the signal that ended it.
    pub(crate) fn of_program(status: ExitStatus) -> Self {
        status.code().map_or_else(|| Self::of(status.signal().unwrap_or_default()), |code| Self::new(low_byte(code)))
    }

    pub(crate) fn of_signal(signal: Signal) -> Self {
        Self::of(signal as i32)
    }

    fn of(signal: i32) -> Self {
        Self { status: low_byte(128 + signal), is_interrupted: signal == Signal::SIGINT as i32 }
    }

    pub(crate) fn status(self) -> u8 {
        self.status
    }

    /// Ends this process.
    pub(crate) fn end(self) -> ExitCode {
        if self.is_interrupted {
            sys::die_of(Signal::SIGINT);
        }
        self.status.into()
    }

    pub(crate) fn of_connect_error(error: &ConnectError) -> Self {
        if matches!(error, ConnectError::Start(_)) {
            return Self::SYSTEM;
        }
        if error.is_unavailable() || error.is_rejected() { Self::UNAVAILABLE } else { Self::USAGE }
    }

    pub(crate) fn of_lock_error(error: &LockError) -> Self {
        match error {
            LockError::TimedOut { .. } => Self::NOT_ACQUIRED,
            LockError::InvalidConfig(_) => Self::USAGE,
            _ => Self::UNAVAILABLE,
        }
    }
}

/// The part of a status that the system reports.
fn low_byte(status: i32) -> u8 {
    status.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rlock::ResourceName;

    use super::*;

    #[test]
    fn claim_without_an_answer_is_69() {
        let resource = ResourceName::new("x").unwrap();
        let error = LockError::Unanswered { resource, wait: Duration::from_secs(2) };
        assert_eq!(Exit::of_lock_error(&error), Exit::UNAVAILABLE);
    }
}
