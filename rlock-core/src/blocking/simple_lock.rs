//! The mutex of blocking code.

use super::{Client, Guard, Snapshots, block_on};
use crate::contract::{BackendError, Holder, ResourceName, Snapshot};
use crate::error::{InvalidConfig, LockError, RunError};
use crate::lock::{self, LockOptions};

/// A mutex. See [`SimpleLock`](crate::SimpleLock).
#[doc(alias = "Mutex")]
#[derive(Debug, Clone)]
pub struct SimpleLock(lock::SimpleLock);

impl SimpleLock {
    /// The mutex called `name`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::new`](crate::SimpleLock::new).
    pub fn new(name: impl AsRef<str>, client: &Client) -> Result<Self, InvalidConfig> {
        lock::SimpleLock::new(name, client.as_async()).map(Self)
    }

    /// Waits for the lock, by default without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub fn lock(&self) -> Result<Guard, LockError> {
        self.lock_with(LockOptions::new())
    }

    /// Waits for the lock with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub fn lock_with(&self, options: LockOptions) -> Result<Guard, LockError> {
        block_on(self.0.lock_with(options)).map(Guard::new)
    }

    /// Takes the lock if it is free and has no waiter.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    #[must_use = "the lock is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub fn try_lock(&self) -> Result<Option<Guard>, LockError> {
        self.try_lock_with(LockOptions::new())
    }

    /// Takes the lock with `options`, if it is free and has no waiter.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    #[must_use = "the lock is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub fn try_lock_with(&self, options: LockOptions) -> Result<Option<Guard>, LockError> {
        Ok(block_on(self.0.try_lock_with(options))?.map(Guard::new))
    }

    /// Runs `work` under the lock if the lock is free and has no waiter, and releases the lock after `work` has
    /// returned. Returns the output of `work`, or `None` without a call of `work` if others hold the lock or wait for
    /// it.
    ///
    /// ```
    /// # fn print(_page: &str) {}
    /// # fn doc(lock: rlock_core::blocking::SimpleLock, pages: &[String]) -> Result<(), rlock_core::RunError> {
    /// let printed = lock.try_run(|guard| {
    ///     for page in pages {
    ///         guard.check()?; // a loss does not stop this function
    ///         print(page);
    ///     }
    ///     Ok::<_, rlock_core::Lost>(pages.len())
    /// })?;
    /// if printed.is_none() {
    ///     println!("the report is printed on another node");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`try_run_with`](Self::try_run_with).
    pub fn try_run<T>(&self, work: impl FnOnce(&Guard) -> T) -> Result<Option<T>, RunError> {
        self.try_run_with(LockOptions::new(), work)
    }

    /// Runs `work` under the lock with `options`, if the lock is free and has no waiter; see
    /// [`try_run`](Self::try_run).
    ///
    /// # Errors
    ///
    /// [`RunError::Lock`] if the lock was not acquired and `work` has not been called, as for
    /// [`try_lock_with`](Self::try_lock_with). It is no error that others hold the lock. [`RunError::Lost`] if the lock
    /// was lost, as for [`Guard::run`]: `work` has returned, and its output is dropped.
    pub fn try_run_with<T>(&self, options: LockOptions, work: impl FnOnce(&Guard) -> T) -> Result<Option<T>, RunError> {
        match self.try_lock_with(options)? {
            Some(guard) => Ok(Some(guard.run(work)?)),
            None => Ok(None),
        }
    }

    /// Returns the holder of the lock and the waiters at this instant. See
    /// [`SimpleLock::snapshot`](crate::SimpleLock::snapshot).
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn snapshot(&self) -> Result<Snapshot, BackendError> {
        block_on(self.0.snapshot())
    }

    /// Returns the holders of the lock at this instant. See [`SimpleLock::holders`](crate::SimpleLock::holders).
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn holders(&self) -> Result<Vec<Holder>, BackendError> {
        block_on(self.0.holders())
    }

    /// Whether any client holds the lock at this instant. See [`SimpleLock::is_locked`](crate::SimpleLock::is_locked).
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn is_locked(&self) -> Result<bool, BackendError> {
        block_on(self.0.is_locked())
    }

    /// Watches the lock: the state at first, and then each change that is seen. See
    /// [`SimpleLock::watch`](crate::SimpleLock::watch).
    pub fn watch(&self) -> Snapshots {
        Snapshots::new(self.0.watch())
    }

    /// The name of the lock.
    pub fn resource(&self) -> &ResourceName {
        self.0.resource()
    }
}
