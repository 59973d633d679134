//! How much of a lease is kept back to end the program in.

use std::time::Duration;

use rlock::Ttl;

/// How much of a lease is kept back to end the program in, so that it is dead before the lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grace {
    /// With so much left, the program is asked to end.
    pub(super) term: Duration,
    /// With so much left, it is killed.
    pub(super) kill: Duration,
}

impl Grace {
    const MOST: Duration = Duration::from_secs(5);
    /// A loaded host may let a process wait for so long.
    const TO_KILL: Duration = Duration::from_millis(250);
    const AFTER_LOSS: Duration = Duration::from_secs(1);

    pub(super) fn of(ttl: Ttl) -> Self {
        let term = (ttl.get() / 4).min(Self::MOST);
        Self { term, kill: (ttl.get() / 20).max(Self::TO_KILL).min(term / 2) }
    }

    /// How much of `remaining` the keeper waits for a word of `rlock`, which kills before if it can.
    pub(super) fn for_keeper(self, remaining: Duration) -> Duration {
        remaining.saturating_sub(self.kill / 4 * 3)
    }

    /// How long a program may take to end once the store has said that the lock is gone.
    pub(super) fn after_loss(self) -> Duration {
        self.term.min(Self::AFTER_LOSS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn killing_comes_between_asking_and_the_end_of_the_lease() {
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
