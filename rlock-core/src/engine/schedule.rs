//! When which lease needs attention.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::lease::Lease;
use crate::Moment;

/// The leases of a client by the instant at which they need attention, at most one instant a lease.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    timers: Mutex<Timers>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Timers {
    by_time: BTreeMap<Timer, Arc<Lease>>,
    last_number: u64,
    /// Until when the driver sleeps. A timer that is not earlier need not wake it.
    sleeping_until: Option<Moment>,
}

/// A place in the schedule: the instant, and a number that keeps equal instants apart.
pub(super) type Timer = (Moment, u64);

impl Schedule {
    /// Replaces the timer in `place` by one at `at`, or by none.
    pub(super) fn set(&self, place: &mut Option<Timer>, at: Option<Moment>, lease: &Arc<Lease>) {
        if place.map(|(old, _)| old) == at {
            return;
        }
        let mut timers = self.lock();
        if let Some(old) = place.take() {
            timers.by_time.remove(&old);
        }
        let Some(at) = at else { return };
        timers.last_number += 1;
        let timer = (at, timers.last_number);
        timers.by_time.insert(timer, lease.clone());
        *place = Some(timer);
        if timers.sleeping_until.is_none_or(|until| at < until) {
            timers.sleeping_until = Some(at);
            self.earlier.notify_one();
        }
    }

    /// Takes out what is due at `now`, at most `limit` leases, and says when the next is. The caller is expected to
    /// sleep until then, or until [`earlier`](Self::earlier) resolves.
    pub(super) fn take_due(&self, now: Moment, limit: usize, due: &mut Vec<Arc<Lease>>) -> Option<Moment> {
        let mut timers = self.lock();
        while due.len() < limit
            && let Some(first) = timers.by_time.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        timers.sleeping_until = timers.by_time.first_key_value().map(|((at, _), _)| *at);
        timers.sleeping_until
    }

    /// Resolves once a timer is set that is earlier than what [`take_due`](Self::take_due) said.
    pub(super) async fn earlier(&self) {
        self.earlier.notified().await;
    }

    /// Makes [`earlier`](Self::earlier) resolve.
    pub(super) fn wake(&self) {
        self.earlier.notify_one();
    }

    pub(super) fn len(&self) -> usize {
        self.lock().by_time.len()
    }

    fn lock(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
