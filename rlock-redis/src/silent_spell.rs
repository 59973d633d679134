//! The silence of a connection whose callers leave before its timeout.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a connection with a request in flight may be silent before another one is opened, to find out whether the
/// connection is dead or the server is slow.
pub(crate) const SUSPICIOUS: Duration = Duration::from_millis(500);

/// Suspicious requests of one connection, without an answer between them. Each of them may be gone before the timeout
/// of the connection, because its caller did not wait that long. All times are in microseconds after the connection was
/// opened.
///
/// The connection does not see an answer whose caller has left, so a pause between requests ends the spell: the server
/// may have answered the last one.
#[derive(Debug, Default)]
pub(crate) struct SilentSpell {
    /// The time of its first request.
    began: AtomicU64,
    /// The time of its last request.
    last: AtomicU64,
}

impl SilentSpell {
    /// Notes a suspicious request that was `sent` after the last answer. Returns whether the connection has been silent
    /// for `limit`.
    pub(crate) fn lasts(&self, limit: Duration, sent: u64, now: u64, last_answer: u64) -> bool {
        let pause = sent.saturating_sub(self.last.fetch_max(sent, Ordering::Relaxed));
        let began = self.began.load(Ordering::Relaxed);
        if last_answer >= began || Duration::from_micros(pause) > SUSPICIOUS + limit {
            self.began.store(sent, Ordering::Relaxed);
            return false;
        }
        Duration::from_micros(now.saturating_sub(began)) >= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    /// A request that is suspicious half a second after `millis`.
    fn lasts(spell: &SilentSpell, millis: u64, last_answer: u64) -> bool {
        spell.lasts(LIMIT, millis * 1_000, (millis + 500) * 1_000, last_answer * 1_000)
    }

    #[test]
    fn silence_adds_up_over_requests() {
        let spell = SilentSpell::default();
        assert_eq!([100, 900, 1_700].map(|millis| lasts(&spell, millis, 50)), [false, false, true]);
    }

    #[test]
    fn answer_ends_the_silence() {
        let spell = SilentSpell::default();
        assert!(!lasts(&spell, 100, 50) && !lasts(&spell, 900, 50));
        assert!(!lasts(&spell, 1_700, 1_000) && !lasts(&spell, 2_500, 1_000));
        assert!(lasts(&spell, 3_300, 1_000));
    }

    #[test]
    fn idle_time_is_no_silence() {
        let spell = SilentSpell::default();
        assert!(!lasts(&spell, 100, 50) && !lasts(&spell, 60_000, 50));
        assert!(!lasts(&spell, 61_000, 50) && lasts(&spell, 62_000, 50));
    }
}
