//! Extensions that a holder requests.

use crate::clock::Moment;
use crate::contract::Ttl;

/// An extension that the holder has requested.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wish {
    pub(super) ttl: Ttl,
    pub(super) ticket: u64,
    pub(super) asked: Moment,
    /// A failing store is retried until then.
    pub(super) retry_until: Moment,
    /// The moment to give up a store that does not answer.
    pub(super) give_up: Moment,
}
