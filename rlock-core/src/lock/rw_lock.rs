//! The reader-writer lock.

use std::future::Future;
use std::num::NonZeroU32;

use futures_core::Stream;

use super::face::Face;
use super::{Guard, LockOptions};
use crate::client::Client;
use crate::contract::{BackendError, Holder, ResourceName, Share, Snapshot};
use crate::error::{InvalidConfig, LockError, RunError};
use crate::metrics::LockKind;

/// A reader-writer lock: many readers or one writer of a name, over all clients of a store.
///
/// It is fair: a waiting writer blocks the readers that come after it, and the readers between two writers are granted
/// together. A guard cannot be converted from one kind into the other. A task that holds one kind and waits for the
/// other waits for itself.
#[derive(Debug, Clone)]
pub struct RwLock(Face);

const READERS: NonZeroU32 = NonZeroU32::new(RwLock::MAX_READERS).expect("not zero");
/// The share of a reader.
pub(super) const READ: Share = Share::one_of(READERS);
/// The share of a writer.
pub(super) const WRITE: Share = Share::all_of(READERS);

impl RwLock {
    /// The maximum number of concurrent readers: 2^29 − 1.
    pub const MAX_READERS: u32 = u32::MAX >> 3;

    /// The reader-writer lock called `name`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig::Name`] if the name cannot be used ([`ResourceName`]).
    pub fn new(name: impl AsRef<str>, client: &Client) -> Result<Self, InvalidConfig> {
        Face::new(name, client).map(Self)
    }

    /// Waits to read, by default without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub async fn read(&self) -> Result<Guard, LockError> {
        self.read_with(LockOptions::new()).await
    }

    /// Waits to read with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub async fn read_with(&self, options: LockOptions) -> Result<Guard, LockError> {
        self.0.lock(READ, LockKind::Read, options).await
    }

    /// Starts to read with the default options. See [`try_read_with`](Self::try_read_with).
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    #[must_use = "the lock is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub async fn try_read(&self) -> Result<Option<Guard>, LockError> {
        self.try_read_with(LockOptions::new()).await
    }

    /// Starts to read with `options`, if the lock has neither a writer nor a waiting one. The lock is held for as
    /// long as the guard lives: bind the guard to a name, or use [`try_run_read`](Self::try_run_read).
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    #[must_use = "the lock is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub async fn try_read_with(&self, options: LockOptions) -> Result<Option<Guard>, LockError> {
        self.0.try_lock(READ, LockKind::Read, options).await
    }

    /// Runs `work` as a reader if the lock has neither a writer nor a waiting one, and releases the lock after `work`
    /// has ended. Returns `None` otherwise, and drops `work` without a poll.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    pub async fn try_run_read<T>(&self, work: impl Future<Output = T>) -> Result<Option<T>, RunError> {
        self.try_run_read_with(LockOptions::new(), work).await
    }

    /// Like [`try_run_read`](Self::try_run_read), with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    pub async fn try_run_read_with<T>(
        &self,
        options: LockOptions,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, RunError> {
        self.0.try_run(READ, LockKind::Read, options, work).await
    }

    /// Waits to write, by default without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub async fn write(&self) -> Result<Guard, LockError> {
        self.write_with(LockOptions::new()).await
    }

    /// Waits to write with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub async fn write_with(&self, options: LockOptions) -> Result<Guard, LockError> {
        self.0.lock(WRITE, LockKind::Write, options).await
    }

    /// Starts to write with the default options. See [`try_write_with`](Self::try_write_with).
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    #[must_use = "the lock is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub async fn try_write(&self) -> Result<Option<Guard>, LockError> {
        self.try_write_with(LockOptions::new()).await
    }

    /// Starts to write with `options`, if the lock has no reader, writer or waiter. The lock is held for as long as
    /// the guard lives: bind the guard to a name, or use [`try_run_write`](Self::try_run_write).
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    #[must_use = "the lock is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub async fn try_write_with(&self, options: LockOptions) -> Result<Option<Guard>, LockError> {
        self.0.try_lock(WRITE, LockKind::Write, options).await
    }

    /// Runs `work` as the writer if the lock has no reader, writer or waiter, and releases the lock after `work` has
    /// ended. Returns `None` otherwise, and drops `work` without a poll.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    pub async fn try_run_write<T>(&self, work: impl Future<Output = T>) -> Result<Option<T>, RunError> {
        self.try_run_write_with(LockOptions::new(), work).await
    }

    /// Like [`try_run_write`](Self::try_run_write), with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    pub async fn try_run_write_with<T>(
        &self,
        options: LockOptions,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, RunError> {
        self.0.try_run(WRITE, LockKind::Write, options, work).await
    }

    /// Returns the holders of the lock and the waiters at this instant, as the store reports them.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn snapshot(&self) -> Result<Snapshot, BackendError> {
        self.0.snapshot().await
    }

    /// Returns the holders of the lock at this instant, as the store reports them.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn holders(&self) -> Result<Vec<Holder>, BackendError> {
        self.0.holders().await
    }

    /// Whether any client holds the lock at this instant. The state may have changed when the answer arrives. To act
    /// only if the lock is free, use a try.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn is_locked(&self) -> Result<bool, BackendError> {
        Ok(!self.holders().await?.is_empty())
    }

    /// Watches the lock: the holders and the queue at first, and then each change of them that is seen.
    ///
    /// The client asks the store about once a second, and when the next lease would end; a holder who came and went between
    /// two answers is not seen. When the store does not answer, the stream says so once, by an error, and shows the state
    /// again when the store answers. A reader that leaves 16 changes unread misses later ones, and then gets the present
    /// state. For dashboards and tests: to do something only while the lock is held, hold it.
    ///
    /// The stream ends with the client, which it does not keep alive. It works on the client's runtime, in one task,
    /// which ends with the stream.
    pub fn watch(&self) -> impl Stream<Item = Result<Snapshot, BackendError>> + Send + Unpin + use<> {
        self.0.watch()
    }

    /// The name of the lock.
    pub fn resource(&self) -> &ResourceName {
        self.0.resource()
    }
}
