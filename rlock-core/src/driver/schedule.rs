//! Leases ordered by the next moment at which they need attention.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::slot::Slot;
use crate::clock::Moment;

/// The timers of a client's leases.
///
/// A lease adds a timer only if it has no earlier one here. A timer may fire too early; the lease then adds the next one,
/// unless it is here already. So an operation that moves a timer later, as most operations do, costs nothing here. Timers
/// of forgotten leases stay until they fire, or until they are more than half of all timers.
///
/// Timers of about the same moment share a bucket, in no order. With many leases, a heap would cost more than the rest
/// of a renewal, because each of its levels is another cache miss of the processor.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    timers: Mutex<Timers>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Timers {
    /// No bucket is empty.
    buckets: BTreeMap<u64, Vec<Timer>>,
    len: usize,
    /// The number of timers of forgotten leases.
    stale: usize,
    /// The moment until which the driver sleeps. Only an earlier timer has to wake it.
    sleeping_until: Option<Moment>,
}

#[derive(Debug)]
pub(super) struct Timer {
    pub(super) at: Moment,
    pub(super) slot: Arc<Slot>,
}

/// A sweep needs more stale timers than this.
const FEW: usize = 64;

impl Schedule {
    /// Adds a timer.
    pub(super) fn add(&self, at: Moment, slot: &Arc<Slot>) {
        let mut timers = self.lock();
        timers.buckets.entry(bucket(at)).or_default().push(Timer { at, slot: slot.clone() });
        timers.len += 1;
        if timers.sleeping_until.is_none_or(|until| at < until) {
            timers.sleeping_until = Some(at);
            drop(timers);
            self.earlier.notify_one();
        }
    }

    /// Records that a lease is forgotten, `count` timers of which have not fired.
    pub(super) fn forgotten(&self, count: usize) {
        let mut timers = self.lock();
        timers.stale += count;
        if timers.stale > FEW && timers.stale > timers.len / 2 {
            let mut stale = Vec::new();
            timers.buckets.retain(|_, bucket| {
                stale.extend(bucket.extract_if(.., |timer| timer.slot.is_forgotten()));
                !bucket.is_empty()
            });
            timers.len -= stale.len();
            timers.stale = 0;
            drop(timers);
            drop(stale); // the last references to slots, perhaps
        }
    }

    /// Takes the timers that are due at `now`, at most `limit`, and returns the moment of the next timer. The caller
    /// sleeps until then, or until [`earlier`](Self::earlier) resolves.
    pub(super) fn take_due(&self, now: Moment, limit: usize, due: &mut Vec<Timer>) -> Option<Moment> {
        let mut timers = self.lock();
        while due.len() < limit
            && let Some(mut first) = timers.buckets.first_entry()
            && *first.key() <= bucket(now)
        {
            let taken = due.len();
            due.extend(first.get_mut().extract_if(.., |timer| timer.at <= now).take(limit - taken));
            due[taken..].sort_by_key(|timer| timer.at);
            if !first.get().is_empty() {
                break;
            }
            first.remove();
        }
        timers.len -= due.len();
        let stale: Vec<Timer> = due.extract_if(.., |timer| timer.slot.is_forgotten()).collect();
        timers.stale = timers.stale.saturating_sub(stale.len());
        let next = timers.buckets.first_key_value().and_then(|(_, first)| first.iter().map(|timer| timer.at).min());
        timers.sleeping_until = next;
        drop(timers);
        drop(stale); // the last references to slots, perhaps
        next
    }

    /// Resolves once a timer is added that is earlier than the moment that [`take_due`](Self::take_due) returned.
    pub(super) async fn earlier(&self) {
        self.earlier.notified().await;
    }

    /// Makes [`earlier`](Self::earlier) resolve.
    pub(super) fn wake(&self) {
        self.earlier.notify_one();
    }

    /// The number of timers of leases that are not forgotten.
    pub(super) fn len(&self) -> usize {
        let timers = self.lock();
        timers.len.saturating_sub(timers.stale)
    }

    fn lock(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bucket of a moment. A bucket spans about four milliseconds.
fn bucket(at: Moment) -> u64 {
    at.as_nanos() >> 22
}
