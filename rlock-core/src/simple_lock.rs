//! The mutex.

use crate::face::Face;
use crate::lock_kind::LockKind;
use crate::{Client, Guard, InvalidConfig, LockError, LockOptions, ResourceName, Share};

/// A mutex: at most one guard of a name at a time, over all clients of a store.
///
/// It is not reentrant: a second `lock` waits, also in the same task. Waiters are served in the order in which
/// they came.
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

    /// Waits for the lock, for ever if need be.
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

    /// Waits for the lock as `options` say.
    ///
    /// A store that fails while this waits in the queue is waited out; one that does not answer the first request
    /// is given up after the client's [`retry_for`](crate::ClientBuilder::retry_for).
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`] after the wait that was asked for; otherwise what went wrong.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the lock and the place in the queue, in the background.
    pub async fn lock_with(&self, options: LockOptions) -> Result<Guard, LockError> {
        self.0.lock(Share::EXCLUSIVE, LockKind::Mutex, options).await
    }

    /// Takes the lock if it is free and nobody waits for it.
    ///
    /// # Errors
    ///
    /// As for [`try_lock_with`](Self::try_lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`lock_with`](Self::lock_with).
    pub async fn try_lock(&self) -> Result<Option<Guard>, LockError> {
        self.try_lock_with(LockOptions::new()).await
    }

    /// Takes the lock as `options` say, if it is free and nobody waits for it.
    ///
    /// # Errors
    ///
    /// What went wrong. That others hold the lock is no error but `None`; a [`wait`](LockOptions::wait) in the
    /// options is refused.
    ///
    /// # Cancel safety
    ///
    /// As for [`lock_with`](Self::lock_with).
    pub async fn try_lock_with(&self, options: LockOptions) -> Result<Option<Guard>, LockError> {
        self.0.try_lock(Share::EXCLUSIVE, LockKind::Mutex, options).await
    }

    /// What is being locked.
    pub fn resource(&self) -> &ResourceName {
        self.0.resource()
    }
}
