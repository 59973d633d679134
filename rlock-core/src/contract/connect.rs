//! Connecting to a store: the errors, and the backoff between attempts.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Failure;

/// The failure to connect to a store.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The store did not answer, or is not ready. A retry may succeed.
    #[error(transparent)]
    Unreachable(Failure),
    /// The store refuses the connection until its settings, the user's rights or the URL change.
    #[error(transparent)]
    Rejected(Failure),
}

/// Backoff between attempts to reach a store: jittered, growing pauses, and a growing time limit for each attempt.
///
/// Both start again from the first value after a connection that lasted longer than a second.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
    ended: Option<Instant>,
}

impl Backoff {
    /// The time limit of the first attempt. Each further attempt doubles it. Without a short first limit, an attempt
    /// that got stuck would take as long as a slow one, even if the network has recovered since.
    pub const PATIENCE: Duration = Duration::from_secs(1);

    const FIRST: Duration = Duration::from_millis(50);
    /// Short, so that a lock with a TTL of seconds survives an outage that is nearly as long.
    const LONGEST: Duration = Duration::from_millis(250);
    const LASTED: Duration = Duration::from_secs(1);

    /// Sleeps for the pause before the next attempt, and returns the time limit of that attempt, at most `longest`.
    /// Call [`ended`](Self::ended) after the attempt.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the pause. The next pause is as long.
    pub async fn pause(&mut self, longest: Duration) -> Duration {
        if self.ended.is_none_or(|ended| ended.elapsed() > Self::LASTED) {
            self.attempts = 0;
        }
        let doubled = |time: Duration| time * (1 << self.attempts.min(8));
        sleep(doubled(Self::FIRST).min(Self::LONGEST).mul_f64(rand::random_range(0.5..1.0))).await;
        doubled(Self::PATIENCE).min(longest)
    }

    /// Records the end of an attempt.
    pub fn ended(&mut self) {
        self.attempts += 1;
        self.ended = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_and_limits_grow_and_start_anew() {
        let mut backoff = Backoff::default();
        let attempt = async |backoff: &mut Backoff| {
            let begun = Instant::now();
            let limit = backoff.pause(Duration::from_secs(5)).await;
            backoff.ended();
            (begun.elapsed(), limit.as_secs())
        };
        let mut attempts = Vec::new();
        for _ in 0..5 {
            attempts.push(attempt(&mut backoff).await);
        }
        assert_eq!(attempts.iter().map(|(_, limit)| *limit).collect::<Vec<_>>(), [1, 2, 4, 5, 5]);
        assert!(attempts[0].0 <= Backoff::FIRST && attempts[4].0 >= Backoff::LONGEST / 2, "{attempts:?}");
        sleep(2 * Backoff::LASTED).await;
        assert_eq!(attempt(&mut backoff).await.1, 1);
    }
}
