//! Held leases whose keys are not watched yet.

use std::collections::VecDeque;
use std::time::Duration;

use rlock_core::LeaseId;
use tokio::time::Instant;

/// How long a lease must be held before its key is watched, which begins after twice that time at the latest. Most
/// leases are released earlier, and cost no watch.
const LASTING: Duration = Duration::from_millis(30);

/// Held leases in the order of their grants, until their keys are watched.
///
/// All of them share one timer: with a timer each, every lock would wake the client once more, long after its release.
#[derive(Debug, Default)]
pub(crate) struct Young {
    leases: VecDeque<(Instant, Granted)>,
    timer: Option<Instant>,
}

/// A lease that was held when its key was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) id: LeaseId,
    pub(crate) key: String,
    /// The revision at which the key was read.
    pub(crate) read_at: i64,
}

impl Young {
    pub(crate) fn add(&mut self, granted: Granted, now: Instant) {
        self.leases.push_back((now, granted));
        if self.timer.is_none() {
            self.timer = Some(now + LASTING);
        }
    }

    /// The time of the next [`take_lasting`](Self::take_lasting); `None` if there are no leases.
    pub(crate) fn timer(&self) -> Option<Instant> {
        self.timer
    }

    /// Removes the leases that were added long enough ago. They may have been released since.
    pub(crate) fn take_lasting(&mut self, now: Instant) -> Vec<Granted> {
        let is_young = |(added, _): &(Instant, Granted)| *added + LASTING > now;
        let lasting = self.leases.iter().position(is_young).unwrap_or(self.leases.len());
        let taken = self.leases.drain(..lasting).map(|(_, granted)| granted).collect();
        self.timer = if self.leases.is_empty() { None } else { Some(now + LASTING) };
        taken
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(number: u64) -> Granted {
        Granted { id: LeaseId::from_u128(number.into()), key: String::new(), read_at: 1 }
    }

    #[test]
    fn a_hundred_locks_share_a_few_timers() {
        const LOCKS: u64 = 100;
        let (mut young, start) = (Young::default(), Instant::now());
        let added = |number: u64| start + Duration::from_millis(number);
        let (mut timers, mut taken) = (0, 0);
        for next in 0..=LOCKS {
            let until = if next < LOCKS { added(next) } else { start + Duration::from_secs(1) };
            while let Some(now) = young.timer().filter(|timer| *timer <= until) {
                timers += 1;
                for lasting in young.take_lasting(now) {
                    let held_for = now - added(taken);
                    assert_eq!(lasting, granted(taken));
                    assert!((LASTING..=LASTING * 2).contains(&held_for), "{held_for:?}");
                    taken += 1;
                }
            }
            if next < LOCKS {
                young.add(granted(next), added(next));
            }
        }
        assert_eq!((taken, young.timer()), (LOCKS, None));
        assert!(timers <= 5, "{timers} timers");
    }
}
