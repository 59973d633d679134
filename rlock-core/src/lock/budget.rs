//! The time limit for several attempts together.

use std::time::Duration;

use super::LockOptions;
use crate::client::Client;
use crate::clock::Moment;
use crate::error::LockError;

/// The time limit for several attempts together, and the pauses between them.
pub(crate) struct Budget {
    client: Client,
    started: Moment,
    wait: Option<Duration>,
    /// The number of pauses so far.
    pauses: u32,
}

impl Budget {
    /// The wait of `options`, or else the client's.
    pub(crate) fn new(client: &Client, options: &LockOptions) -> Self {
        let wait = options.clone().with_defaults(client.defaults()).longest_wait();
        Self { client: client.clone(), started: client.now(), wait, pauses: 0 }
    }

    /// The remaining wait; `None` without a limit.
    fn left(&self) -> Option<Duration> {
        self.wait.map(|wait| wait.saturating_sub(self.client.now().since(self.started)))
    }

    /// The whole wait, if it is over.
    pub(crate) fn spent(&self) -> Option<Duration> {
        self.wait.filter(|_| self.left() == Some(Duration::ZERO))
    }

    /// The same options with the remaining wait.
    pub(crate) fn left_of(&self, options: LockOptions) -> LockOptions {
        match self.left() {
            Some(left) => options.wait(left),
            None => options,
        }
    }

    /// Pauses, longer each time, but not beyond the end of the wait.
    pub(crate) async fn pause(&mut self) {
        const FIRST: Duration = Duration::from_millis(10);
        const LONGEST: Duration = Duration::from_secs(1);
        let longest = (FIRST * (1 << self.pauses.min(8))).min(LONGEST);
        let pause = longest.mul_f64(rand::random_range(0.5..1.0)).min(self.left().unwrap_or(Duration::MAX));
        self.pauses += 1;
        let (driver, until) = (&self.client.handle().driver, self.client.now().after(pause));
        let clock = driver.settings().clock.clone();
        let pausing = driver.runtime().spawn(async move { clock.sleep_until(until).await });
        let _the_runtime_may_have_ended = pausing.await;
    }

    /// Replaces the wait of one attempt in a timeout by the whole wait.
    pub(crate) fn whole(&self, error: LockError) -> LockError {
        match (error, self.wait) {
            (LockError::TimedOut { resource, held_here, .. }, Some(wait)) => {
                LockError::TimedOut { resource, wait, held_here }
            }
            (LockError::Unanswered { resource, .. }, Some(wait)) => LockError::Unanswered { resource, wait },
            (error, _) => error,
        }
    }
}
