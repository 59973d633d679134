//! The ways to break the contract.

use std::time::Duration;

use rlock_core::ResourceName;

use super::entry::Op;

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
