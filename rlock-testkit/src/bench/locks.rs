//! The interface to the lock library that is measured.

use rlock_core::metrics::global;
use rlock_core::{Client, Guard, LockError, SimpleLock};

use super::error::BenchError;

/// A client of a lock library, as far as a benchmark needs it. Clones share one client.
pub trait Locks: Clone + Send + Sync + 'static {
    /// A lock that is held.
    type Held: Send + 'static;

    /// Waits for the mutex `name`, without a time limit.
    fn acquire(&self, name: &str) -> impl Future<Output = Result<Self::Held, BenchError>> + Send;

    /// Releases a lock, and returns once the store has confirmed it.
    fn release(&self, held: Self::Held) -> impl Future<Output = Result<(), BenchError>> + Send;

    /// The number of calls of [`acquire`](Self::acquire) by this process whose entry in the queue of `name` the store
    /// has confirmed. A library without confirmation may estimate. The process has no other waiters during this call.
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

    /// Reads the statistics of the process, because inspecting a queue of a thousand takes the store long.
    async fn waiting(&self, _name: &str) -> Result<usize, BenchError> {
        Ok(usize::try_from(global().stats().locks.waiting).unwrap_or(usize::MAX))
    }
}
