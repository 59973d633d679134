//! `rlock run` on the command line.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rlock::LockHandle;

use super::{LockArgs, time};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) lock: LockArgs,

    /// Runs under the lock of this handle, of rlock acquire, and leaves it held
    #[arg(long, value_name = "HANDLE", conflicts_with_all = ["name", "names", "min_hold"])]
    pub(crate) handle: Option<LockHandle>,

    /// Ends the program, as if the lock were lost, once it has run for so long
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) max_hold: Option<Duration>,

    /// Keeps the lock taken for so long at least from its grant, so that a host whose clock is behind does not run the
    /// program again
    ///
    /// The store keeps that time, whatever ends rlock. Where a store cannot, rlock waits, and TERM and INT end that.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) min_hold: Option<Duration>,

    /// What happens to the program when the lock is lost, or cannot be extended in time
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnLost::Term)]
    pub(crate) on_lost: OnLost,

    /// Kills the program if it has not ended so long after rlock passed on TERM, INT, HUP or QUIT
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) kill_after: Option<Duration>,

    /// What has to end before the lock is released
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = WaitFor::Tree)]
    pub(crate) wait_for: WaitFor,

    /// How often the lock is extended: from 1ms to half of the TTL [default: a third of it]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) interval: Option<Duration>,

    /// Goes on trying to release the lock for so long, if the store does not answer [default: until it ends by itself]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) release_for: Option<Duration>,

    /// The program and its arguments, started as they are, without a shell
    #[arg(last = true, required = true, num_args = 1.., value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// What keeps a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitFor {
    /// The program and all that descends from it, daemons in the background too
    Tree,
    /// The program alone; what it leaves behind runs on without the lock
    Program,
}

/// What happens to a program whose lock is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnLost {
    /// It gets TERM, and KILL before somebody else can have the lock
    Term,
    /// It gets KILL at once
    Kill,
    /// It goes on, beside whoever gets the lock; the status is its own
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
