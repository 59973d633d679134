//! Errors of locks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::contract::{BackendError, InvalidData, InvalidName, InvalidShare, InvalidTtl, ResourceName, Ttl};
use crate::lease::Lost;

/// The shortest interval of a watchdog.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// The reason why a lock was not acquired.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The wait timed out, and the resource was still held.
    #[error("the lock on {resource:?} was not acquired within {wait:?}: {}", holder(*held_here))]
    TimedOut {
        /// The resource.
        resource: ResourceName,
        /// The time that the caller waited.
        wait: Duration,
        /// The time for which this client itself had held the resource, or a part of it, when the wait was over. `None` if
        /// it did not hold it, for one try, which does not wait, and for a client of more than 10,000 leases, which does
        /// not look. Another client of the same process is not this client.
        held_here: Option<Duration>,
    },
    /// The wait timed out, and the store answered nothing.
    #[error(
        "the lock on {resource:?} was not acquired within {wait:?}: the store has not answered; check that it is reachable"
    )]
    Unanswered {
        /// The resource.
        resource: ResourceName,
        /// The time that the caller waited.
        wait: Duration,
    },
    /// Each grant ran out before it could be used: the store takes longer than the TTL to answer, or the caller to
    /// poll.
    #[error(
        "the lock on {resource:?} was granted {grants} times, and each grant ran out before it could be used: a TTL of {ttl} \
         (or hold_at_most) is too short for the time that the store takes to answer, or the caller to poll; use a longer one"
    )]
    TtlTooShort {
        /// The resource.
        resource: ResourceName,
        /// The TTL.
        ttl: Ttl,
        /// The number of grants that ran out.
        grants: u32,
    },
    /// The store could not be reached, or did not answer, for as long as the client retries.
    #[error("the lock on {resource:?} was not acquired: {source}")]
    Unavailable {
        /// The resource.
        resource: ResourceName,
        /// The last failure.
        source: BackendError,
    },
    /// The store refused, and will refuse again until a setting, a right or the request changes. Or this client still has
    /// the lock that it is to adopt.
    #[error("the lock on {resource:?} was refused: {source}")]
    Rejected {
        /// The resource.
        resource: ResourceName,
        /// The reason.
        source: BackendError,
    },
    /// The options cannot work.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidConfig),
    /// The client was shut down, or the runtime under it ended.
    #[error("the lock on {resource:?} was not acquired: its client has been shut down; connect a new one")]
    Closed {
        /// The resource.
        resource: ResourceName,
    },
}

fn holder(held_here: Option<Duration>) -> String {
    match held_here {
        Some(time) => format!(
            "this client has held it, or a part of it, for {time:.0?}; locks are not reentrant: pass the guard on, or \
             release it before"
        ),
        None => "others hold it; `holders` of the lock, or `rlock show`, names them".to_owned(),
    }
}

impl LockError {
    /// Whether the wait timed out.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Unanswered { .. })
    }

    /// Whether the store could not be reached or did not answer.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Unanswered { .. })
    }
}

/// The reason why work under a lock has no output: the lock was not acquired, or it was lost.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The lock was not acquired, and the work did not begin.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The lock was lost. The work was dropped before its end, or it had ended and only the release showed the loss.
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl RunError {
    /// Whether the lock was lost, so that the work may have been done in part.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// Whether the store could not be reached or did not answer, and the work did not begin.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Lock(error) if error.is_unavailable())
    }
}

/// The reason why a client did not adopt a lock.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The lock has ended.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The store failed or refused, or the client has the lock already or was shut down.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// The reason why a lock was not released by this call.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum UnlockError {
    /// The lock had been lost before.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The store did not confirm the release. The client retries it in the background, and the lease ends with its TTL
    /// in any case.
    #[error("the release of {resource:?} is not confirmed, and its lease may live on until its TTL ends: {source}")]
    Unconfirmed {
        /// The resource.
        resource: ResourceName,
        /// The last failure.
        source: BackendError,
    },
    /// The client was shut down, or the runtime under it ended, before the release was confirmed.
    #[error("the release of {resource:?} is not confirmed: its client has ended; the lease ends with its TTL")]
    Closed {
        /// The resource.
        resource: ResourceName,
    },
}

/// The reason why a lock was not extended by this call.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExtendError {
    /// The lock has been lost or released.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The TTL cannot be used.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidConfig),
    /// The store did not confirm the extension. The lock is held until its old deadline at least.
    #[error("the lock on {resource:?} was not extended and keeps its old deadline: {source}")]
    Unconfirmed {
        /// The resource.
        resource: ResourceName,
        /// The failure.
        source: BackendError,
    },
}

/// Options or a configuration that cannot work, and what would work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// An invalid name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A TTL out of bounds.
    #[error(transparent)]
    Ttl(#[from] InvalidTtl),
    /// A share that could never be held.
    #[error(transparent)]
    Share(#[from] InvalidShare),
    /// A TTL that is longer than the store can keep.
    #[error("a TTL of {ttl} is longer than {backend} keeps: at most {max}")]
    TtlTooLong {
        /// The TTL that was asked for.
        ttl: Ttl,
        /// The kind of store.
        backend: &'static str,
        /// The longest TTL that the store keeps.
        max: Ttl,
    },
    /// A watchdog that would extend too late.
    #[error(
        "a watchdog interval of {interval:?} is too long to extend a lease of {extend_by:?} in time: use a shorter one; \
         a third ({third:?}) leaves time for a second try", third = *extend_by / 3
    )]
    IntervalTooLong {
        /// The interval that was asked for.
        interval: Duration,
        /// The life that each extension gives.
        extend_by: Duration,
    },
    /// A watchdog that would extend without a pause.
    #[error("a watchdog interval of {interval:?} is too short: choose at least {min:?}", min = MIN_INTERVAL)]
    IntervalTooShort {
        /// The interval that was asked for.
        interval: Duration,
    },
    /// A watchdog that would give up before its first failure.
    #[error("max_failures cannot be 0: use 1 to give up at the first failed extension, or more to tolerate failures")]
    NoFailureAllowed,
    /// An interval for a watchdog that is off.
    #[error("a watchdog interval was set, but the watchdog is off: drop one of the two")]
    IntervalWithoutWatchdog,
    /// A configuration for a watchdog that is off.
    #[error("a watchdog was configured, but the watchdog is off: drop one of the two")]
    ConfigWithoutWatchdog,
    /// An interval beside a configuration, which has its own interval.
    #[error("a watchdog interval was set beside a configuration of the watchdog: set the interval there")]
    IntervalTwice,
    /// A minimum time longer than the TTL. The store forgets the lease of a dead holder after the TTL.
    #[error(
        "hold_at_least of {hold:?} is longer than the TTL of {ttl}: choose a TTL of {hold:?} at least, which the watchdog renews"
    )]
    HoldBeyondTtl {
        /// The minimum time that was asked for.
        hold: Duration,
        /// The TTL of the lock.
        ttl: Ttl,
    },
    /// A longest time for a set of locks.
    #[error("hold_at_most does not work for a LockSet: end the work of the set by a timeout of your own")]
    HoldLimitOfSet,
    /// A longest time of less than 10 ms, or shorter than the minimum time.
    #[error("hold_at_most of {limit:?} is too short: use at least 10 ms, and hold_at_least ({hold:?})")]
    HoldLimit {
        /// The longest time that was asked for.
        limit: Duration,
        /// The minimum time.
        hold: Duration,
    },
    /// A minimum time on a store that cannot keep a resource taken after a release.
    #[error(
        "hold_at_least does not work on {backend}, which cannot rest after a release: drop it, or hold the guard longer"
    )]
    NoRest {
        /// The kind of store.
        backend: &'static str,
    },
    /// Data on a store that does not keep data.
    #[error("data do not work on {backend}, which does not keep them: drop them, or use a label of the client")]
    NoData {
        /// The kind of store.
        backend: &'static str,
    },
    /// More data than a lease can carry.
    #[error(transparent)]
    Data(#[from] InvalidData),
    /// A set that has a name twice. The second lock would wait for the first.
    #[error("the set has a lock on {resource:?} already: add each name once")]
    NameTwice {
        /// The resource.
        resource: ResourceName,
    },
    /// A wait in the options of a try.
    #[error("a try does not wait: use lock_with for a wait of {wait:?}, or drop the wait")]
    TryWithWait {
        /// The wait that was asked for.
        wait: Duration,
    },
}

/// The reason why a watchdog was not started.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StartWatchdogError {
    /// The lock has been lost or released.
    #[error("no watchdog was started: {0}")]
    Lost(#[from] Lost),
    /// The configuration cannot work.
    #[error("no watchdog was started: {0}")]
    InvalidConfig(#[from] InvalidConfig),
}

/// A client was not started: the operating system refuses a thread, or a descriptor for its timers.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the client was not started: {source}; raise the limits of threads and file descriptors, or run the client on \
     your own runtime with ClientBuilder::runtime"
)]
pub struct StartError {
    /// The error of the operating system.
    #[source]
    source: Arc<io::Error>,
}

impl StartError {
    pub(crate) fn new(source: io::Error) -> Self {
        Self { source: Arc::new(source) }
    }
}

/// The error for leases that were not released in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{unconfirmed} leases were not confirmed as released within {timeout:?}; each ends with its TTL")]
pub struct ShutdownError {
    /// The number of leases whose release the store has not confirmed.
    pub unconfirmed: usize,
    /// The time limit of the shutdown.
    pub timeout: Duration,
}
