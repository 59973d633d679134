//! `rlock elect` and `rlock leader` on the command line.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use rlock::{ResourceName, Ttl};

use super::lock::LockArgs;
use super::run::{OnLost, RunArgs, WaitFor};
use super::store::Store;
use super::values::{resource_name, time, ttl};

#[derive(Debug, Args)]
pub(crate) struct ElectArgs {
    /// The election: 1 to 512 bytes of UTF-8 without control characters
    #[arg(value_name = "NAME", value_parser = resource_name)]
    name: ResourceName,

    #[command(flatten)]
    pub(crate) store: Store,

    /// Text that rlock leader shows about this candidate, such as its address: at most 1 KiB
    #[arg(long, value_name = "TEXT")]
    data: Option<String>,

    /// How long the lead outlives an rlock that crashed or lost the store: 500ms, 30s, 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = ttl)]
    pub(crate) ttl: Ttl,

    /// Sends KILL at once to a program whose lead is lost [default: TERM first]
    #[arg(long)]
    kill_on_loss: bool,

    /// Kills the program if it runs for longer than this after rlock forwarded TERM, INT, HUP or QUIT
    #[arg(long, value_name = "TIME", value_parser = time)]
    kill_after: Option<Duration>,

    /// The time between two renewals: from 1ms to half of the TTL [default: a third of it]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) interval: Option<Duration>,

    /// The label of this candidate in rlock show and rlock leader [default: the program's name]
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,

    /// Prints messages only if something goes wrong
    #[arg(short, long)]
    quiet: bool,

    /// Reports events in JSON, one object per line, on standard error
    #[arg(long)]
    json: bool,

    /// A later term of this process
    #[arg(long, hide = true)]
    pub(crate) again: bool,

    /// The program and its arguments, started as they are, without a shell
    #[arg(last = true, required = true, num_args = 1.., value_name = "PROGRAM")]
    program: Vec<OsString>,
}

impl ElectArgs {
    /// One term: a run under the lock of the election.
    pub(crate) fn into_run(self) -> RunArgs {
        let lock = LockArgs {
            name: Some(self.name),
            more: Vec::new(),
            store: self.store,
            ttl: self.ttl,
            wait: None,
            shared: false,
            exclusive: false,
            slots: None,
            skip_ok: false,
            conflict_status: None,
            quiet: self.quiet,
            json: self.json,
            once: false,
            label: self.label,
            data: self.data,
            is_campaign: true,
        };
        RunArgs {
            lock,
            handle: None,
            max_hold: None,
            min_hold: None,
            on_lost: if self.kill_on_loss { OnLost::Kill } else { OnLost::Term },
            kill_after: self.kill_after,
            wait_for: WaitFor::Tree,
            pid_namespace: false,
            interval: self.interval,
            release_for: None,
            program: self.program,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct LeaderArgs {
    /// The election
    #[arg(value_name = "NAME", value_parser = resource_name)]
    pub(crate) name: ResourceName,

    #[command(flatten)]
    pub(crate) store: Store,

    /// Prints the leader now, and each change from then on
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Prints JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
}
