//! The reader-writer lock of blocking code.

use super::{Client, Guard, Snapshots, block_on};
use crate::contract::{BackendError, Holder, ResourceName, Snapshot};
use crate::error::{InvalidConfig, LockError, RunError};
use crate::lock::{self, LockOptions};

/// A reader-writer lock. See [`RwLock`](crate::RwLock).
#[derive(Debug, Clone)]
pub struct RwLock(lock::RwLock);

impl RwLock {
    /// The lock called `name`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// As for [`RwLock::new`](crate::RwLock::new).
    pub fn new(name: impl AsRef<str>, client: &Client) -> Result<Self, InvalidConfig> {
        lock::RwLock::new(name, client.as_async()).map(Self)
    }

    /// Waits to read, by default without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub fn read(&self) -> Result<Guard, LockError> {
        self.read_with(LockOptions::new())
    }

    /// Waits to read with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub fn read_with(&self, options: LockOptions) -> Result<Guard, LockError> {
        block_on(self.0.read_with(options)).map(Guard::new)
    }

    /// Starts to read with the default options. See [`try_read_with`](Self::try_read_with).
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    #[must_use = "the lock is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub fn try_read(&self) -> Result<Option<Guard>, LockError> {
        self.try_read_with(LockOptions::new())
    }

    /// Starts to read with `options`, if the lock has neither a writer nor a waiting one.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    #[must_use = "the lock is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub fn try_read_with(&self, options: LockOptions) -> Result<Option<Guard>, LockError> {
        Ok(block_on(self.0.try_read_with(options))?.map(Guard::new))
    }

    /// Runs `work` as a reader if the lock has neither a writer nor a waiting one, and releases the lock after `work`
    /// has returned. Returns `None` otherwise, without a call of `work`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](super::SimpleLock::try_run_with).
    pub fn try_run_read<T>(&self, work: impl FnOnce(&Guard) -> T) -> Result<Option<T>, RunError> {
        self.try_run_read_with(LockOptions::new(), work)
    }

    /// Like [`try_run_read`](Self::try_run_read), with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](super::SimpleLock::try_run_with).
    pub fn try_run_read_with<T>(
        &self,
        options: LockOptions,
        work: impl FnOnce(&Guard) -> T,
    ) -> Result<Option<T>, RunError> {
        match self.try_read_with(options)? {
            Some(guard) => Ok(Some(guard.run(work)?)),
            None => Ok(None),
        }
    }

    /// Waits to write, by default without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub fn write(&self) -> Result<Guard, LockError> {
        self.write_with(LockOptions::new())
    }

    /// Waits to write with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with).
    pub fn write_with(&self, options: LockOptions) -> Result<Guard, LockError> {
        block_on(self.0.write_with(options)).map(Guard::new)
    }

    /// Starts to write with the default options. See [`try_write_with`](Self::try_write_with).
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    #[must_use = "the lock is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub fn try_write(&self) -> Result<Option<Guard>, LockError> {
        self.try_write_with(LockOptions::new())
    }

    /// Starts to write with `options`, if the lock has no reader, writer or waiter.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_lock_with`](crate::SimpleLock::try_lock_with).
    #[must_use = "the lock is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub fn try_write_with(&self, options: LockOptions) -> Result<Option<Guard>, LockError> {
        Ok(block_on(self.0.try_write_with(options))?.map(Guard::new))
    }

    /// Runs `work` as the writer if the lock has no reader, writer or waiter, and releases the lock after `work` has
    /// returned. Returns `None` otherwise, without a call of `work`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](super::SimpleLock::try_run_with).
    pub fn try_run_write<T>(&self, work: impl FnOnce(&Guard) -> T) -> Result<Option<T>, RunError> {
        self.try_run_write_with(LockOptions::new(), work)
    }

    /// Like [`try_run_write`](Self::try_run_write), with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](super::SimpleLock::try_run_with).
    pub fn try_run_write_with<T>(
        &self,
        options: LockOptions,
        work: impl FnOnce(&Guard) -> T,
    ) -> Result<Option<T>, RunError> {
        match self.try_write_with(options)? {
            Some(guard) => Ok(Some(guard.run(work)?)),
            None => Ok(None),
        }
    }

    /// Returns the holders of the lock and the waiters at this instant. See
    /// [`RwLock::snapshot`](crate::RwLock::snapshot).
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn snapshot(&self) -> Result<Snapshot, BackendError> {
        block_on(self.0.snapshot())
    }

    /// Returns the holders of the lock at this instant. See [`RwLock::holders`](crate::RwLock::holders).
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn holders(&self) -> Result<Vec<Holder>, BackendError> {
        block_on(self.0.holders())
    }

    /// Whether any client holds the lock at this instant. See [`RwLock::is_locked`](crate::RwLock::is_locked).
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn is_locked(&self) -> Result<bool, BackendError> {
        block_on(self.0.is_locked())
    }

    /// Watches the lock: the state at first, and then each change that is seen. See
    /// [`RwLock::watch`](crate::RwLock::watch).
    pub fn watch(&self) -> Snapshots {
        Snapshots::new(self.0.watch())
    }

    /// The name of the lock.
    pub fn resource(&self) -> &ResourceName {
        self.0.resource()
    }
}
