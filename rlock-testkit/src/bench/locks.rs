//! The lock library that is measured.

use rlock_core::metrics::global;
use rlock_core::{Client, Guard, LockError, SimpleLock};

use super::BenchError;

/// A client of a lock library, as far as a benchmark uses it. Clones share one client.
pub trait Locks: Clone + Send + Sync + 'static {
    /// A lock that is held.
    type Held: Send + 'static;

    /// Waits for the mutex `name`, for as long as it takes.
    fn acquire(&self, name: &str) -> impl Future<Output = Result<Self::Held, BenchError>> + Send;

    /// Gives a lock back, and returns once the store has confirmed it.
    fn release(&self, held: Self::Held) -> impl Future<Output = Result<(), BenchError>> + Send;

    /// The number of calls of [`acquire`](Self::acquire) by this process that have a place in the queue of `name`, confirmed by
    /// the store. A library that cannot confirm it may estimate. Nothing else of the process waits while this is called.
    fn waiting(&self, name: &str) -> impl Future<Output = Result<usize, BenchError>> + Send;
}

impl Locks for Client {
    type Held = Guard;

    async fn acquire(&self, name: &str) -> Result<Guard, BenchError> {
        let lock = SimpleLock::new(name, self).map_err(LockError::from)?;
        Ok(lock.lock().await?)
    }

    async fn release(&self, held: Guard) -> Result<(), BenchError> {
        Ok(held.unlock().await?)
    }

    /// From the statistics of the process: to look at a queue of a thousand takes the store long.
    async fn waiting(&self, _name: &str) -> Result<usize, BenchError> {
        Ok(usize::try_from(global().stats().locks.waiting).unwrap_or(usize::MAX))
    }
}
