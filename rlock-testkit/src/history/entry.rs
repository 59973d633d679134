//! What is noted.

use std::fmt;
use std::time::Duration;

use rlock_core::{LossReason, ResourceName, Share};

/// One asking for a lock, from the question to the end of what came of it: the number of a process, and a number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Op {
    /// Of the process that asks.
    pub process: u32,
    /// Which of its questions.
    pub sequence: u64,
}

impl fmt::Display for Op {
    /// `p2#7`: the question 7 of process 2.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}#{}", self.process, self.sequence)
    }
}

/// Something that happened, and when.
///
/// Instants, here and in what is noted, are times since the machine booted, [`now`](super::now), which all processes of
/// a host share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What can happen to a lock and to those who want it.
///
/// The first eight are noted by the asker, the next four by the process that keeps a register, the rest by whoever does
/// it to others. Each variant says at which side of the thing that it tells of it is noted; that side is what makes
/// the check conservative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A lock is asked for. Noted before the request is sent.
    Asked {
        /// Who asks; each asking is an [`Op`] of its own.
        op: Op,
        /// For what.
        resource: ResourceName,
        /// How much of it.
        share: Share,
    },
    /// The guard is in hand. Noted after that.
    Granted {
        /// Who asked.
        op: Op,
        /// The fencing token.
        token: u64,
        /// The deadline that the guard tells.
        until: Duration,
    },
    /// The holder looked at its guard and still held. The instant is the one *before* it looked; see
    /// [`Recorder::note_at`](super::Recorder::note_at).
    Believed {
        /// Who holds.
        op: Op,
        /// The deadline that the guard told.
        until: Duration,
    },
    /// Nothing is held: busy, a timeout, an error that says that nothing was applied.
    Refused {
        /// Who asked.
        op: Op,
    },
    /// The answer never came: a lease may exist for a while. Counts neither as a hold nor as a waiter forgotten.
    Unknown {
        /// Who asked.
        op: Op,
    },
    /// The holder saw its loss. Noted after that, also if it was the release that found out.
    Lost {
        /// Who held.
        op: Op,
        /// Why.
        reason: LossReason,
        /// The deadline that the holder knew last, for the check that the loss was signalled in time.
        until: Option<Duration>,
    },
    /// The holder gives back. Noted before the request is sent.
    Releasing {
        /// Who holds.
        op: Op,
    },
    /// The release was answered.
    Released {
        /// Who held.
        op: Op,
        /// Whether the store said that the lease was there and is gone; if not, the outcome is unknown.
        known: bool,
    },
    /// A register was opened: from now on it takes no smaller token.
    Opened {
        /// With whose lock.
        op: Op,
        /// Whose register.
        resource: ResourceName,
        /// The token shown.
        token: u64,
        /// The value in it.
        value: u64,
    },
    /// A register was not opened, for it has seen a greater token.
    OpenRefused {
        /// With whose lock.
        op: Op,
        /// Whose register.
        resource: ResourceName,
        /// The token shown.
        token: u64,
    },
    /// A value was written.
    Wrote {
        /// With whose lock.
        op: Op,
        /// Whose register.
        resource: ResourceName,
        /// The token shown.
        token: u64,
        /// The value that the writer believes to replace.
        base: u64,
        /// The value written.
        value: u64,
    },
    /// A value was not written, for the register has seen a greater token.
    WriteRefused {
        /// With whose lock.
        op: Op,
        /// Whose register.
        resource: ResourceName,
        /// The token shown.
        token: u64,
    },
    /// All leases of a resource are ended by force. Noted before the request is sent.
    Breaking {
        /// Which.
        resource: ResourceName,
    },
    /// A process died. Noted once it is gone, and before another one with its number starts.
    Died {
        /// Its number.
        process: u32,
    },
    /// A process was stopped, and sees nothing until it wakes.
    Frozen {
        /// Its number.
        process: u32,
    },
    /// A process that was stopped goes on.
    Woken {
        /// Its number.
        process: u32,
    },
    /// The machine did not let a process run, or much of it, from `since` on. Noted when it ran again, by itself: what
    /// it is told of in such a time, it learns late.
    Starved {
        /// Its number.
        process: u32,
        /// The last instant before.
        since: Duration,
    },
    /// The store cannot be reached. Noted before that.
    Down,
    /// The store can be reached again. Noted after that.
    Up,
    /// The end: whoever waits now, in a process that lives, has been forgotten.
    End,
}

impl What {
    /// Whose doing or fate it is, of one who asked for a lock.
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
            | Self::End => None,
        }
    }
}
