//! The inputs of a lease.

use super::Renewal;
use crate::clock::Moment;
use crate::contract::{Acquired, Extended, Released, Token, Ttl};

/// Something that happened to a lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// The store has answered the claim of this number.
    Claimed(u32, Result<Acquired, Fault>),
    /// The store has answered the extension of this number.
    Extended(u32, Result<Extended, Fault>),
    /// The store has answered the release of this number.
    Released(u32, Result<Released, Fault>),
    /// The moment of [`Lease::timer`](super::Lease::timer) has come.
    Timer,
    /// The store has sent an event.
    Hint(Hint),
    /// The holder requests a longer life. The reply carries the ticket; a failing store is retried until `retry_until`.
    Extend { ttl: Ttl, ticket: u64, retry_until: Moment },
    /// The holder starts a watchdog and replaces the running one.
    Watch(Renewal),
    /// The holder stops the watchdog of this generation.
    Unwatch { generation: u64 },
    /// The user no longer needs the lease.
    LetGo,
    /// The user has left without seeing a grant. No work was done under the lease, so its resource need not rest.
    GiveUp,
    /// Another client may adopt the held lease. This client forgets it, and the lease stays in the store.
    HandOver,
    /// The user has adopted the lease of another client. From now on, its end releases it.
    Adopt,
    /// The client ends the wait of this lease. A lock that is held stays held.
    Drain,
    /// The client shuts down.
    Close,
    /// The runtime under the client has ended: no request will be answered any more.
    Abandon,
}

/// A failure of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// The request had no effect, and may succeed later.
    NotApplied,
    /// The request may have had its effect.
    Unknown,
    /// The store refuses the request, and will refuse it again.
    Rejected,
}

impl Fault {
    pub(crate) const fn is_transient(self) -> bool {
        matches!(self, Self::NotApplied | Self::Unknown)
    }
}

/// An event of the store, which may be wrong, late, repeated or lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Hint {
    /// The lease was granted with what was left of its life.
    Granted(Token),
    /// The lease was ended by force.
    Broken,
    /// Events may have been lost.
    Resync,
}
