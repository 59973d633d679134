//! A held lock.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake as _, Waker};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Watchdog;
use super::wake_all::WakeAll;
use crate::client::Handle;
use crate::contract::{LockHandle, ResourceName, Token, Ttl};
use crate::driver::{Driver, QuietWaker, Slot};
use crate::error::{ExtendError, InvalidConfig, StartWatchdogError, UnlockError};
use crate::lease::{End, LossReason, Lost};
use crate::watchdog::WatchdogConfig;

/// A held lock, for as long as the guard lives. Bind the guard to a name, as in `let _guard = lock.lock().await?`.
/// `let _ = …` releases the lock at once, and so does `try_lock().await?.is_some()`;
/// [`SimpleLock::try_lock`](crate::SimpleLock::try_lock) shows this trap.
///
/// [`unlock`](Self::unlock) releases the lock and reports the result, and [`release`](Self::release) does so for a guard
/// that is shared, as in `Arc<Guard>`. [`run`](Self::run) waits as `unlock` does, and logs a release that is not
/// confirmed. Dropping the guard releases the lock in the background, from any thread, in or out of a runtime. If the
/// process ends before that release is sent, the lock stays until its TTL ends. Therefore the drop of a client's last
/// handle [waits](crate::Client#dropping), for a second at most by default. `std::process::exit` drops no guard.
///
/// The lock can be lost while the guard lives: when the store cannot be reached until the [deadline](Self::remaining),
/// when an operator breaks the lock, or when the process was frozen. The guard then reports the loss by
/// [`is_held`](Self::is_held), [`lost`](Self::lost) and [`cancellation_token`](Self::cancellation_token), and never
/// reports the lock as held again. The guard cannot stop a process that acts without a check. Send the
/// [`token`](Self::token) along with every write that a stale holder must not make.
#[must_use = "dropping the guard releases the lock: bind it to a name, as in `let _guard = …`; `let _ = …` drops it at once"]
pub struct Guard {
    client: Arc<Handle>,
    slot: Arc<Slot>,
    token: Token,
    /// The calls of [`release`](Self::release) that wait for the store, created for the first of them.
    releasing: OnceLock<Arc<WakeAll>>,
}

impl Guard {
    pub(crate) fn new(client: Arc<Handle>, slot: Arc<Slot>, token: Token) -> Self {
        Self { client, slot, token, releasing: OnceLock::new() }
    }

    /// The locked resource.
    pub fn resource(&self) -> &ResourceName {
        &self.slot.key.resource
    }

    /// The fencing token: strictly greater than every token granted before on this resource.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Whether the lock is held at this instant, by the holder's own clock and the answers of the store.
    pub fn is_held(&self) -> bool {
        self.client.driver.end(&self.slot).is_none()
    }

    /// The reason why the lock was lost; `None` while it is held, and after a [release](Self::release).
    pub fn loss(&self) -> Option<LossReason> {
        self.client.driver.loss(&self.slot)
    }

    /// Returns `Ok` while the lock is held; for `?` between two steps of the work.
    ///
    /// # Errors
    ///
    /// [`Lost`], with the reason, once the lock is not held.
    pub fn check(&self) -> Result<(), Lost> {
        let reason = match self.client.driver.end(&self.slot) {
            None => return Ok(()),
            Some(End::Lost(reason)) => reason,
            Some(End::Released) => LossReason::Released,
        };
        Err(Lost { resource: self.resource().clone(), reason })
    }

    /// The time until the deadline. The deadline is the instant before the last successful request was sent, plus the
    /// TTL, less a margin of 1 %, at least 2 ms; or the end of [`hold_at_most`](crate::LockOptions::hold_at_most), if that is
    /// earlier. Zero once the lock is lost or released.
    pub fn remaining(&self) -> Duration {
        self.client.driver.remaining(&self.slot)
    }

    /// Resolves when the lock is lost, by the deadline at the latest. Resolves at once if the lock is lost already, and
    /// never if it is released first. The future can be moved to another task and may outlive the guard.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect; a new one returns the same.
    pub fn lost(&self) -> impl Future<Output = LossReason> + Send + 'static {
        self.at_the_end(Driver::loss)
    }

    /// Resolves when the lock is lost or released, whichever is first. A task that watches the lock can end with this
    /// future; [`lost`](Self::lost) never resolves for a lock that is released. The future can be moved to another task
    /// and may outlive the guard.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect; a new one returns the same.
    pub fn ended(&self) -> impl Future<Output = End> + Send + 'static {
        self.at_the_end(Driver::end)
    }

    /// Resolves once `look` has an output. Each poll calls `look`, and the end of the lock wakes the future.
    fn at_the_end<T: Send + 'static>(
        &self,
        look: fn(&Arc<Driver>, &Arc<Slot>) -> Option<T>,
    ) -> impl Future<Output = T> + Send + 'static {
        let (driver, slot) = (self.client.driver.clone(), self.slot.clone());
        async move {
            let signal = driver.end_signal(&slot);
            let (mut signalled, mut quiet) = (pin!(signal.cancelled()), QuietWaker::default());
            std::future::poll_fn(|context| {
                if let Some(seen) = look(&driver, &slot) {
                    return Poll::Ready(seen);
                }
                let waker = quiet.of(context.waker());
                match signalled.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(()) => look(&driver, &slot).map_or(Poll::Pending, Poll::Ready),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await
        }
    }

    /// Returns a token that is cancelled when the lock is lost, by the deadline at the latest. A release does not
    /// cancel it. If the waker of a future that waits for such a token panics, others that wait for a token of the
    /// same lock may not be woken. [`lost`](Self::lost) resolves for all.
    pub fn cancellation_token(&self) -> CancellationToken {
        self.client.driver.lost_signal(&self.slot)
    }

    /// Extends the lease so that it lives for at least `ttl` from now, in addition to the extensions of a watchdog. It
    /// never shortens the lease. Returns the time until the new deadline.
    ///
    /// # Errors
    ///
    /// [`ExtendError::InvalidConfig`] for an invalid TTL. [`ExtendError::Lost`] if the lock has been lost or released.
    /// [`ExtendError::Unconfirmed`] if the store did not confirm the extension within the client's
    /// [`retry_for`](crate::ClientBuilder::retry_for): the lock is then held until its old deadline at least.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not take the request back: it takes effect, and is retried, as if the caller still waited.
    pub async fn extend(&self, ttl: Duration) -> Result<Duration, ExtendError> {
        let ttl = Ttl::new(ttl).map_err(InvalidConfig::from)?;
        self.check()?;
        self.client.driver.extend(&self.slot, ttl).await?;
        Ok(self.remaining())
    }

    /// Starts a watchdog, and replaces the running watchdog if there is one.
    ///
    /// The first extension comes within an interval, or at once if the lease has little time left.
    ///
    /// # Errors
    ///
    /// [`StartWatchdogError::InvalidConfig`] for a configuration that cannot work, with a remedy.
    /// [`StartWatchdogError::Lost`] if the lock has been lost or released.
    pub fn start_watchdog(&self, config: WatchdogConfig) -> Result<Watchdog, StartWatchdogError> {
        self.check()?;
        let generation = self.client.driver.start_watchdog(&self.slot, &config)?;
        Ok(Watchdog { driver: self.client.driver.clone(), slot: self.slot.clone(), generation })
    }

    /// The running watchdog; `None` without one.
    pub fn watchdog(&self) -> Option<Watchdog> {
        let generation = self.client.driver.running_watchdog(&self.slot)?;
        Some(Watchdog { driver: self.client.driver.clone(), slot: self.slot.clone(), generation })
    }

    /// Runs `work` under the lock, and releases the lock after `work` has ended. When the lock is lost first, `work` is
    /// dropped.
    ///
    /// The guard checks for a loss before each poll of `work`, so a process that wakes up after its deadline does not
    /// continue. This does not stop tasks that `work` spawned; give them the
    /// [`cancellation_token`](Self::cancellation_token).
    ///
    /// # Errors
    ///
    /// [`Lost`] if the lock was lost before `work` ended, also when only the release shows it, or if it was
    /// [released](Self::release) before. A release that the store does not confirm is logged, and retried in the
    /// background.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `work` and releases the lock in the background.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> Result<T, Lost> {
        self.check()?;
        let (resource, lost) = (self.resource().clone(), self.lost());
        let lost = async move { Lost { resource, reason: lost.await } };
        let output = run_until(lost, work).await?;
        self.release_after(output).await
    }

    /// Releases the lock after work that has ended with `output`.
    pub(crate) async fn release_after<T>(self, output: T) -> Result<T, Lost> {
        let resource = self.resource().clone();
        match self.unlock().await {
            Ok(()) => Ok(output),
            Err(UnlockError::Lost(lost)) => Err(lost),
            Err(error) => {
                tracing::warn!(%resource, %error, "the work has ended; the release of its lock is not confirmed");
                Ok(output)
            }
        }
    }

    /// Runs a task on the client's runtime.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.client.driver.runtime().spawn(task);
    }

    /// Ends the guard and leaves the lock held. The client no longer extends the lock, which ends with its TTL unless
    /// another client [adopts](crate::Client::adopt) it. The times of
    /// [`hold_at_least`](crate::LockOptions::hold_at_least) and [`hold_at_most`](crate::LockOptions::hold_at_most) end with
    /// the guard.
    ///
    /// # Errors
    ///
    /// [`Lost`] if the lock has been lost or released.
    pub fn into_handle(self) -> Result<LockHandle, Lost> {
        self.check()?;
        self.client.driver.hand_over(&self.slot, self.token)
    }

    /// Releases the lock, and reports whether it was held until then.
    ///
    /// # Errors
    ///
    /// [`UnlockError::Lost`] if the lock had been lost before. [`UnlockError::Unconfirmed`] if the store has not
    /// confirmed the release within the client's [`retry_for`](crate::ClientBuilder::retry_for): the client then
    /// retries the release in the background until the lease has ended by itself.
    ///
    /// # Cancel safety
    ///
    /// The release takes effect whether or not the future is dropped.
    pub async fn unlock(self) -> Result<(), UnlockError> {
        let confirmation = self.client.driver.unlock(&self.slot);
        confirmation.await
    }

    /// Releases the lock as [`unlock`](Self::unlock) does, by reference: for a guard that several tasks share, as in
    /// `Arc<Guard>`.
    ///
    /// It is idempotent. The lock is released once. All calls wait for that release and return the same result, also
    /// calls at the same time. From the first call on, the guard does not hold the lock: [`check`](Self::check) and
    /// calls that need the lock fail with [`LossReason::Released`].
    ///
    /// ```
    /// # async fn doc(lock: rlock_core::SimpleLock) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    ///
    /// let guard = Arc::new(lock.lock().await?);
    /// let shared = guard.clone();
    /// let releasing = tokio::spawn(async move { shared.release().await });
    /// guard.release().await?;
    /// releasing.await??;
    /// assert!(!guard.is_held());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`unlock`](Self::unlock).
    ///
    /// # Cancel safety
    ///
    /// The release takes effect whether or not the future is dropped, once it has been polled.
    pub async fn release(&self) -> Result<(), UnlockError> {
        let mut confirmation = pin!(self.client.driver.unlock(&self.slot));
        let all = self.releasing.get_or_init(Arc::default);
        let waker = Waker::from(all.clone());
        std::future::poll_fn(|context| {
            all.add(context.waker());
            let polled = confirmation.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() {
                all.wake_by_ref(); // this poll may have taken the driver's waker
            }
            polled
        })
        .await
    }

    /// Releases the lock in the background, as the drop of the guard does, and without the rest of
    /// [`hold_at_least`](crate::LockOptions::hold_at_least). It is for a lock under which no work was done, as when the
    /// work cannot begin on this host: another client may then begin it at once.
    pub fn give_back(self) {
        self.client.driver.give_back(&self.slot);
    }
}

/// Runs `work` until it ends or `lost` resolves. Each poll checks `lost` first.
pub(super) async fn run_until<T>(lost: impl Future<Output = Lost>, work: impl Future<Output = T>) -> Result<T, Lost> {
    let (mut work, mut lost) = (pin!(work), pin!(lost));
    std::future::poll_fn(|context| match lost.as_mut().poll(context) {
        Poll::Ready(lost) => Poll::Ready(Err(lost)),
        Poll::Pending => work.as_mut().poll(context).map(Ok),
    })
    .await
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.client.driver.let_go(&self.slot);
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("resource", self.resource())
            .field("token", &self.token)
            .field("remaining", &self.remaining())
            .field("loss", &self.loss())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime;

    use super::*;
    use crate::{Client, MemoryStore, Namespace, SimpleLock};

    #[tokio::test]
    async fn extension_just_after_the_loss_is_answered() {
        let client = Client::builder().runtime(runtime::Handle::current());
        let client = client.build(MemoryStore::new().client(Namespace::default()));
        let guard = SimpleLock::new("job", &client).unwrap().lock().await.unwrap();
        client.shutdown(Duration::from_secs(5)).await.unwrap();
        let driver = guard.client.driver.clone();
        let answer = tokio::time::timeout(Duration::from_secs(5), driver.extend(&guard.slot, Ttl::DEFAULT));
        assert!(matches!(answer.await.expect("it is answered"), Err(ExtendError::Lost(_))));
    }
}
