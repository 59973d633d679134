//! The time for which the keeper lets the program run without a later word of `rlock`.

use rlock::{Clock, Moment};
use tokio::time::Instant;

use super::Supervision;
use crate::args::OnLost;

/// The last time that `rlock` sent to the keeper.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    until: Moment,
    look_at: Instant,
}

impl Word {
    /// The next look is at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { until: Moment::default(), look_at: now }
    }
}

impl Supervision<'_> {
    /// The time of the next look whether the keeper can have a later time. `None` if the program is being ended, and with
    /// `--on-lost ignore`: the keeper then has no time limit.
    pub(super) fn word_at(&self) -> Option<Instant> {
        (self.args.on_lost != OnLost::Ignore && self.end.is_none()).then_some(self.word.look_at)
    }

    /// Sends the keeper a later time once the lock has been extended. It looks more often than the lock is extended.
    pub(super) fn renew_word(&mut self, now: Instant) {
        let ttl = self.args.lock.ttl.get();
        let until = self.grace.for_keeper(self.held.deadline());
        if until > self.word.until {
            self.keeper.extend(until);
            self.word.until = until;
        }
        let left = self.word.until.since(Clock::boot().now());
        self.word.look_at = now + left.saturating_sub(ttl / 4 * 3).max(ttl / 16);
    }
}
