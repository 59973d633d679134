//! The contract between core and a store.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::Stream;

use super::{
    Acquired, BackendError, Claim, Extended, Extension, Finding, LeaseId, ListFilter, Page, Release, Released,
    ResourceName, Snapshot, Token, Ttl,
};

/// A crate that keeps leases in one kind of store.
///
/// A resource is a first-in-first-out semaphore whose permits expire; every lock type is a face over it, so a
/// backend implements this once and gets them all. `rlock-testkit` checks all of what follows.
///
/// # To ensure correctness
///
/// 1. **Exclusion.** The weights of the held leases of a resource never exceed its capacity, on the store's
///    clock.
/// 2. **Order.** Leases are granted in the order in which they were queued. A claim with
///    [`IfBusy::Refuse`](crate::IfBusy::Refuse) that would have to wait is refused; it never overtakes the queue.
///    Expired waiters are skipped at once, however many expired together.
/// 3. **Tokens** strictly increase in grant order per resource: across release, expiry, a break, a restart of
///    the store, and, as far as the store allows it, a failover that lost writes. So a record that is deleted when
///    its resource is free must not take its counter along; and a counter or a clock that is read before the write
///    that grants can be overtaken by a grant and a release in between. Number a grant by the write itself, as by a
///    revision of the whole store, or compare with a counter that outlives the record.
/// 4. **Compare.** Extend and release act on one lease by its id. They never bring back a lease that is gone, and
///    never touch another's.
/// 5. **Extend** makes the remaining life at least the TTL asked for, and never shortens it. The failure of one
///    lease in a batch fails no other.
/// 6. **Expiry** is decided by the store's clock alone. An expired lease is, to every operation, as if it were
///    absent. Queued leases expire as held ones do. With compare-and-set, whoever reports an expired lease as absent
///    has to write that down, or an extension that read the record before brings it back afterwards.
/// 7. **Grant.** Whatever frees capacity (a release, an expiry noticed, a break) grants the next waiters in the
///    same atomic step, with what is left of their lives, and then tells them by an [`Event`]. The event may get
///    lost: the reply to the waiter's next extension says held as well.
/// 8. **Idempotence.** Every request may arrive twice. A claim whose id is there already is answered with that
///    lease's state, and changes nothing.
/// 9. **Errors** say whether the request was applied.
/// 10. **Names** are encoded so that none reaches another's keys. TTLs that the store cannot keep exactly are
///     rounded up, and what was granted is reported.
/// 11. **Nothing is left behind** by a resource that nobody uses, beyond what keeps its tokens increasing, and
///     that is bounded. A store that drops nothing by itself drops what has expired when a call comes across it,
///     [`inspect`](Self::inspect) and [`list`](Self::list) included.
/// 12. **Cost** of an operation on a resource grows neither with how often the resource was locked before nor, beyond a
///     logarithm, with the number of its waiters or of other resources.
/// 13. **Rest.** A release may ask that its share of the resource stays taken for a time. Nobody holds it then, and the first
///     waiter is granted when the time is over, whether or not the client that released still lives.
/// 14. **Data.** A lease may carry some data of its holder, which snapshots show.
/// 15. **The store's word** counts only if the store could have written. A replica, a stale primary, a read-only server, or a
///     restarted one that may have forgotten, answers nothing that frees or loses a lock, but with an error.
///
/// Each call has to end within a bounded time of the backend's own, with [`BackendError::Unknown`] if need be, or with
/// [`BackendError::NotApplied`] where others were always quicker: core pauses and asks again.
/// The calls take many leases and answer for each, in the order given; within one batch no two entries name the
/// same lease, though several may name one resource, and it does not matter which of them comes first.
///
/// Core polls a call for the first time in the task of the user that asks, if that runs on the client's runtime, and from then
/// on in a task of its own on that runtime.
///
/// A backend is made for one [`Namespace`](crate::Namespace), which its constructor takes. Write it with
/// `#[async_trait]` of the crate `async-trait`.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// What this store can do.
    fn capabilities(&self) -> &Capabilities;

    /// Claims leases.
    ///
    /// # Behavior
    ///
    /// - A claim that fits beside the held leases, with nobody queued in front of it, is held at once.
    /// - One that does not is queued or refused as its [`if_busy`](Claim::if_busy) says; a refused claim leaves
    ///   nothing behind and gets no token.
    /// - A claim whose id is there already is answered with that lease's state.
    ///
    /// # Errors
    ///
    /// [`BackendError::CapacityMismatch`] if live leases of the resource were claimed with another capacity.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have been applied in part or in whole, like one that answered
    /// [`BackendError::Unknown`]. Core drops a call that takes longer than a minute, and every call when its runtime ends.
    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>>;

    /// Keeps leases alive, and asks whether queued ones have been granted.
    ///
    /// # Behavior
    ///
    /// - The life left becomes at least the TTL asked for, and is never shortened; the token stays.
    /// - A lease that the store does not have is [`Extended::Gone`], and stays gone.
    ///
    /// # Errors
    ///
    /// Those of the store, for each lease on its own.
    ///
    /// # Cancel safety
    ///
    /// As for [`acquire`](Self::acquire). Core drops a call that takes longer than half of the longest TTL in it, and a
    /// second at least.
    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>>;

    /// Ends leases, held or queued, and grants what that makes room for.
    ///
    /// # Behavior
    ///
    /// - [`Released::Released`] once, [`Released::Absent`] for a lease that is not there.
    /// - With a [rest](Release::rest) the share of a held lease stays taken for that time, on the store's clock. The first
    ///   waiter is granted when it is over.
    ///
    /// # Errors
    ///
    /// Those of the store, for each lease on its own.
    ///
    /// # Cancel safety
    ///
    /// As for [`acquire`](Self::acquire).
    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>>;

    /// Shows who holds a resource and who waits for it.
    ///
    /// # Behavior
    ///
    /// - Expired leases do not show. The ids of leases are not part of the answer.
    ///
    /// # Errors
    ///
    /// Those of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call has no effect on any lease.
    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError>;

    /// Lists the resources that have live leases, a page at a time, in an order of the store's own.
    ///
    /// # Errors
    ///
    /// Those of the store; [`BackendError::Rejected`] for a cursor that is not its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call has no effect on any lease.
    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError>;

    /// Ends all held leases of a resource by force, and its rests, and grants what that makes room for.
    ///
    /// # Behavior
    ///
    /// - Each holder is told by [`Event::Broken`], if the store pushes; its extensions and releases find the lease
    ///   gone.
    /// - Answers how many leases were ended. Queued leases stay.
    ///
    /// # Errors
    ///
    /// Those of the store.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have been applied.
    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError>;

    /// Looks at the store's version and settings, for what endangers locks: for people who set one up, as by `rlock check`.
    ///
    /// # Behavior
    ///
    /// - It changes nothing, and what this user may not look at is a note, not an error.
    /// - Without an implementation nothing is found.
    ///
    /// # Errors
    ///
    /// Those of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call has no effect.
    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        Ok(Vec::new())
    }

    /// The events that the store sends to this client. Core calls this once for each client, before its first claim.
    ///
    /// # Behavior
    ///
    /// - Events are hints: they may get lost, come late or twice.
    /// - After any time in which events may have been lost, [`Event::Resync`] follows.
    /// - Clients that share the backend each get every event; [`Events`](crate::Events) does that.
    /// - A store that sends nothing answers with a stream that yields nothing, as `futures_util::stream::pending()`.
    fn events(&self) -> EventStream;
}

#[async_trait]
impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn capabilities(&self) -> &Capabilities {
        (**self).capabilities()
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        (**self).acquire(claims).await
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        (**self).extend(extensions).await
    }

    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        (**self).release(releases).await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        (**self).inspect(resource).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        (**self).list(filter).await
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        (**self).break_leases(resource).await
    }

    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        (**self).examine().await
    }

    fn events(&self) -> EventStream {
        (**self).events()
    }
}

/// The events that a store sends to a client.
pub type EventStream = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// A hint from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A queued lease of this client was granted, with what was left of its life.
    Granted {
        /// The lease.
        id: LeaseId,
        /// Its fencing token.
        token: Token,
    },
    /// A held lease of this client was ended by force. A store that cannot tell why one has ended may say so of any that
    /// this client did not release.
    Broken {
        /// The lease.
        id: LeaseId,
    },
    /// Events may have been lost: ask about everything that is queued or held.
    Resync,
}

impl Event {
    /// Reads a notice, as the scripts and statements of stores write it: `g ID TOKEN` for a grant, `b ID` for a break, with the
    /// id in 32 hexadecimal digits. `None` for any other text.
    pub fn from_notice(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (kind, id) = (words.next()?, LeaseId::from_hex(words.next()?)?);
        match kind {
            "g" => Some(Self::Granted { id, token: Token::new(words.next()?.parse().ok()?) }),
            "b" => Some(Self::Broken { id }),
            _ => None,
        }
    }
}

/// What a store can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The kind of store, in lower case, for metrics and messages: `redis`.
    pub backend: &'static str,
    /// The shortest TTL it keeps; a shorter one is rounded up to it.
    pub min_ttl: Ttl,
    /// The longest TTL it keeps; a longer one is refused.
    pub max_ttl: Ttl,
    /// What TTLs are multiples of; others are rounded up. A lease may have lost a tenth of it when it is granted, as one from
    /// a pool has: the grant says what is left.
    pub ttl_step: Duration,
    /// How long an expired lease may still be there and be in the way of others, because the store ends what has expired at
    /// intervals. Such a store tells waiters of an expiry, as of a release; their [`ask_again`](crate::Place::ask_again) may
    /// then be later than the expiry. Zero for one that looks at its clock whenever it is asked.
    pub expiry_lag: Duration,
    /// Whether it keeps a queue. Without one it refuses every claim that would have to wait, and core asks
    /// again with growing, jittered pauses: waiting is then in no order.
    pub queue: bool,
    /// Whether [`events`](Backend::events) reports grants and breaks. Without that core asks about queued leases at
    /// intervals, and holders learn of a break by their next extension.
    pub push: bool,
    /// Whether it keeps a resource taken for a [rest](Release::rest).
    pub rest: bool,
    /// Whether it keeps the [data](Claim::data) of leases.
    pub data: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_read() {
        let id = LeaseId::from_u128(7);
        let granted = format!("g {} 1795362000000001", id.to_hex());
        assert_eq!(Event::from_notice(&granted), Some(Event::Granted { id, token: Token::new(1_795_362_000_000_001) }));
        assert_eq!(Event::from_notice(&format!("b {}", id.to_hex())), Some(Event::Broken { id }));
        for foreign in ["", "g", "g 7 1", "x 00000000000000000000000000000007"] {
            assert_eq!(Event::from_notice(foreign), None);
        }
    }
}
