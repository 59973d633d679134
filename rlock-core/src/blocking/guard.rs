//! A held lock, for blocking code.

use std::time::Duration;

use super::block_on;
use super::park::block_on_for;
use crate::contract::{LockHandle, ResourceName, Token};
use crate::error::{ExtendError, StartWatchdogError, UnlockError};
use crate::lease::{End, LossReason, Lost};
use crate::lock::{self, Watchdog};
use crate::watchdog::WatchdogConfig;

/// A held lock, for as long as the guard lives. See [`Guard`](crate::Guard). Dropping it releases the lock in the
/// background.
#[derive(Debug)]
#[must_use = "dropping the guard releases the lock: bind it to a name, as in `let _guard = …`; `let _ = …` drops it at once"]
pub struct Guard(lock::Guard);

impl Guard {
    pub(super) fn new(guard: lock::Guard) -> Self {
        Self(guard)
    }

    /// The name of the lock.
    pub fn resource(&self) -> &ResourceName {
        self.0.resource()
    }

    /// The fencing token. See [`Guard::token`](crate::Guard::token).
    pub fn token(&self) -> Token {
        self.0.token()
    }

    /// Whether the lock is held at this instant.
    pub fn is_held(&self) -> bool {
        self.0.is_held()
    }

    /// The reason why the lock was lost; `None` while it is held, and after a [release](Self::release).
    pub fn loss(&self) -> Option<LossReason> {
        self.0.loss()
    }

    /// Returns `Ok` while the lock is held; for `?` between two steps of the work.
    ///
    /// # Errors
    ///
    /// [`Lost`], with the reason, once the lock is not held.
    pub fn check(&self) -> Result<(), Lost> {
        self.0.check()
    }

    /// The time until the deadline. See [`Guard::remaining`](crate::Guard::remaining).
    pub fn remaining(&self) -> Duration {
        self.0.remaining()
    }

    /// Blocks until the lock is lost, for `limit` at most, and returns the reason; `None` if it is still held then.
    pub fn wait_lost(&self, limit: Duration) -> Option<LossReason> {
        block_on_for(self.0.lost(), limit)
    }

    /// Blocks until the lock is lost or released, for `limit` at most; `None` if it is still held then. See
    /// [`Guard::ended`](crate::Guard::ended).
    pub fn wait_ended(&self, limit: Duration) -> Option<End> {
        block_on_for(self.0.ended(), limit)
    }

    /// Extends the lease. See [`Guard::extend`](crate::Guard::extend).
    ///
    /// # Errors
    ///
    /// As for [`Guard::extend`](crate::Guard::extend).
    pub fn extend(&self, ttl: Duration) -> Result<Duration, ExtendError> {
        block_on(self.0.extend(ttl))
    }

    /// Starts a watchdog. See [`Guard::start_watchdog`](crate::Guard::start_watchdog).
    ///
    /// # Errors
    ///
    /// As for [`Guard::start_watchdog`](crate::Guard::start_watchdog).
    pub fn start_watchdog(&self, config: WatchdogConfig) -> Result<Watchdog, StartWatchdogError> {
        self.0.start_watchdog(config)
    }

    /// The running watchdog; `None` without one.
    pub fn watchdog(&self) -> Option<Watchdog> {
        self.0.watchdog()
    }

    /// Runs `work` under the lock, and releases the lock after `work` has returned.
    ///
    /// A loss does not stop `work`. Therefore `work` gets the guard, to [check](Self::check) between two steps.
    ///
    /// # Errors
    ///
    /// [`Lost`] if the lock was lost before `work` returned, also when only the release shows it, or if it was
    /// [released](Self::release) before. A release that the store does not confirm is logged, and retried in the
    /// background.
    pub fn run<T>(self, work: impl FnOnce(&Self) -> T) -> Result<T, Lost> {
        self.check()?;
        let output = work(&self);
        block_on(self.0.release_after(output))
    }

    /// Ends the guard and leaves the lock held, until another client [adopts](super::Client::adopt) it or its TTL ends.
    /// See [`Guard::into_handle`](crate::Guard::into_handle).
    ///
    /// # Errors
    ///
    /// [`Lost`] if the lock has been lost or released.
    pub fn into_handle(self) -> Result<LockHandle, Lost> {
        self.0.into_handle()
    }

    /// Releases the lock, and reports whether it was held until then. See [`Guard::unlock`](crate::Guard::unlock).
    ///
    /// # Errors
    ///
    /// As for [`Guard::unlock`](crate::Guard::unlock).
    pub fn unlock(self) -> Result<(), UnlockError> {
        block_on(self.0.unlock())
    }

    /// Releases the lock by reference, for a guard that several threads share. See
    /// [`Guard::release`](crate::Guard::release).
    ///
    /// # Errors
    ///
    /// As for [`Guard::unlock`](crate::Guard::unlock).
    pub fn release(&self) -> Result<(), UnlockError> {
        block_on(self.0.release())
    }

    /// Releases the lock in the background, and without the rest of
    /// [`hold_at_least`](crate::LockOptions::hold_at_least). See [`Guard::give_back`](crate::Guard::give_back).
    pub fn give_back(self) {
        self.0.give_back();
    }

    /// The same guard for `async` code.
    pub fn as_async(&self) -> &lock::Guard {
        &self.0
    }
}
