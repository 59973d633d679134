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
    leases: VecDeque<(Instant, LeaseId)>,
    timer: Option<Instant>,
}

impl Young {
    pub(crate) fn add(&mut self, id: LeaseId, now: Instant) {
        self.leases.push_back((now, id));
        if self.timer.is_none() {
            self.timer = Some(now + LASTING);
        }
    }

    /// The time of the next [`take_lasting`](Self::take_lasting); `None` if there are no leases.
    pub(crate) fn timer(&self) -> Option<Instant> {
        self.timer
    }

    /// Removes the leases that were added long enough ago. They may have been released since.
    pub(crate) fn take_lasting(&mut self, now: Instant) -> Vec<LeaseId> {
        let is_young = |(added, _): &(Instant, LeaseId)| *added + LASTING > now;
        let lasting = self.leases.iter().position(is_young).unwrap_or(self.leases.len());
        let taken = self.leases.drain(..lasting).map(|(_, id)| id).collect();
        self.timer = if self.leases.is_empty() { None } else { Some(now + LASTING) };
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> LeaseId {
        LeaseId::from_u128(number.into())
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
                    assert_eq!(lasting, id(taken));
                    assert!((LASTING..=LASTING * 2).contains(&held_for), "{held_for:?}");
                    taken += 1;
                }
            }
            if next < LOCKS {
                young.add(id(next), added(next));
            }
        }
        assert_eq!((taken, young.timer()), (LOCKS, None));
        assert!(timers <= 5, "{timers} timers");
    }
}
