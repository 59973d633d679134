//! The cost of a store without locks.

use std::fmt;

use async_trait::async_trait;

use super::BackendError;

/// The cost of a store without locks: what `rlock bench` compares locks with.
///
/// An implementation uses the client library, the connection options and the number of connections that the store's
/// [`Backend`](crate::Backend) uses, so that a difference between the two is the cost of the locks. It is made for one
/// throw-away namespace and writes only there.
///
/// # Errors
///
/// Each method fails with a [`BackendError`] when the store does not answer in time, or refuses. No method retries: a
/// measurement that includes a retry would be useless.
///
/// # Cancel safety
///
/// A dropped future may have written to the store; [`clean_up`](Self::clean_up) removes such data. It may also leave a
/// push behind, which the next [`write_and_push`](Self::write_and_push) would take for its own. So a dropped call ends
/// the measurement.
#[async_trait]
pub trait Baseline: fmt::Debug + Send + Sync + 'static {
    /// Sends the cheapest request of the store and waits for the answer: a ping, or a read of nothing.
    async fn round_trip(&self) -> Result<(), BackendError>;

    /// Makes the two writes that every lock needs: one takes `name`, the other releases it.
    ///
    /// Each write is a request of its own and as durable as a write of the backend. The second is sent after the answer
    /// to the first. Concurrent calls use different `name`s.
    async fn pair(&self, name: &str) -> Result<(), BackendError>;

    /// Writes, and returns when the store's push of that write has arrived on another connection.
    ///
    /// A store without pushes waits as its backend's waiters do. Concurrent calls wait for each other.
    async fn write_and_push(&self) -> Result<(), BackendError>;

    /// Reads the counters of the server, each with a plural name for people, such as `("raft entries", 12)`.
    ///
    /// Every counter is exact at the time of the call and only grows. It may include the work of other clients, and of
    /// this call. A store without counters returns none.
    async fn counters(&self) -> Result<Vec<(&'static str, u64)>, BackendError>;

    /// Reads the size of the store's data in bytes: the memory in use where the data are in memory, otherwise the pages
    /// of files that are in use.
    ///
    /// It may include the data of other clients, and data that the store has not removed yet. `None` if the store does
    /// not report its size.
    async fn size(&self) -> Result<Option<u64>, BackendError>;

    /// Removes everything from the namespace, locks included, and everything that this baseline created elsewhere.
    ///
    /// No other method is called after it, and no client uses the namespace any more.
    async fn clean_up(&self) -> Result<(), BackendError>;
}
