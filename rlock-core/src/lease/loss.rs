//! Reasons for the end of a lease that was not released.

use std::fmt;

use crate::contract::ResourceName;

/// The reason why a lock is not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossReason {
    /// A client broke it by force ([`Client::break_leases`](crate::Client::break_leases)).
    Broken,
    /// Its deadline passed on the holder's own clock before an extension succeeded.
    Expired,
    /// The watchdog failed as many times in a row as its `max_failures` allows.
    GaveUp,
    /// The store no longer has it, and no other client holds the resource: it was deleted, or the store lost its data.
    Gone,
    /// It was held for as long as [`hold_at_most`](crate::LockOptions::hold_at_most) allows.
    HeldTooLong,
    /// The client was shut down, or the runtime under it ended.
    Shutdown,
    /// The store no longer has it, and another client holds the resource.
    TakenOver,
    /// Its guard [released](crate::Guard::release) it. This is the answer to calls of that guard alone: a release is no
    /// loss, so it neither signals one nor counts as one.
    Released,
}

impl LossReason {
    /// The reasons of losses, in the order of [`index`](Self::index).
    pub(crate) const ALL: [Self; 7] =
        [Self::Broken, Self::Expired, Self::GaveUp, Self::Gone, Self::HeldTooLong, Self::Shutdown, Self::TakenOver];

    /// The reason as the label of a metric: `broken`, `expired`, `gave_up`, `gone`, `held_too_long`, `shutdown`, `taken_over`.
    /// For a release, which is no loss, `released`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Expired => "expired",
            Self::GaveUp => "gave_up",
            Self::Gone => "gone",
            Self::HeldTooLong => "held_too_long",
            Self::Shutdown => "shutdown",
            Self::TakenOver => "taken_over",
            Self::Released => "released",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// The reason of an [`index`](Self::index).
    pub(crate) fn of_index(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken => "it was broken by force",
            Self::Expired => "its deadline passed before an extension came through",
            Self::GaveUp => "its watchdog failed as often in a row as max_failures allows",
            Self::Gone => "the store no longer has it",
            Self::HeldTooLong => "it was held for as long as hold_at_most allows",
            Self::Shutdown => "its client was shut down",
            Self::TakenOver => "the store no longer has it, and another client holds the resource",
            Self::Released => "its guard has released it",
        })
    }
}

/// The end of a held lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// Its guard was dropped, or has begun to release it.
    Released,
    /// The lock was lost.
    Lost(LossReason),
}

/// The error for a lock that is not held any more: its lease ended without a release, or its guard released it before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the lock on {resource:?} {}: {reason}", verb(*reason))]
pub struct Lost {
    /// The resource.
    pub resource: ResourceName,
    /// The reason why its lease ended.
    pub reason: LossReason,
}

fn verb(reason: LossReason) -> &'static str {
    if reason == LossReason::Released { "is not held" } else { "was lost" }
}
