//! What was wrong, and the story that shows it.

use std::time::Duration;

use rlock_core::ResourceName;

use super::entry::{Entry, Op};
use super::story;

/// A history broke the contract.
///
/// Its `Display` tells the shortest story that shows it, one entry a line, in milliseconds after the first of them, and
/// says at the end which rule is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", story::tell(self))]
pub struct Violation {
    /// What was wrong.
    pub breach: Breach,
    /// The entries that show it, in order.
    pub story: Vec<Entry>,
    /// How many more there are.
    pub more: u64,
}

/// A way to break the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breach {
    /// More was held of a resource than there is.
    Overlap {
        /// Of which.
        resource: ResourceName,
        /// Those who held, as few of them as are too many; the last to be granted is the last.
        ops: Vec<Op>,
        /// What they held together.
        weight: u64,
        /// What there is.
        capacity: u32,
        /// For how long, at least.
        overlap: Duration,
    },
    /// A token was given to two.
    TokenTwice {
        /// Of which resource.
        resource: ResourceName,
        /// The token.
        token: u64,
        /// Who had it first.
        first: Op,
        /// Who had it then.
        second: Op,
    },
    /// A later grant has a smaller token.
    TokenBack {
        /// Of which resource.
        resource: ResourceName,
        /// Who was granted first.
        earlier: Op,
        /// Its token.
        earlier_token: u64,
        /// Who was granted then.
        later: Op,
        /// Its token.
        later_token: u64,
    },
    /// A holder has a smaller token than one that was granted while its own lease lived: the store forgot its grant. Its token
    /// keeps it from writing over the other's work.
    Overtaken {
        /// Of which resource.
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
    /// A register took a token smaller than one that it had seen.
    RegisterBack {
        /// Whose register.
        resource: ResourceName,
        /// With whose lock.
        op: Op,
        /// The token that it took.
        token: u64,
        /// The greatest that it had seen.
        greatest: u64,
    },
    /// A value was read from a register, or replaced in it, that was not there: an update was lost.
    RegisterGap {
        /// Whose register.
        resource: ResourceName,
        /// With whose lock.
        op: Op,
        /// The value that was read or replaced.
        base: u64,
        /// The value that was there.
        value: u64,
    },
    /// A waiter in a process that lived to the end got no answer.
    Forgotten {
        /// For which resource.
        resource: ResourceName,
        /// Who.
        op: Op,
        /// For how long it had waited at the end.
        waited: Duration,
    },
    /// A holder was told too late that its lease had expired.
    LateSignal {
        /// Of which resource.
        resource: ResourceName,
        /// Who.
        op: Op,
        /// For how long it had not held; time in which it was frozen is not counted.
        late: Duration,
        /// For how long that is allowed.
        allowed: Duration,
    },
}
