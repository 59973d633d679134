//! The semaphore of blocking code.

use super::{Client, Guard, Snapshots, block_on};
use crate::contract::{BackendError, Holder, ResourceName, Snapshot};
use crate::error::{InvalidConfig, LockError, RunError};
use crate::lock::{self, LockOptions};

/// A semaphore. See [`Semaphore`](crate::Semaphore).
#[derive(Debug, Clone)]
pub struct Semaphore(lock::Semaphore);

impl Semaphore {
    /// The semaphore called `name`, of `permits` permits. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// As for [`Semaphore::new`](crate::Semaphore::new).
    pub fn new(name: impl AsRef<str>, permits: u32, client: &Client) -> Result<Self, InvalidConfig> {
        lock::Semaphore::new(name, permits, client.as_async()).map(Self)
    }

    /// Waits for one permit, by default without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub fn acquire(&self) -> Result<Guard, LockError> {
        self.acquire_many(1)
    }

    /// Waits for one permit with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub fn acquire_with(&self, options: LockOptions) -> Result<Guard, LockError> {
        self.acquire_many_with(1, options)
    }

    /// Waits for `weight` permits, by default without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`Semaphore::acquire_many_with`](crate::Semaphore::acquire_many_with).
    pub fn acquire_many(&self, weight: u32) -> Result<Guard, LockError> {
        self.acquire_many_with(weight, LockOptions::new())
    }

    /// Waits for `weight` permits with `options`.
    ///
    /// # Errors
    ///
    /// As for [`Semaphore::acquire_many_with`](crate::Semaphore::acquire_many_with).
    pub fn acquire_many_with(&self, weight: u32, options: LockOptions) -> Result<Guard, LockError> {
        block_on(self.0.acquire_many_with(weight, options)).map(Guard::new)
    }

    /// Takes one permit if one is free and the semaphore has no waiter.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    #[must_use = "the permit is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub fn try_acquire(&self) -> Result<Option<Guard>, LockError> {
        self.try_acquire_many(1)
    }

    /// Takes one permit with `options`, if one is free and the semaphore has no waiter.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    #[must_use = "the permit is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub fn try_acquire_with(&self, options: LockOptions) -> Result<Option<Guard>, LockError> {
        self.try_acquire_many_with(1, options)
    }

    /// Takes `weight` permits if they are free and the semaphore has no waiter.
    ///
    /// # Errors
    ///
    /// As for [`Semaphore::try_acquire_many_with`](crate::Semaphore::try_acquire_many_with).
    #[must_use = "the permits are held only while their guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub fn try_acquire_many(&self, weight: u32) -> Result<Option<Guard>, LockError> {
        self.try_acquire_many_with(weight, LockOptions::new())
    }

    /// Takes `weight` permits with `options`, if they are free and the semaphore has no waiter.
    ///
    /// # Errors
    ///
    /// As for [`Semaphore::try_acquire_many_with`](crate::Semaphore::try_acquire_many_with).
    #[must_use = "the permits are held only while their guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub fn try_acquire_many_with(&self, weight: u32, options: LockOptions) -> Result<Option<Guard>, LockError> {
        Ok(block_on(self.0.try_acquire_many_with(weight, options))?.map(Guard::new))
    }

    /// Runs `work` under one permit if one is free and the semaphore has no waiter, and releases the permit after
    /// `work` has returned. Returns `None` otherwise, without a call of `work`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](super::SimpleLock::try_run_with).
    pub fn try_run<T>(&self, work: impl FnOnce(&Guard) -> T) -> Result<Option<T>, RunError> {
        self.try_run_with(LockOptions::new(), work)
    }

    /// Like [`try_run`](Self::try_run), with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](super::SimpleLock::try_run_with).
    pub fn try_run_with<T>(&self, options: LockOptions, work: impl FnOnce(&Guard) -> T) -> Result<Option<T>, RunError> {
        self.try_run_many_with(1, options, work)
    }

    /// Like [`try_run`](Self::try_run), under `weight` permits and with `options`.
    ///
    /// # Errors
    ///
    /// As for [`Semaphore::try_run_many_with`](crate::Semaphore::try_run_many_with).
    pub fn try_run_many_with<T>(
        &self,
        weight: u32,
        options: LockOptions,
        work: impl FnOnce(&Guard) -> T,
    ) -> Result<Option<T>, RunError> {
        match self.try_acquire_many_with(weight, options)? {
            Some(guard) => Ok(Some(guard.run(work)?)),
            None => Ok(None),
        }
    }

    /// Returns the holders of permits and the waiters at this instant. See
    /// [`Semaphore::snapshot`](crate::Semaphore::snapshot).
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn snapshot(&self) -> Result<Snapshot, BackendError> {
        block_on(self.0.snapshot())
    }

    /// Returns the holders of permits at this instant. See [`Semaphore::holders`](crate::Semaphore::holders).
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn holders(&self) -> Result<Vec<Holder>, BackendError> {
        block_on(self.0.holders())
    }

    /// Whether any client holds permits at this instant. See [`Semaphore::is_locked`](crate::Semaphore::is_locked).
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn is_locked(&self) -> Result<bool, BackendError> {
        block_on(self.0.is_locked())
    }

    /// Watches the permits: the state at first, and then each change that is seen. See
    /// [`Semaphore::watch`](crate::Semaphore::watch).
    pub fn watch(&self) -> Snapshots {
        Snapshots::new(self.0.watch())
    }

    /// The name of the semaphore.
    pub fn resource(&self) -> &ResourceName {
        self.0.resource()
    }

    /// The number of permits.
    pub fn permits(&self) -> u32 {
        self.0.permits()
    }
}
