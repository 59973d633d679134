//! The guard of several locks.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::future::select_all;
use tokio_util::sync::CancellationToken;

use super::Guard;
use super::cancelling::cancelled_by_a_loss;
use super::guard::run_until;
use crate::contract::{ResourceName, Token};
use crate::driver::together;
use crate::error::{ExtendError, UnlockError};
use crate::lease::{End, Lost};

/// The held locks of a [`LockSet`](crate::LockSet), or several locks that were acquired one by one, for as long as the guard
/// lives. The loss of one lock is the loss of the set.
///
/// Dropping it releases all of them in the background, as dropping a [`Guard`] does.
#[must_use = "dropping the guard releases the locks: bind it to a name, as in `let _guard = …`; `let _ = …` drops it at once"]
pub struct LockSetGuard(Vec<Guard>);

impl LockSetGuard {
    pub(super) fn new(guards: Vec<Guard>) -> Self {
        Self(guards)
    }

    /// The guards of the single locks, in the order in which they were added.
    pub fn guards(&self) -> &[Guard] {
        &self.0
    }

    /// The guards of the single locks. From now on each is released separately.
    pub fn into_guards(self) -> Vec<Guard> {
        self.0
    }

    /// The fencing token of the lock called `name`; `None` if the set has no such lock.
    pub fn token(&self, name: &str) -> Option<Token> {
        self.0.iter().find(|guard| guard.resource().as_str() == name).map(Guard::token)
    }

    /// The name and the fencing token of each lock.
    pub fn tokens(&self) -> impl Iterator<Item = (&ResourceName, Token)> {
        self.0.iter().map(|guard| (guard.resource(), guard.token()))
    }

    /// Whether all locks are held at this instant, by the holder's own clock and the answers of the store.
    pub fn is_held(&self) -> bool {
        self.0.iter().all(Guard::is_held)
    }

    /// Returns `Ok` while all locks are held; for `?` between two steps of the work.
    ///
    /// # Errors
    ///
    /// [`Lost`], with the name and the reason, once a lock is not held.
    pub fn check(&self) -> Result<(), Lost> {
        self.0.iter().try_for_each(Guard::check)
    }

    /// The time until the first deadline of a lock. Zero once a lock is lost or released, and [`Duration::MAX`] without
    /// locks.
    pub fn remaining(&self) -> Duration {
        self.0.iter().map(Guard::remaining).min().unwrap_or(Duration::MAX)
    }

    /// Resolves when the first of the locks is lost, with its name and the reason. Resolves at once if one is lost
    /// already, and never if all are released first. If several are lost by then, it names one of them. The future can be
    /// moved to another task and may outlive the guard.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub fn lost(&self) -> impl Future<Output = Lost> + Send + 'static {
        let losses: Vec<_> = self
            .0
            .iter()
            .map(|guard| {
                let (resource, lost) = (guard.resource().clone(), guard.lost());
                Box::pin(async move { Lost { resource, reason: lost.await } })
            })
            .collect();
        async move {
            if losses.is_empty() {
                std::future::pending::<()>().await;
            }
            select_all(losses).await.0
        }
    }

    /// Resolves when the first of the locks is lost or released.
    ///
    /// # Cancel safety
    ///
    /// As for [`lost`](Self::lost).
    pub fn ended(&self) -> impl Future<Output = End> + Send + 'static {
        let ends: Vec<_> = self.0.iter().map(|guard| Box::pin(guard.ended())).collect();
        async move {
            if ends.is_empty() {
                std::future::pending::<()>().await;
            }
            select_all(ends).await.0
        }
    }

    /// Returns a token that is cancelled when the first of the locks is lost, also after the release of others. A release
    /// does not cancel it. Each call starts a task of the client, which ends with the locks.
    pub fn cancellation_token(&self) -> CancellationToken {
        cancelled_by_a_loss(&self.0)
    }

    /// Extends each lock so that it lives for at least `ttl` from now, and returns the time until the first deadline.
    ///
    /// # Errors
    ///
    /// As for [`Guard::extend`], about the first lock that was not extended. Others may have been.
    ///
    /// # Cancel safety
    ///
    /// As for [`Guard::extend`].
    pub async fn extend(&self, ttl: Duration) -> Result<Duration, ExtendError> {
        for extended in together(self.0.iter().map(|guard| guard.extend(ttl))).await {
            extended?;
        }
        Ok(self.remaining())
    }

    /// Runs `work` under the locks, and releases them after `work` has ended. When a lock is lost first, `work` is
    /// dropped.
    ///
    /// # Errors
    ///
    /// As for [`Guard::run`], about the lock that was lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `work` and releases the locks in the background.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> Result<T, Lost> {
        self.check()?;
        let output = run_until(self.lost(), work).await?;
        self.release_after(output).await
    }

    /// Releases the locks after work that has ended with `output`.
    pub(crate) async fn release_after<T>(self, output: T) -> Result<T, Lost> {
        match self.unlock().await {
            Ok(()) => Ok(output),
            Err(UnlockError::Lost(lost)) => Err(lost),
            Err(error) => {
                tracing::warn!(%error, "the work has ended; the release of a lock of its set is not confirmed");
                Ok(output)
            }
        }
    }

    /// Releases all locks, up to 32 with one request if the store takes several at a time, and reports whether they were
    /// held until then.
    ///
    /// # Errors
    ///
    /// As for [`Guard::unlock`]: the first loss if there is one, else the first release that is not confirmed.
    ///
    /// # Cancel safety
    ///
    /// The releases take effect whether or not the future is dropped.
    pub async fn unlock(self) -> Result<(), UnlockError> {
        worst(together(self.0.into_iter().map(Guard::unlock)).await)
    }

    /// Releases all locks as [`unlock`](Self::unlock) does, by reference. It is idempotent: see [`Guard::release`].
    ///
    /// # Errors
    ///
    /// As for [`unlock`](Self::unlock).
    ///
    /// # Cancel safety
    ///
    /// As for [`Guard::release`].
    pub async fn release(&self) -> Result<(), UnlockError> {
        worst(together(self.0.iter().map(|guard| guard.release())).await)
    }
}

/// Holds locks of one client that were acquired one by one as a set. Each name should occur once, because
/// [`token`](LockSetGuard::token) finds the first. Tasks that acquire common locks like this, or as a
/// [`LockSet`](crate::LockSet), do not wait for each other forever if each acquires them in the order of their names.
impl From<Vec<Guard>> for LockSetGuard {
    fn from(guards: Vec<Guard>) -> Self {
        Self::new(guards)
    }
}

/// The first loss, or else the first error.
fn worst(released: Vec<Result<(), UnlockError>>) -> Result<(), UnlockError> {
    let mut errors: Vec<_> = released.into_iter().filter_map(Result::err).collect();
    errors.sort_by_key(|error| !matches!(error, UnlockError::Lost(_)));
    errors.into_iter().next().map_or(Ok(()), Err)
}

impl fmt::Debug for LockSetGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockSetGuard").field(&self.0).finish()
    }
}
