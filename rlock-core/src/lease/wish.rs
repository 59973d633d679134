//! Wishes of a holder.

use crate::clock::Moment;
use crate::contract::Ttl;

/// An extension that the holder has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wish {
    pub(super) ttl: Ttl,
    pub(super) ticket: u64,
    pub(super) asked: Moment,
    /// A failing store is retried until then.
    pub(super) retry_until: Moment,
    /// A store that does not answer is given up then.
    pub(super) give_up: Moment,
}
