//! Arguments about the lock of a command, and about handles.

use std::time::Duration;

use clap::Args;
use rlock::{LockHandle, ResourceName, Ttl};

use super::store::Store;
use super::values::{resource_name, time, ttl};

/// The lock that a command takes, and how it waits for it.
#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// The lock: 1 to 512 bytes of UTF-8 without control characters
    #[arg(value_name = "NAME", value_parser = resource_name)]
    pub(super) name: Option<ResourceName>,

    /// Another lock that the program needs as well; may be repeated
    ///
    /// rlock takes the locks one after the other, in the order of their names, so that two runs never deadlock. It
    /// takes none behind the one that it waits for. Of several runs with --try for the same free locks, at least one
    /// gets all.
    #[arg(long = "name", id = "names", value_name = "NAME", value_parser = resource_name)]
    pub(super) more: Vec<ResourceName>,

    #[command(flatten)]
    pub(crate) store: Store,

    /// How long the lock outlives an rlock that crashed or lost the store: 500ms, 30s, 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = ttl)]
    pub(crate) ttl: Ttl,

    /// Maximum time to wait for the lock, also while the store does not answer [default: no limit, but a single attempt to
    /// connect]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) wait: Option<Duration>,

    /// Takes the lock as a reader: beside other readers, but not beside a writer (--exclusive)
    #[arg(long, conflicts_with_all = ["exclusive", "slots"])]
    pub(crate) shared: bool,

    /// Takes the lock as a writer: alone, without readers (--shared) and other writers
    #[arg(long, conflicts_with = "slots")]
    pub(crate) exclusive: bool,

    /// Maximum number of concurrent holders; every user of the lock has to pass the same number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) slots: Option<u32>,

    /// Ends with status 0, not 75, if others hold the lock
    #[arg(long)]
    pub(crate) skip_ok: bool,

    /// Ends with this status, not 75, if others hold the lock; distinguishes it from the program's own 75
    #[arg(long, value_name = "N", conflicts_with = "skip_ok")]
    pub(crate) conflict_status: Option<u8>,

    /// Prints messages only if something goes wrong
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Reports events in JSON, one object per line, on standard error
    #[arg(long)]
    pub(crate) json: bool,

    /// Does not wait: gives up at once if others hold the lock or wait for it
    #[arg(long = "try", conflicts_with = "wait")]
    pub(crate) once: bool,

    /// The label of this holder in rlock show [default: the program's name, or "rlock acquire"]
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,

    /// Text that the lock shows to others, such as an address: at most 1 KiB
    #[arg(long, value_name = "TEXT")]
    pub(crate) data: Option<String>,

    /// Asks again for as long as the store does not answer: a candidate of an election
    #[arg(skip)]
    pub(crate) is_campaign: bool,
}

impl LockArgs {
    /// Takes the lock and its TTL from a handle.
    pub(crate) fn be_of(&mut self, handle: &LockHandle) {
        self.name = Some(handle.resource().clone());
        self.ttl = handle.ttl();
    }

    /// The locks, each once, in the order in which they are taken.
    pub(crate) fn names(&self) -> Vec<ResourceName> {
        let mut names: Vec<_> = self.name.iter().chain(&self.more).cloned().collect();
        names.sort();
        names.dedup();
        names
    }
}

#[derive(Debug, Args)]
pub(crate) struct AcquireArgs {
    #[command(flatten)]
    pub(crate) lock: LockArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HandleArgs {
    /// The handle that rlock acquire printed
    #[arg(value_name = "HANDLE")]
    pub(crate) handle: LockHandle,

    #[command(flatten)]
    pub(crate) store: Store,

    /// The lock's new TTL, from now on [default: the TTL that it was acquired with]
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    pub(crate) ttl: Option<Ttl>,

    /// Reports events in JSON, one object per line, on standard error
    #[arg(long)]
    pub(crate) json: bool,
}
