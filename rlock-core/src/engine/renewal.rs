//! What a running watchdog keeps in mind of its lease.

use std::time::{Duration, SystemTime};

use rand::RngExt as _;

use crate::watchdog::Plan;
use crate::{ExtensionFailure, FailureCallback, Moment, SuccessCallback, Ttl};

/// A watchdog: when it extends next, and what it has done.
pub(super) struct Renewal {
    pub(super) generation: u64,
    pub(super) running: bool,
    pub(super) interval: Duration,
    pub(super) extend_by: Ttl,
    pub(super) max_failures: u32,
    pub(super) on_failure: Option<FailureCallback>,
    pub(super) on_success: Option<SuccessCallback>,
    /// When the next extension is scheduled.
    pub(super) next_at: Moment,
    /// When the scheduled extension was begun that has not succeeded yet.
    pub(super) unanswered_since: Option<Moment>,
    pub(super) failures: u32,
    pub(super) extend_count: u64,
    pub(super) last_extend: Option<SystemTime>,
    pub(super) last_error: Option<ExtensionFailure>,
}

impl Renewal {
    /// A watchdog that extends at once if `at_once`, otherwise for the first time after a random part of its
    /// interval, from half of it: locks that are taken together are then not extended together.
    pub(super) fn start(plan: Plan, generation: u64, now: Moment, at_once: bool) -> Self {
        let first = if at_once { Duration::ZERO } else { plan.interval.mul_f64(rand::rng().random_range(0.5..1.0)) };
        Self {
            generation,
            running: true,
            interval: plan.interval,
            extend_by: plan.extend_by,
            max_failures: plan.config.max_failures,
            on_failure: plan.config.on_failure,
            on_success: plan.config.on_success,
            next_at: now.after(first),
            unanswered_since: None,
            failures: 0,
            extend_count: 0,
            last_extend: None,
            last_error: None,
        }
    }

    /// When to extend for what is scheduled at `next_at`: a little earlier, on a grid as coarse as the interval
    /// allows, so that what is due about together is sent together.
    pub(super) fn due(&self) -> Moment {
        const COARSEST: u64 = 1 << 26; // 67 ms
        let fine = u64::try_from(self.interval.as_nanos() / 32).unwrap_or(COARSEST).clamp(1, COARSEST);
        let grid = 1 << fine.ilog2();
        Moment::from_nanos(self.next_at.as_nanos() & !(grid - 1))
    }
}

/// A pause before the next try of something that failed `tries` times in a row: from `first`, doubled each time up
/// to `most`, less a random part of up to a half, so that clients which failed together do not come back together.
pub(super) fn pause(tries: u32, first: Duration, most: Duration) -> Duration {
    let longest = first.saturating_mul(1 << tries.min(16)).min(most);
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_keep_at_least_half() {
        let (first, most) = (Duration::from_millis(10), Duration::from_millis(60));
        for (tries, longest) in [(0, 10), (1, 20), (2, 40), (3, 60), (40, 60)] {
            let longest = Duration::from_millis(longest);
            let pause = pause(tries, first, most);
            assert!(pause <= longest && pause >= longest / 2, "{pause:?} after {tries} tries");
        }
    }
}
