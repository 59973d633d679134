//! A breach of the contract, with the entries that show it.

use std::time::Duration;

use rlock_core::ResourceName;

use super::entry::{Entry, Op};
use super::story;

/// A history broke the contract.
///
/// Its `Display` tells the shortest story that shows the breach: one entry a line, with milliseconds since the first
/// entry. The last line names the rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", story::tell(self))]
pub struct Violation {
    /// The breach.
    pub breach: Breach,
    /// The entries that show it, in order.
    pub story: Vec<Entry>,
    /// The number of further violations.
    pub more: u64,
}

/// A way to break the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breach {
    /// The holds of a resource exceeded its capacity.
    Overlap {
        /// The resource.
        resource: ResourceName,
        /// The holders: as few as exceed the capacity together. The last to be granted is the last.
        ops: Vec<Op>,
        /// The sum of their weights.
        weight: u64,
        /// The capacity of the resource.
        capacity: u32,
        /// The least duration of the overlap.
        overlap: Duration,
    },
    /// Two attempts got the same token.
    TokenTwice {
        /// The resource.
        resource: ResourceName,
        /// The token.
        token: u64,
        /// The attempt that got it first.
        first: Op,
        /// The attempt that got it second.
        second: Op,
    },
    /// A later grant has a smaller token.
    TokenBack {
        /// The resource.
        resource: ResourceName,
        /// The attempt that was granted first.
        earlier: Op,
        /// Its token.
        earlier_token: u64,
        /// The attempt that was granted later.
        later: Op,
        /// Its token.
        later_token: u64,
    },
    /// A holder has a smaller token than one that was granted while its own lease was alive: the store forgot its
    /// grant. The register refuses the smaller token, so that this holder cannot overwrite the work of the other.
    Overtaken {
        /// The resource.
        resource: ResourceName,
        /// The holder with the greater token.
        by: Op,
        /// The greater token.
        by_token: u64,
        /// The holder that was overtaken.
        op: Op,
        /// Its token.
        token: u64,
    },
    /// A register accepted a token smaller than one that it had seen.
    RegisterBack {
        /// The resource of the register.
        resource: ResourceName,
        /// The attempt whose lock was used.
        op: Op,
        /// The token that it accepted.
        token: u64,
        /// The greatest token that it had seen.
        greatest: u64,
    },
    /// A read or a replaced value was not the value of the register: an update was lost.
    RegisterGap {
        /// The resource of the register.
        resource: ResourceName,
        /// The attempt whose lock was used.
        op: Op,
        /// The value that was read or replaced.
        base: u64,
        /// The value that was there.
        value: u64,
    },
    /// A waiter in a process that lived to the end got no answer.
    Forgotten {
        /// The resource.
        resource: ResourceName,
        /// The attempt.
        op: Op,
        /// Its waiting time at the end.
        waited: Duration,
    },
    /// A holder learned too late that its lease had expired.
    LateSignal {
        /// The resource.
        resource: ResourceName,
        /// The attempt.
        op: Op,
        /// The time from the deadline to the signal. Time in which the process was frozen is not counted.
        late: Duration,
        /// The longest time that is allowed.
        allowed: Duration,
    },
}
