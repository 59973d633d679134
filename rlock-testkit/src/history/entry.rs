//! The entries of a history.

use std::fmt;
use std::time::Duration;

use rlock_core::{LossReason, ResourceName, Share};

/// Identifies one lock attempt, from its request to its outcome: the number of a process, and a number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Op {
    /// The process that makes the attempt.
    pub process: u32,
    /// The number of the attempt in its process.
    pub sequence: u64,
}

impl fmt::Display for Op {
    /// `p2#7`: attempt 7 of process 2.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}#{}", self.process, self.sequence)
    }
}

/// An event and its instant.
///
/// Instants, in `at` and in the fields of an event, are times since the machine booted. [`now`](super::now) reads this
/// clock, which all processes of a host share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The instant of the event.
    pub at: Duration,
    /// The event.
    pub what: What,
}

/// An event of a lock, of a process or of the store.
///
/// The client that makes an attempt notes the first eight variants. The process that keeps a register notes the next
/// four. The process that causes the others notes them. Each variant says whether it is noted before or after the
/// event; this is what makes the check conservative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A client requests a lock. Noted before the request is sent.
    Asked {
        /// The attempt; each one has an [`Op`] of its own.
        op: Op,
        /// The resource.
        resource: ResourceName,
        /// The share of the resource.
        share: Share,
    },
    /// The client has the guard. Noted after that.
    Granted {
        /// The attempt.
        op: Op,
        /// The fencing token.
        token: u64,
        /// The deadline of the guard.
        until: Duration,
    },
    /// The holder checked its guard and still held. The instant is the one *before* the check; see
    /// [`Recorder::note_at`](super::Recorder::note_at).
    Believed {
        /// The attempt that holds.
        op: Op,
        /// The deadline of the guard.
        until: Duration,
    },
    /// The attempt ended without a lease: busy, a timeout, or an error which says that nothing was applied.
    Refused {
        /// The attempt.
        op: Op,
    },
    /// The answer never came, so that a lease may exist for a while. Counts neither as a hold nor as a forgotten
    /// waiter.
    Unknown {
        /// The attempt.
        op: Op,
    },
    /// The holder learned of its loss. Noted after that, also if the release reported the loss.
    Lost {
        /// The attempt that held.
        op: Op,
        /// The reason of the loss.
        reason: LossReason,
        /// The last deadline that the holder knew, to check that the loss was signalled in time.
        until: Option<Duration>,
    },
    /// The holder releases. Noted before the request is sent.
    Releasing {
        /// The attempt that holds.
        op: Op,
    },
    /// The release was answered.
    Released {
        /// The attempt that held.
        op: Op,
        /// Whether the store confirmed that the lease existed and is released; if not, the outcome is unknown.
        known: bool,
    },
    /// A register was opened. From now on it accepts no smaller token.
    Opened {
        /// The attempt whose lock was used.
        op: Op,
        /// The resource of the register.
        resource: ResourceName,
        /// The token shown.
        token: u64,
        /// The value of the register.
        value: u64,
    },
    /// A register was not opened, because it has seen a greater token.
    OpenRefused {
        /// The attempt whose lock was used.
        op: Op,
        /// The resource of the register.
        resource: ResourceName,
        /// The token shown.
        token: u64,
    },
    /// A value was written.
    Wrote {
        /// The attempt whose lock was used.
        op: Op,
        /// The resource of the register.
        resource: ResourceName,
        /// The token shown.
        token: u64,
        /// The value that the writer expects to replace.
        base: u64,
        /// The value written.
        value: u64,
    },
    /// A value was not written, because the register has seen a greater token.
    WriteRefused {
        /// The attempt whose lock was used.
        op: Op,
        /// The resource of the register.
        resource: ResourceName,
        /// The token shown.
        token: u64,
    },
    /// All leases of a resource are broken by force. Noted before the request is sent.
    Breaking {
        /// The resource.
        resource: ResourceName,
    },
    /// A process died. Noted after its end, and before another process with its number starts.
    Died {
        /// The number of the process.
        process: u32,
    },
    /// A process was stopped. It receives nothing until it is woken.
    Frozen {
        /// The number of the process.
        process: u32,
    },
    /// A stopped process continues.
    Woken {
        /// The number of the process.
        process: u32,
    },
    /// The machine did not let a process run, or gave it too little time, from `since` on. The process notes this
    /// itself when it runs again. It learns late of every event in that time.
    Starved {
        /// The number of the process.
        process: u32,
        /// The last instant at which the process ran.
        since: Duration,
    },
    /// The store cannot be reached. Noted before that.
    Down,
    /// The store can be reached again. Noted after that.
    Up,
    /// A primary was cut off, and may have granted locks beside its successor. Noted when it can grant no more.
    Split {
        /// The instant before the primary was cut off.
        since: Duration,
        /// The instant by which the last lease that it granted has ended: a TTL after its last possible grant.
        until: Duration,
    },
    /// The end of the history. A waiter that is still waiting in a live process counts as forgotten.
    End,
}

impl What {
    /// The attempt that this event belongs to; `None` for events of processes, of the store, or of a whole resource.
    pub fn op(&self) -> Option<Op> {
        match *self {
            Self::Asked { op, .. }
            | Self::Granted { op, .. }
            | Self::Believed { op, .. }
            | Self::Refused { op }
            | Self::Unknown { op }
            | Self::Lost { op, .. }
            | Self::Releasing { op }
            | Self::Released { op, .. }
            | Self::Opened { op, .. }
            | Self::OpenRefused { op, .. }
            | Self::Wrote { op, .. }
            | Self::WriteRefused { op, .. } => Some(op),
            Self::Breaking { .. }
            | Self::Died { .. }
            | Self::Frozen { .. }
            | Self::Woken { .. }
            | Self::Starved { .. }
            | Self::Down
            | Self::Up
            | Self::Split { .. }
            | Self::End => None,
        }
    }
}
