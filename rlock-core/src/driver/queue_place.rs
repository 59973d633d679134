//! The place of a waiter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::contract::{Acquired, Extended};
use crate::lease::Input;

/// No place.
const NONE: u64 = u64::MAX;

/// The place of a waiter in the queue, for other tasks to show while the lock is waited for. Clones show the same place.
///
/// ```
/// # async fn doc(lock: rlock_core::SimpleLock) -> Result<(), Box<dyn std::error::Error>> {
/// use rlock_core::{LockOptions, QueuePlace};
///
/// let place = QueuePlace::new();
/// let shown = place.clone();
/// let display = async move {
///     loop {
///         if let Some(ahead) = shown.ahead() {
///             println!("{ahead} in front");
///         }
///         tokio::time::sleep(std::time::Duration::from_secs(1)).await;
///     }
/// };
/// tokio::select! {
///     guard = lock.lock_with(LockOptions::new().queue_place(&place)) => guard?.unlock().await?,
///     () = display => unreachable!("it goes on until the lock is there"),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct QueuePlace(Arc<AtomicU64>);

impl QueuePlace {
    /// A place that no waiter has yet.
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(NONE)))
    }

    /// The number of waiters in front, by the store's last answer: the waiter asks when it joins the queue, and each time it
    /// renews its place, a third of its TTL later at the latest. `None` before it has joined, once it has the lock or has
    /// left, and on a store without a queue. Some stores give an upper bound in a long queue.
    pub fn ahead(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ahead| *ahead != NONE)
    }

    /// Notes the place that an input reports of a queued lease, or that a lease has left the queue.
    pub(super) fn note(&self, reported: Option<u64>, was_queued: bool, is_queued: bool) {
        match reported {
            Some(ahead) if is_queued => self.0.store(ahead, Ordering::Relaxed),
            _ if was_queued && !is_queued => self.0.store(NONE, Ordering::Relaxed),
            _ => {}
        }
    }

    /// The number of waiters in front that an answer of the store reports.
    pub(super) fn reported_by(input: &Input) -> Option<u64> {
        match input {
            Input::Claimed(_, Ok(Acquired::Queued(place))) | Input::Extended(_, Ok(Extended::Queued(place))) => {
                Some(place.ahead)
            }
            _ => None,
        }
    }
}

impl Default for QueuePlace {
    fn default() -> Self {
        Self::new()
    }
}
