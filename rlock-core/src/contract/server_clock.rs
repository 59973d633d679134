//! The clock of a server, as far as a client knows it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An estimate of a server's time, from the times in its answers.
///
/// A backend uses it for the deadline of a claim. The network, a proxy or a stopped server may deliver a claim after
/// the client has given it up, claimed again on another connection, and released the lease. Such a claim would leave a
/// lease without a holder. So the claim carries the server's time at which the client gives it up, and a server that
/// runs it later drops it, and answers with its time.
///
/// The estimate may be wrong by the time that an answer took, and by the drift of the clocks since the last answer. It
/// is ahead of a clock that was set back, until the next answer.
#[derive(Debug, Default)]
pub struct ServerClock {
    known: Mutex<Option<Reading>>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    micros: i64,
}

impl ServerClock {
    /// Notes the time that the server read between two instants, in µs.
    pub fn note(&self, sent: Instant, received: Instant, micros: i64) {
        let possible = micros..=micros.saturating_add(whole_micros(received.saturating_duration_since(sent)));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // An estimate that this answer allows may rest on a faster one.
        if known.is_none_or(|old| !possible.contains(&old.then(received))) {
            *known = Some(Reading { at: received, micros });
        }
    }

    /// The server's time at an instant, in µs. Before the first answer it is the end of time.
    pub fn time_at(&self, instant: Instant) -> i64 {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.map_or(i64::MAX, |reading| reading.then(instant))
    }
}

impl Reading {
    fn then(self, instant: Instant) -> i64 {
        self.micros.saturating_add(whole_micros(instant.saturating_duration_since(self.at)))
    }
}

fn whole_micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TENTH: Duration = Duration::from_millis(100);

    #[test]
    fn fastest_answer_counts_until_the_clock_is_set() {
        let (clock, start) = (ServerClock::default(), Instant::now());
        assert_eq!(clock.time_at(start), i64::MAX);
        clock.note(start, start + TENTH, 5_000_000);
        assert_eq!(clock.time_at(start + TENTH + SECOND), 6_000_000);
        // A slow answer is possible if the first one is exact, and says less.
        clock.note(start + SECOND, start + SECOND * 2, 5_950_000);
        assert_eq!(clock.time_at(start + TENTH + SECOND * 2), 7_000_000);
        // A faster one shows that the first took longer.
        clock.note(start + SECOND * 2, start + SECOND * 2 + TENTH, 7_080_000);
        assert_eq!(clock.time_at(start + SECOND * 2 + TENTH), 7_080_000);
        for set in [3_600_000_000, 1_000_000] {
            clock.note(start + SECOND * 3, start + SECOND * 3 + TENTH, set);
            assert_eq!(clock.time_at(start + SECOND * 4 + TENTH), set + 1_000_000);
        }
    }
}
