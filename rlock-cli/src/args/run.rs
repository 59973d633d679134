//! The arguments of `rlock run`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rlock::LockHandle;

use super::lock::LockArgs;
use super::values::time;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) lock: LockArgs,

    /// Runs under the lock of this handle, which rlock acquire printed, and leaves the lock held
    #[arg(long, value_name = "HANDLE", conflicts_with_all = ["name", "names", "min_hold"])]
    pub(crate) handle: Option<LockHandle>,

    /// Ends the program once it has run for this long
    ///
    /// It gets TERM, and KILL after the time of --kill-after, or else after a quarter of the TTL (5s at most).
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) max_hold: Option<Duration>,

    /// Keeps the lock taken for at least this time after the grant, so that a host with a slow clock does not run the
    /// program again
    ///
    /// The store keeps that time, however rlock ends.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) min_hold: Option<Duration>,

    /// The action on the program when the lock is lost, or cannot be extended in time
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnLost::Term)]
    pub(crate) on_lost: OnLost,

    /// Kills the program if it runs for longer than this after rlock forwarded TERM, INT, HUP or QUIT
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) kill_after: Option<Duration>,

    /// The processes that have to end before the lock is released
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = WaitFor::Tree)]
    pub(crate) wait_for: WaitFor,

    /// Runs the program in a PID namespace, which the system ends with the keeper: nothing of the tree is left, even if
    /// both rlock and its keeper are killed or stopped
    #[arg(long)]
    pub(crate) pid_namespace: bool,

    /// The time between two extensions of the lock: from 1ms to half of the TTL [default: a third of it]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) interval: Option<Duration>,

    /// Retries the release for this long if the store does not answer [default: until the lock expires]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) release_for: Option<Duration>,

    /// The program and its arguments, started as they are, without a shell
    #[arg(last = true, required = true, num_args = 1.., value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// The processes that keep a lock held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitFor {
    /// The program and all its descendants, daemons in the background too
    Tree,
    /// The program alone; its descendants run on without the lock
    Program,
}

/// The action on a program whose lock is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnLost {
    /// It gets TERM, and KILL if it does not end in time
    Term,
    /// It gets KILL at once
    Kill,
    /// It runs on, perhaps beside the next holder; rlock ends with the program's own status
    Ignore,
}

impl OnLost {
    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::Term | Self::Kill => "ending the program",
            Self::Ignore => "the program goes on",
        }
    }
}
