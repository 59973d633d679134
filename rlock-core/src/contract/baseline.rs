//! The cost of a store without locks.

use std::fmt;

use async_trait::async_trait;

use super::BackendError;

/// The cost of a store without locks: what `rlock bench` compares locks with.
///
/// An implementation uses the client library, the connection options and the number of connections that the store's
/// [`Backend`](crate::Backend) uses, so that a difference between the two is the cost of the locks. It is made for one
/// throw-away namespace and keeps all that it writes in there.
///
/// # Errors
///
/// Each method fails with a [`BackendError`] when the store does not answer in time, or refuses. None of them tries again: a
/// measurement with a repeated request in it would be of no use.
///
/// # Cancel safety
///
/// A future that is dropped may have written; [`clean_up`](Self::clean_up) removes what it wrote. It may leave a push behind
/// that the next [`write_and_push`](Self::write_and_push) takes for its own, so one that was dropped ends the measurement.
#[async_trait]
pub trait Baseline: fmt::Debug + Send + Sync + 'static {
    /// Sends the cheapest request of the store and waits for the answer: a ping, or a read of nothing.
    async fn round_trip(&self) -> Result<(), BackendError>;

    /// Makes the two writes that no lock can do without: one that takes `name`, one that gives it back.
    ///
    /// Each write is a request of its own, sent once the one before is answered, and as durable as a write of the backend.
    /// Concurrent calls name different `name`s.
    async fn pair(&self, name: &str) -> Result<(), BackendError>;

    /// Writes, and returns when the store's push of that write has arrived on another connection.
    ///
    /// A store without pushes waits as its backend's waiters do. Concurrent calls wait for each other.
    async fn write_and_push(&self) -> Result<(), BackendError>;

    /// Reads what the server itself counts, each with a name for people in the plural, such as `("raft entries", 12)`.
    ///
    /// Every counter is exact at the time of the call and only grows. It may include the work of other clients, and that of
    /// this call. A store that counts nothing returns nothing.
    async fn counters(&self) -> Result<Vec<(&'static str, u64)>, BackendError>;

    /// Removes everything from the namespace, locks too, and all that this made elsewhere.
    ///
    /// Nothing else is called after it, and no client uses the namespace any more.
    async fn clean_up(&self) -> Result<(), BackendError>;
}
