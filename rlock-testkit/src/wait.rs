//! Waiting with a time limit.

use std::future::Future;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

/// The output of `future`.
///
/// # Panics
///
/// Panics with `what` if it takes longer than `limit`.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match timeout(limit, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {limit:?}"),
    }
}

/// Polls `is_so` until it returns true. For changes that a store does not notify of.
///
/// # Panics
///
/// Panics with `what` if that takes longer than `limit`.
pub async fn eventually(limit: Duration, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    const BETWEEN: Duration = Duration::from_millis(5);
    let started = Instant::now();
    while !within(limit.saturating_sub(started.elapsed()), what, is_so()).await {
        // A check that is ready at once never meets the limit above.
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        sleep(BETWEEN).await;
    }
}

/// Lets other tasks run for `time`, which may be far shorter than the resolution of timers.
pub(crate) async fn linger(time: Duration) {
    let started = std::time::Instant::now();
    while started.elapsed() < time {
        yield_now().await;
    }
}
