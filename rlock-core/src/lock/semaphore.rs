//! The semaphore.

use std::future::Future;
use std::num::NonZeroU32;

use futures_core::Stream;

use super::face::Face;
use super::{Guard, LockOptions};
use crate::client::Client;
use crate::contract::{BackendError, Holder, ResourceName, Share, Snapshot};
use crate::error::{InvalidConfig, LockError, RunError};
use crate::metrics::LockKind;

/// A semaphore: a number of permits of a name, over all clients of a store.
///
/// Waiters are granted in the order in which their claims reached the store, as those of a
/// [`SimpleLock`](crate::SimpleLock), so a waiter for many permits is not overtaken by waiters for few. All users of a
/// name must pass the same number of permits.
#[derive(Debug, Clone)]
pub struct Semaphore {
    face: Face,
    permits: NonZeroU32,
}

impl Semaphore {
    /// The semaphore called `name`, of `permits` permits. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig::Name`] if the name cannot be used ([`ResourceName`]), [`InvalidConfig::Share`] without
    /// permits.
    pub fn new(name: impl AsRef<str>, permits: u32, client: &Client) -> Result<Self, InvalidConfig> {
        let share = Share::new(1, permits)?;
        let permits = NonZeroU32::new(share.capacity()).expect("a share's capacity is at least 1");
        Ok(Self { face: Face::new(name, client)?, permits })
    }

    /// Waits for one permit, by default without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub async fn acquire(&self) -> Result<Guard, LockError> {
        self.acquire_many(1).await
    }

    /// Waits for one permit with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub async fn acquire_with(&self, options: LockOptions) -> Result<Guard, LockError> {
        self.acquire_many_with(1, options).await
    }

    /// Waits for `weight` permits, by default without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`acquire_many_with`](Self::acquire_many_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub async fn acquire_many(&self, weight: u32) -> Result<Guard, LockError> {
        self.acquire_many_with(weight, LockOptions::new()).await
    }

    /// Waits for `weight` permits with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with); [`InvalidConfig::Share`] if `weight` is 0 or
    /// greater than the number of permits.
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub async fn acquire_many_with(&self, weight: u32, options: LockOptions) -> Result<Guard, LockError> {
        self.face.lock(self.share(weight)?, LockKind::Semaphore, options).await
    }

    /// Takes one permit if one is free and the semaphore has no waiter. See
    /// [`try_acquire_many_with`](Self::try_acquire_many_with).
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    #[must_use = "the permit is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub async fn try_acquire(&self) -> Result<Option<Guard>, LockError> {
        self.try_acquire_many(1).await
    }

    /// Takes one permit with `options`, if one is free and the semaphore has no waiter. See
    /// [`try_acquire_many_with`](Self::try_acquire_many_with).
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    #[must_use = "the permit is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub async fn try_acquire_with(&self, options: LockOptions) -> Result<Option<Guard>, LockError> {
        self.try_acquire_many_with(1, options).await
    }

    /// Takes `weight` permits if they are free and the semaphore has no waiter. See
    /// [`try_acquire_many_with`](Self::try_acquire_many_with).
    ///
    /// # Errors
    ///
    /// As for [`try_acquire_many_with`](Self::try_acquire_many_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    #[must_use = "the permits are held only while their guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub async fn try_acquire_many(&self, weight: u32) -> Result<Option<Guard>, LockError> {
        self.try_acquire_many_with(weight, LockOptions::new()).await
    }

    /// Takes `weight` permits with `options`, if they are free and the semaphore has no waiter. The permits are held
    /// for as long as the guard lives: bind the guard to a name, or use [`try_run`](Self::try_run).
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with); [`InvalidConfig::Share`] if `weight` is
    /// 0 or greater than the number of permits.
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    #[must_use = "the permits are held only while their guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub async fn try_acquire_many_with(&self, weight: u32, options: LockOptions) -> Result<Option<Guard>, LockError> {
        self.face.try_lock(self.share(weight)?, LockKind::Semaphore, options).await
    }

    /// Runs `work` under one permit if one is free and the semaphore has no waiter, and releases the permit after
    /// `work` has ended. Returns `None` otherwise, and drops `work` without a poll.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    pub async fn try_run<T>(&self, work: impl Future<Output = T>) -> Result<Option<T>, RunError> {
        self.try_run_with(LockOptions::new(), work).await
    }

    /// Like [`try_run`](Self::try_run), with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    pub async fn try_run_with<T>(
        &self,
        options: LockOptions,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, RunError> {
        self.try_run_many_with(1, options, work).await
    }

    /// Like [`try_run`](Self::try_run), under `weight` permits and with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with); [`InvalidConfig::Share`] if `weight` is 0
    /// or greater than the number of permits.
    ///
    /// # Cancel safety
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    pub async fn try_run_many_with<T>(
        &self,
        weight: u32,
        options: LockOptions,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, RunError> {
        let share = self.share(weight).map_err(LockError::from)?;
        self.face.try_run(share, LockKind::Semaphore, options, work).await
    }

    /// Returns the holders of permits and the waiters at this instant, as the store reports them.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn snapshot(&self) -> Result<Snapshot, BackendError> {
        self.face.snapshot().await
    }

    /// Returns the holders of permits at this instant, as the store reports them.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn holders(&self) -> Result<Vec<Holder>, BackendError> {
        self.face.holders().await
    }

    /// Whether any client holds permits at this instant. The state may have changed when the answer arrives. To act
    /// only if the permits are free, use a try.
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

    /// Watches the permits: the holders and the queue at first, and then each change of them that is seen.
    ///
    /// The client asks the store about once a second, and when the next lease would end; a holder who came and went between
    /// two answers is not seen. When the store does not answer, the stream says so once, by an error, and shows the state
    /// again when the store answers. A reader that leaves 16 changes unread misses later ones, and then gets the present
    /// state. For dashboards and tests: to do something only while the lock is held, hold it.
    ///
    /// The stream ends with the client, which it does not keep alive. It works on the client's runtime, in one task,
    /// which ends with the stream.
    pub fn watch(&self) -> impl Stream<Item = Result<Snapshot, BackendError>> + Send + Unpin + use<> {
        self.face.watch()
    }

    /// The name of the semaphore.
    pub fn resource(&self) -> &ResourceName {
        self.face.resource()
    }

    /// The number of permits.
    pub fn permits(&self) -> u32 {
        self.permits.get()
    }

    fn share(&self, weight: u32) -> Result<Share, InvalidConfig> {
        Ok(Share::new(weight, self.permits.get())?)
    }
}
