//! The part of a lease that is reserved for ending the program.

use std::time::Duration;

use rlock::{Moment, Ttl};

/// The part of a lease that is reserved for ending the program, so that it is dead before the lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grace {
    /// The program is asked to end when this much is left.
    pub(super) term: Duration,
    /// The program is killed when this much is left.
    pub(super) kill: Duration,
}

impl Grace {
    const MOST: Duration = Duration::from_secs(5);
    /// A loaded host may delay a process by this much.
    const TO_KILL: Duration = Duration::from_millis(250);
    const AFTER_LOSS: Duration = Duration::from_secs(1);

    pub(super) fn of(ttl: Ttl) -> Self {
        let term = (ttl.get() / 4).min(Self::MOST);
        Self { term, kill: (ttl.get() / 20).max(Self::TO_KILL).min(term / 2) }
    }

    /// The moment at which the keeper kills the program, if `rlock` has not done so before.
    pub(super) fn for_keeper(self, deadline: Moment) -> Moment {
        deadline.before(self.kill / 4 * 3)
    }

    /// The longest time for the keeper to begin to kill.
    pub(super) fn patience(self) -> Duration {
        self.kill / 4
    }

    /// The longest time for a program to end after the store has reported that the lock is gone.
    pub(super) fn after_loss(self) -> Duration {
        self.term.min(Self::AFTER_LOSS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kill_comes_between_sigterm_and_the_leases_end() {
        for (ttl, term, kill) in [(10, 2_500, 1_250), (2_000, 500_000, 250_000), (30_000, 5_000_000, 1_500_000)] {
            let grace = Grace::of(Ttl::new(Duration::from_millis(ttl)).unwrap());
            assert_eq!((grace.term.as_micros(), grace.kill.as_micros()), (term, kill));
        }
        for ttl in [Ttl::MIN, Ttl::DEFAULT, Ttl::MAX] {
            let grace = Grace::of(ttl);
            assert!(Duration::ZERO < grace.kill && grace.kill < grace.term && grace.term < ttl.get(), "{grace:?}");
        }
    }
}
