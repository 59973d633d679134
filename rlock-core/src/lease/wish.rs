//! Extensions that a holder requests.

use std::time::Duration;

use crate::clock::Moment;
use crate::contract::Ttl;

/// The shortest time after which an unanswered extension of the holder is reported as unconfirmed.
const PATIENCE: Duration = Duration::from_secs(1);

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

impl Wish {
    pub(super) fn new(ttl: Ttl, ticket: u64, asked: Moment, retry_until: Moment) -> Self {
        Self { ttl, ticket, asked, retry_until, give_up: retry_until.max(asked.after(PATIENCE)) }
    }
}
