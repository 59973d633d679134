//! Exit statuses.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};

use nix::sys::signal::Signal;
use rlock::{ConnectError, LockError};

/// The status that `rlock` ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(u8);

impl Exit {
    pub(crate) const OK: Self = Self(0);
    /// Somebody was asked, and said no.
    pub(crate) const DECLINED: Self = Self(1);
    /// A store is not fit.
    pub(crate) const AT_RISK: Self = Self(1);
    /// `EX_USAGE`.
    pub(crate) const USAGE: Self = Self(64);
    /// `EX_UNAVAILABLE`.
    pub(crate) const UNAVAILABLE: Self = Self(69);
    /// `EX_TEMPFAIL`.
    pub(crate) const NOT_ACQUIRED: Self = Self(75);
    /// `EX_PROTOCOL`, the next one after it.
    pub(crate) const LOCK_LOST: Self = Self(76);
    pub(crate) const NOT_EXECUTABLE: Self = Self(126);
    pub(crate) const NOT_FOUND: Self = Self(127);

    /// The program's own status, or 128 and the number of the signal that ended it.
    pub(crate) fn of_program(status: ExitStatus) -> Self {
        let signal = status.signal().unwrap_or_default();
        Self(low_byte(status.code().unwrap_or(128 + signal)))
    }

    pub(crate) fn of_signal(signal: Signal) -> Self {
        Self(low_byte(128 + signal as i32))
    }

    pub(crate) fn of_connect_error(error: &ConnectError) -> Self {
        if error.is_unavailable() || error.is_rejected() { Self::UNAVAILABLE } else { Self::USAGE }
    }

    pub(crate) fn of_lock_error(error: &LockError) -> Self {
        match error {
            LockError::TimedOut { .. } | LockError::Unanswered { .. } => Self::NOT_ACQUIRED,
            LockError::InvalidConfig(_) => Self::USAGE,
            _ => Self::UNAVAILABLE,
        }
    }
}

/// What the system passes on of a status.
fn low_byte(status: i32) -> u8 {
    status.to_le_bytes()[0]
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}
