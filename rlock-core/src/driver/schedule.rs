//! Leases ordered by the next moment at which they need attention.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::slot::Slot;
use crate::clock::Moment;

/// The timers of a client's leases.
///
/// A lease keeps the earliest of its timers only, and that one may be early: the lease then sets the next when it fires. So an
/// operation that moves a timer later, which is what most of them do, costs nothing here. Timers of leases that are settled
/// stay until they fire, or until they are half of all.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    timers: Mutex<Timers>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Timers {
    heap: BinaryHeap<Timer>,
    /// The number of timers of settled leases.
    stale: usize,
    /// The moment until which the driver sleeps. A timer that is not earlier need not wake it.
    sleeping_until: Option<Moment>,
}

#[derive(Debug)]
pub(super) struct Timer {
    pub(super) at: Moment,
    pub(super) slot: Arc<Slot>,
}

/// Fewer stale timers are not worth a sweep.
const FEW: usize = 64;

impl Schedule {
    /// Adds a timer.
    pub(super) fn add(&self, at: Moment, slot: &Arc<Slot>) {
        let mut timers = self.lock();
        timers.heap.push(Timer { at, slot: slot.clone() });
        if timers.sleeping_until.is_none_or(|until| at < until) {
            timers.sleeping_until = Some(at);
            drop(timers);
            self.earlier.notify_one();
        }
    }

    /// Takes note that a lease is settled of which `count` timers have not fired.
    pub(super) fn settled(&self, count: usize) {
        let mut timers = self.lock();
        timers.stale += count;
        if timers.stale > FEW && timers.stale > timers.heap.len() / 2 {
            let all = std::mem::take(&mut timers.heap).into_vec();
            let (stale, live): (Vec<_>, Vec<_>) = all.into_iter().partition(|timer| timer.slot.is_settled());
            timers.heap = live.into();
            timers.stale = 0;
            drop(timers);
            drop(stale); // the last references to slots, perhaps
        }
    }

    /// Takes out the timers that are due at `now`, at most `limit`, and returns the moment of the next. The caller sleeps
    /// until then, or until [`earlier`](Self::earlier) resolves.
    pub(super) fn take_due(&self, now: Moment, limit: usize, due: &mut Vec<Timer>) -> Option<Moment> {
        let mut stale = Vec::new();
        let mut timers = self.lock();
        while due.len() < limit
            && let Some(first) = timers.heap.peek()
            && first.at <= now
        {
            let timer = timers.heap.pop().expect("it was just seen");
            if timer.slot.is_settled() {
                timers.stale = timers.stale.saturating_sub(1);
                stale.push(timer);
            } else {
                due.push(timer);
            }
        }
        timers.sleeping_until = timers.heap.peek().map(|timer| timer.at);
        let next = timers.sleeping_until;
        drop(timers);
        drop(stale); // the last references to slots, perhaps
        next
    }

    /// Resolves once a timer is added that is earlier than [`take_due`](Self::take_due) said.
    pub(super) async fn earlier(&self) {
        self.earlier.notified().await;
    }

    /// Makes [`earlier`](Self::earlier) resolve.
    pub(super) fn wake(&self) {
        self.earlier.notify_one();
    }

    /// The number of timers of leases that are not settled.
    pub(super) fn len(&self) -> usize {
        let timers = self.lock();
        timers.heap.len().saturating_sub(timers.stale)
    }

    fn lock(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ord for Timer {
    /// The earliest is the greatest, since a heap yields the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Timer {}
