//! The mutex.

use std::future::Future;

use futures_core::Stream;

use super::face::Face;
use super::{Guard, LockOptions};
use crate::client::Client;
use crate::contract::{BackendError, Holder, ResourceName, Share, Snapshot};
use crate::error::{InvalidConfig, LockError, RunError};
use crate::metrics::LockKind;

/// A mutex: at most one guard of a name at a time, over all clients of a store.
///
/// It is not reentrant: a second `lock` waits, also in the same task.
///
/// Waiters are granted in the order in which their claims reached the store. Two claims that are under way at the same
/// time may reach it in either order, also if one client sends both.
///
/// ```
/// # async fn doc(client: rlock_core::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use rlock_core::SimpleLock;
///
/// let lock = SimpleLock::new("invoice/42", &client)?;
/// let guard = lock.lock().await?;
/// // The lock stays held for as long as the guard lives.
/// guard.unlock().await?;
/// # Ok(()) }
/// ```
#[doc(alias("Mutex", "RLock", "FairLock"))]
#[derive(Debug, Clone)]
pub struct SimpleLock(Face);

impl SimpleLock {
    /// The mutex called `name`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig::Name`] if the name cannot be used ([`ResourceName`]).
    pub fn new(name: impl AsRef<str>, client: &Client) -> Result<Self, InvalidConfig> {
        Face::new(name, client).map(Self)
    }

    /// Waits for the lock, by default without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`lock_with`](Self::lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`lock_with`](Self::lock_with).
    pub async fn lock(&self) -> Result<Guard, LockError> {
        self.lock_with(LockOptions::new()).await
    }

    /// Waits for the lock with `options`.
    ///
    /// If the store fails while the lease is in the queue, the call continues to wait. If the store does not answer the
    /// first request, the call fails after the client's [`retry_for`](crate::ClientBuilder::retry_for).
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`] after the wait in the options. The other variants of [`LockError`] for other failures.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the lock and leaves the queue, in the background.
    pub async fn lock_with(&self, options: LockOptions) -> Result<Guard, LockError> {
        self.0.lock(Share::EXCLUSIVE, LockKind::Mutex, options).await
    }

    /// Takes the lock if it is free and has no waiter.
    ///
    /// The lock is held for as long as the guard lives, so bind the guard to a name. Each of these releases the lock
    /// before the work begins, and the compiler does not warn:
    ///
    /// ```no_run
    /// # async fn doc(lock: rlock_core::SimpleLock) -> Result<(), rlock_core::LockError> {
    /// if lock.try_lock().await?.is_some() { /* not locked */ }
    /// let _ = lock.try_lock().await?; // not locked from here on
    /// let Some(_) = lock.try_lock().await? else { return Ok(()) }; // not locked from here on
    /// # Ok(()) }
    /// ```
    ///
    /// Each of these holds it:
    ///
    /// ```
    /// # async fn doc(lock: rlock_core::SimpleLock) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Some(_guard) = lock.try_lock().await? {
    ///     // The lock is held up to the end of this block.
    /// }
    /// let output = lock.try_run(async { /* the lock is held up to the end of this block */ }).await?;
    /// # let _ = output;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`try_lock_with`](Self::try_lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`lock_with`](Self::lock_with).
    #[must_use = "the lock is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub async fn try_lock(&self) -> Result<Option<Guard>, LockError> {
        self.try_lock_with(LockOptions::new()).await
    }

    /// Takes the lock with `options`, if it is free and has no waiter. [`try_lock`](Self::try_lock) shows how to keep
    /// it.
    ///
    /// # Errors
    ///
    /// [`LockError`] if the request failed. It is no error that others hold the lock: the result is then `None`. A
    /// [`wait`](LockOptions::wait) in the options is refused.
    ///
    /// # Cancel safety
    ///
    /// As for [`lock_with`](Self::lock_with).
    #[must_use = "the lock is held only while its guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub async fn try_lock_with(&self, options: LockOptions) -> Result<Option<Guard>, LockError> {
        self.0.try_lock(Share::EXCLUSIVE, LockKind::Mutex, options).await
    }

    /// Runs `work` under the lock if the lock is free and has no waiter, and releases the lock after `work` has ended.
    /// Returns the output of `work`, or `None` if others hold the lock or wait for it; `work` is then dropped without a
    /// poll.
    ///
    /// ```
    /// # async fn report() {}
    /// # async fn doc(lock: rlock_core::SimpleLock) -> Result<(), rlock_core::RunError> {
    /// if lock.try_run(report()).await?.is_none() {
    ///     println!("the report runs on another node");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`try_run_with`](Self::try_run_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`try_run_with`](Self::try_run_with).
    pub async fn try_run<T>(&self, work: impl Future<Output = T>) -> Result<Option<T>, RunError> {
        self.try_run_with(LockOptions::new(), work).await
    }

    /// Runs `work` under the lock with `options`, if the lock is free and has no waiter; see
    /// [`try_run`](Self::try_run).
    ///
    /// # Errors
    ///
    /// [`RunError::Lock`] if the lock was not acquired and `work` has not begun, as for
    /// [`try_lock_with`](Self::try_lock_with). It is no error that others hold the lock. [`RunError::Lost`] if the lock
    /// was lost, as for [`Guard::run`]: `work` was dropped before its end, or it had ended and only the release showed
    /// the loss.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `work` and releases the lock in the background.
    pub async fn try_run_with<T>(
        &self,
        options: LockOptions,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, RunError> {
        self.0.try_run(Share::EXCLUSIVE, LockKind::Mutex, options, work).await
    }

    /// Returns the holder of the lock and the waiters at this instant, as the store reports them.
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
