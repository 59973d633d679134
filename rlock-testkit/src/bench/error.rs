//! The failure of a benchmark.

use rlock_core::{BackendError, Failure, LockError, UnlockError};

/// The failure of a benchmark.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A lock was not acquired.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A lock was lost, or its release was not confirmed.
    #[error(transparent)]
    Unlock(#[from] UnlockError),
    /// The store did not answer a request, or refused it.
    #[error(transparent)]
    Store(#[from] BackendError),
    /// Anything else, such as a client that did not connect, or another lock library that failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}
