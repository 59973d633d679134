//! Several locks as one, for blocking code.

use std::time::Duration;

use super::park::block_on_for;
use super::{Client, block_on};
use crate::contract::{ResourceName, Token};
use crate::error::{ExtendError, InvalidConfig, LockError, RunError, UnlockError};
use crate::lease::{End, Lost};
use crate::lock::{self, LockOptions};

/// Several locks that are held together or not at all. See [`LockSet`](crate::LockSet).
#[derive(Debug, Clone)]
pub struct LockSet(lock::LockSet);

impl LockSet {
    /// A set without locks.
    pub fn new(client: &Client) -> Self {
        Self(lock::LockSet::new(client.as_async()))
    }

    /// Adds the mutex called `name`.
    ///
    /// # Errors
    ///
    /// As for [`LockSet::mutex`](crate::LockSet::mutex).
    pub fn mutex(self, name: impl AsRef<str>) -> Result<Self, InvalidConfig> {
        self.0.mutex(name).map(Self)
    }

    /// Adds the reader-writer lock called `name`, to read.
    ///
    /// # Errors
    ///
    /// As for [`LockSet::mutex`](crate::LockSet::mutex).
    pub fn read(self, name: impl AsRef<str>) -> Result<Self, InvalidConfig> {
        self.0.read(name).map(Self)
    }

    /// Adds the reader-writer lock called `name`, to write.
    ///
    /// # Errors
    ///
    /// As for [`LockSet::mutex`](crate::LockSet::mutex).
    pub fn write(self, name: impl AsRef<str>) -> Result<Self, InvalidConfig> {
        self.0.write(name).map(Self)
    }

    /// Adds `weight` permits of the semaphore called `name`, which has `permits` permits.
    ///
    /// # Errors
    ///
    /// As for [`LockSet::permits`](crate::LockSet::permits).
    pub fn permits(self, name: impl AsRef<str>, weight: u32, permits: u32) -> Result<Self, InvalidConfig> {
        self.0.permits(name, weight, permits).map(Self)
    }

    /// Waits for all locks, by default without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`LockSet::lock_with`](crate::LockSet::lock_with).
    pub fn lock(&self) -> Result<LockSetGuard, LockError> {
        self.lock_with(LockOptions::new())
    }

    /// Waits for all locks with `options`.
    ///
    /// # Errors
    ///
    /// As for [`LockSet::lock_with`](crate::LockSet::lock_with).
    pub fn lock_with(&self, options: LockOptions) -> Result<LockSetGuard, LockError> {
        block_on(self.0.lock_with(options)).map(LockSetGuard)
    }

    /// Takes all locks if each is free and has no waiter.
    ///
    /// # Errors
    ///
    /// As for [`LockSet::try_lock_with`](crate::LockSet::try_lock_with).
    #[must_use = "the locks are held only while their guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub fn try_lock(&self) -> Result<Option<LockSetGuard>, LockError> {
        self.try_lock_with(LockOptions::new())
    }

    /// Takes all locks with `options` if each is free and has no waiter.
    ///
    /// # Errors
    ///
    /// As for [`LockSet::try_lock_with`](crate::LockSet::try_lock_with).
    #[must_use = "the locks are held only while their guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub fn try_lock_with(&self, options: LockOptions) -> Result<Option<LockSetGuard>, LockError> {
        Ok(block_on(self.0.try_lock_with(options))?.map(LockSetGuard))
    }

    /// Runs `work` under all locks if each is free and has no waiter, and releases them after `work` has returned.
    /// Returns `None` otherwise, without a call of `work`. See [`LockSetGuard::run`].
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](super::SimpleLock::try_run_with).
    pub fn try_run<T>(&self, work: impl FnOnce(&LockSetGuard) -> T) -> Result<Option<T>, RunError> {
        self.try_run_with(LockOptions::new(), work)
    }

    /// Like [`try_run`](Self::try_run), with `options`.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](super::SimpleLock::try_run_with).
    pub fn try_run_with<T>(
        &self,
        options: LockOptions,
        work: impl FnOnce(&LockSetGuard) -> T,
    ) -> Result<Option<T>, RunError> {
        match self.try_lock_with(options)? {
            Some(guard) => Ok(Some(guard.run(work)?)),
            None => Ok(None),
        }
    }
}

/// The held locks of a [`LockSet`], for as long as the guard lives. See [`LockSetGuard`](crate::LockSetGuard).
#[derive(Debug)]
#[must_use = "dropping the guard releases the locks: bind it to a name, as in `let _guard = …`; `let _ = …` drops it at once"]
pub struct LockSetGuard(lock::LockSetGuard);

impl LockSetGuard {
    /// The fencing token of the lock called `name`; `None` if the set has no such lock.
    pub fn token(&self, name: &str) -> Option<Token> {
        self.0.token(name)
    }

    /// The name and the fencing token of each lock.
    pub fn tokens(&self) -> impl Iterator<Item = (&ResourceName, Token)> {
        self.0.tokens()
    }

    /// Whether all locks are held at this instant.
    pub fn is_held(&self) -> bool {
        self.0.is_held()
    }

    /// Returns `Ok` while all locks are held; for `?` between two steps of the work.
    ///
    /// # Errors
    ///
    /// [`Lost`], with the name and the reason, once a lock is not held.
    pub fn check(&self) -> Result<(), Lost> {
        self.0.check()
    }

    /// The time until the first deadline of a lock.
    pub fn remaining(&self) -> Duration {
        self.0.remaining()
    }

    /// Blocks until the first of the locks is lost, for `limit` at most, and returns its name and the reason; `None` if
    /// all are still held then.
    pub fn wait_lost(&self, limit: Duration) -> Option<Lost> {
        block_on_for(self.0.lost(), limit)
    }

    /// Blocks until the first of the locks is lost or released, for `limit` at most; `None` if all are still held then.
    pub fn wait_ended(&self, limit: Duration) -> Option<End> {
        block_on_for(self.0.ended(), limit)
    }

    /// Extends each lock. See [`LockSetGuard::extend`](crate::LockSetGuard::extend).
    ///
    /// # Errors
    ///
    /// As for [`LockSetGuard::extend`](crate::LockSetGuard::extend).
    pub fn extend(&self, ttl: Duration) -> Result<Duration, ExtendError> {
        block_on(self.0.extend(ttl))
    }

    /// Runs `work` under the locks, and releases them after `work` has returned.
    ///
    /// A loss does not stop `work`. Therefore `work` gets the guard, to [check](Self::check) between two steps.
    ///
    /// # Errors
    ///
    /// As for [`Guard::run`](super::Guard::run), about the lock that was lost.
    pub fn run<T>(self, work: impl FnOnce(&Self) -> T) -> Result<T, Lost> {
        self.check()?;
        let output = work(&self);
        block_on(self.0.release_after(output))
    }

    /// Releases all locks, and reports whether they were held until then.
    ///
    /// # Errors
    ///
    /// As for [`LockSetGuard::unlock`](crate::LockSetGuard::unlock).
    pub fn unlock(self) -> Result<(), UnlockError> {
        block_on(self.0.unlock())
    }

    /// Releases all locks by reference. See [`LockSetGuard::release`](crate::LockSetGuard::release).
    ///
    /// # Errors
    ///
    /// As for [`LockSetGuard::unlock`](crate::LockSetGuard::unlock).
    pub fn release(&self) -> Result<(), UnlockError> {
        block_on(self.0.release())
    }

    /// The same guard for `async` code.
    pub fn as_async(&self) -> &lock::LockSetGuard {
        &self.0
    }
}
