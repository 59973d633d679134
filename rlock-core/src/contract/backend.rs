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
/// A resource is a first-in-first-out semaphore whose permits expire. Every lock type is built on it, so a backend
/// implements this trait once and supports all of them. `rlock-testkit` checks all of the following rules.
///
/// # To ensure correctness
///
/// 1. **Exclusion.** The weights of the held leases of a resource never exceed its capacity, on the store's clock.
/// 2. **Order.** Leases are granted in the order in which they were queued. A claim with
///    [`IfBusy::Refuse`](crate::IfBusy::Refuse) that would have to wait is refused; it never overtakes the queue.
///    Expired waiters are skipped at once, however many of them expired together.
/// 3. **Tokens** strictly increase in grant order per resource: across release, expiry, a break, a restart of the
///    store, and, as far as the store allows it, a failover that lost writes. So a record that is deleted when its
///    resource is free must not hold the only copy of the counter. A counter or a clock that is read before the write
///    that grants is not enough: another grant and its release may come in between, with the same number or a greater
///    one. Number a grant by the write itself, such as by a revision of the whole store, or compare with a counter that
///    outlives the record.
/// 4. **Compare.** Extend and release act on one lease by its id. They never restore a lease that is gone, and never
///    change another lease.
/// 5. **Extend** makes the remaining life at least the requested TTL, and never shortens it. The failure of one lease
///    in a batch does not fail the others.
/// 6. **Expiry** depends on the store's clock alone. Every operation treats an expired lease as absent. Queued leases
///    expire as held ones do. A backend that uses compare-and-set must write the removal of an expired lease before it
///    reports the lease as absent. Otherwise an extension that read the record earlier could restore the lease
///    afterwards.
/// 7. **Grant.** Every operation that frees capacity (a release, a break, or one that notices an expiry) grants the
///    next waiters in the same atomic step, with the remaining life of their leases. Then it notifies them by an
///    [`Event`]. The event may get lost: the reply to the waiter's next extension also says that the lease is held.
/// 8. **Idempotence.** Every request may arrive twice. A claim whose id already exists changes nothing, and is answered
///    with the state of that lease.
/// 9. **Errors** say whether the request was applied.
/// 10. **Names** are encoded so that no name reaches the keys of another. TTLs that the store cannot keep exactly are
///     rounded up, and the answer reports the life that was granted.
/// 11. **Nothing is left behind** by an unused resource, except a bounded amount of data that keeps its tokens
///     increasing. A store that does not remove expired data by itself removes it when a call comes across it,
///     [`inspect`](Self::inspect) and [`list`](Self::list) included.
/// 12. **Cost** of an operation on a resource does not grow with the number of times that the resource was locked
///     before. It grows at most with the logarithm of the number of its holders and waiters, and of other resources.
/// 13. **Rest.** A release may request that its share of the resource stays taken for a time without a holder. The
///     first waiter is granted when the time is over, whether or not the client that released is still alive.
/// 14. **Data.** A lease may carry some data of its holder, which snapshots show.
/// 15. **The store's word** counts only if the server could also have written. A replica, a stale primary, a read-only
///     server, or a restarted server that may have lost data returns an error. It never returns an answer that frees or
///     loses a lock.
///
/// Each call has to end within a time that the backend limits: with [`BackendError::Unknown`] if no answer came, or
/// with [`BackendError::NotApplied`] if other clients won the race every time. Core pauses and retries. A call takes
/// many leases and answers for each of them, in the given order. Within one batch no two entries name the same lease.
/// Several entries may name one resource, and may be processed in any order. An entry without an answer delays all
/// others of its call, so core repeats each of them in a smaller call.
///
/// Core polls a call for the first time in the task of the caller, if that task runs on the client's runtime. After
/// that, or otherwise, it polls the call in a task of its own on the client's runtime.
///
/// A backend is made for one [`Namespace`](crate::Namespace), which its constructor takes. Implement the trait with
/// `#[async_trait]` of the crate `async-trait`.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// The capabilities of this store.
    fn capabilities(&self) -> &Capabilities;

    /// Claims leases.
    ///
    /// # Behavior
    ///
    /// - A claim that fits beside the held leases, with no waiter in front of it, is held at once.
    /// - Any other claim is queued or refused, as its [`if_busy`](Claim::if_busy) says. A refused claim leaves nothing
    ///   behind and gets no token.
    /// - A claim whose id already exists is answered with the state of that lease.
    ///
    /// # Errors
    ///
    /// [`BackendError::CapacityMismatch`] if live leases of the resource were claimed with another capacity.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have been applied in part or in whole, like one that answered [`BackendError::Unknown`]. Core
    /// drops a call without an answer, after a minute at the latest, and every call when its runtime ends.
    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>>;

    /// Extends leases, queued or held. The answer for a queued lease says whether the store has granted it.
    ///
    /// # Behavior
    ///
    /// - The remaining life becomes at least the requested TTL, and is never shortened. The token does not change.
    /// - A lease that the store does not have is [`Extended::Gone`], and stays gone.
    ///
    /// # Errors
    ///
    /// The errors of the store, for each lease on its own.
    ///
    /// # Cancel safety
    ///
    /// As for [`acquire`](Self::acquire). Core drops a call after half of the longest TTL in it, but not before 1 s and
    /// not later than 60 s.
    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>>;

    /// Releases leases, held or queued, and grants the waiters that fit then.
    ///
    /// # Behavior
    ///
    /// - The answer is [`Released::Released`] once, and [`Released::Absent`] for a lease that the store does not have.
    /// - With a [rest](Release::rest) the share of a held lease stays taken for that time, on the store's clock. The
    ///   first waiter is granted when the rest is over.
    ///
    /// # Errors
    ///
    /// The errors of the store, for each lease on its own.
    ///
    /// # Cancel safety
    ///
    /// As for [`acquire`](Self::acquire).
    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>>;

    /// Returns the holders and the waiters of a resource.
    ///
    /// # Behavior
    ///
    /// - The answer contains no expired leases, and no ids of leases.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call has no effect on any lease.
    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError>;

    /// Lists the resources that have live leases, a page at a time, in an order that the store chooses.
    ///
    /// # Errors
    ///
    /// The errors of the store; [`BackendError::Rejected`] for a cursor that this backend did not return.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call has no effect on any lease.
    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError>;

    /// Ends all held leases of a resource by force, and its rests, and grants the waiters that fit then.
    ///
    /// # Behavior
    ///
    /// - The store notifies each holder by [`Event::Broken`], if it pushes events. The holder's extensions and releases
    ///   find the lease gone.
    /// - The answer is the number of leases that were ended. Queued leases stay.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have been applied.
    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError>;

    /// Checks the version and the settings of the store for risks to locks. It is for people who set up a store, such
    /// as by `rlock check`.
    ///
    /// # Behavior
    ///
    /// - The call changes nothing. A setting that this user may not read is a note, not an error.
    /// - The default implementation finds nothing.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call has no effect.
    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        Ok(Vec::new())
    }

    /// Returns the events that the store sends to this client. Core calls this once for each client, before its first
    /// claim.
    ///
    /// # Behavior
    ///
    /// - Events are hints: they may get lost, come late or arrive twice.
    /// - After any time in which events may have been lost, the stream yields [`Event::Resync`].
    /// - When several clients share the backend, each of them gets every event; [`Events`](crate::Events) does that.
    /// - A store that sends no events returns a stream that yields nothing, such as `futures_util::stream::pending()`.
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

/// A stream of the events that a store sends to a client.
pub type EventStream = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// A hint from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A queued lease of this client was granted, with its remaining life.
    Granted {
        /// The lease.
        id: LeaseId,
        /// Its fencing token.
        token: Token,
    },
    /// A held lease of this client was ended by force. A store that does not know why a lease ended may report this for
    /// any lease that this client did not release.
    Broken {
        /// The lease.
        id: LeaseId,
    },
    /// Events may have been lost. The client has to ask about every lease that is queued or held.
    Resync,
}

impl Event {
    /// Parses a notice in the format that the scripts and statements of stores write: `g ID TOKEN` for a grant, `b ID`
    /// for a break, with the id in 32 hexadecimal digits. Returns `None` for any other text.
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

/// The capabilities of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The kind of store, in lower case, for metrics and messages: `redis`.
    pub backend: &'static str,
    /// The shortest TTL that the store keeps; a shorter one is rounded up to it.
    pub min_ttl: Ttl,
    /// The longest TTL that the store keeps; a longer one is refused.
    pub max_ttl: Ttl,
    /// The step of TTLs: a TTL is rounded up to a multiple of it. A newly granted lease, such as one from a pool, may
    /// have lost up to a tenth of this step; the grant says how much life is left.
    pub ttl_step: Duration,
    /// The longest time for which an expired lease may still exist and block others, because the store removes expired
    /// leases at intervals. Such a store notifies waiters of an expiry as of a release, and their
    /// [`ask_again`](crate::Place::ask_again) may be later than the expiry. Zero for a store that checks its clock on
    /// every call.
    pub expiry_lag: Duration,
    /// Whether the store keeps a queue. A store without one refuses every claim that would have to wait. Core then
    /// retries with growing, jittered pauses, and waiters are granted in no particular order.
    pub queue: bool,
    /// Whether [`events`](Backend::events) reports grants and breaks. Without these reports core asks about queued
    /// leases at intervals, and a holder learns of a break by its next extension.
    pub push: bool,
    /// Whether the store can keep a resource taken for a [rest](Release::rest).
    pub rest: bool,
    /// Whether the store keeps the [data](Claim::data) of leases.
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
