//! The effects of a step.

use std::time::Duration;

use smallvec::SmallVec;

use super::LossReason;
use crate::contract::{Released, Token, Ttl};

/// The effects of one or more steps, in their order.
pub(crate) type Effects = SmallVec<[Effect; 4]>;

/// An action that the driver has to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Queue a request. [`Lease::begin`](super::Lease::begin) returns the request to send when its turn has come.
    Send(Verb),
    /// Signal the loss of the lock, before anything else.
    Lose(LossReason),
    /// Hand the lock to its waiter.
    Grant(Token),
    /// Report to the waiter that it does not get the lock.
    Refuse(Refusal),
    /// Reply to an extension that the holder asked for.
    Reply(u64, ExtendOutcome),
    /// Report to the user that waits for the release.
    Confirm(ReleaseOutcome),
    /// A release was answered for the first time.
    Released(Released),
    /// A release was given up.
    Unreleased,
    /// A scheduled extension was begun, `late` after its time.
    Begun { late: Duration },
    /// A scheduled extension has succeeded.
    Renewed,
    /// A scheduled extension has failed with all its retries.
    Failed(WatchdogFault),
    /// Forget the lease.
    Forget,
}

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    Claim,
    Extend,
    Release,
}

/// A request to send now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    Claim { ttl: Ttl, queue: bool },
    Extend { ttl: Ttl },
    Release { rest: Duration },
}

/// The reason why a waiter gets no lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// Others held the resource for the whole wait, which is zero for one try.
    Busy { waited: Duration },
    /// The store answered nothing during the whole wait.
    Unanswered { waited: Duration },
    /// The client was shut down.
    Closed,
    /// The lease ended before the waiter got its lock. The waiter may claim another.
    Ended(LossReason),
    /// The store refused.
    Rejected,
    /// The store failed, or did not answer, for too long.
    Unavailable,
}

/// The outcome of an extension that the holder asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ExtendOutcome {
    Extended,
    /// The store failed, or did not answer, for too long.
    Unconfirmed,
    /// The lock is lost or released.
    Over,
}

/// The outcome of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ReleaseOutcome {
    /// The lease was there, and is gone now.
    Released,
    /// The store did not have the lease.
    Absent,
    /// The lock had been lost before.
    Lost(LossReason),
    /// The store failed, or did not answer, for too long.
    Unconfirmed,
    /// The client has ended.
    Closed,
}

/// The failure of a watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum WatchdogFault {
    /// The store has failed, or has not answered, since the extension was begun.
    Silence { failures: u32, lasting: Duration },
    /// The lock was lost.
    Lost { failures: u32, reason: LossReason },
}
