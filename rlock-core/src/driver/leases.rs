//! The leases of a client by their ids.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::slot::Slot;
use crate::contract::{LeaseId, ResourceName};

/// The largest number of leases that are searched for a resource.
const MANY: usize = 10_000;

/// The leases that are not forgotten yet.
#[derive(Default)]
pub(super) struct Leases {
    inner: Mutex<Inner>,
    emptied: Notify,
    /// Wakes tasks that wait for the removal of a lease, also when new leases are refused.
    removed: Notify,
    /// The number of these tasks.
    removals_awaited: AtomicUsize,
    /// Wakes threads that wait for the removal of all leases.
    emptied_for_threads: Condvar,
}

#[derive(Default)]
struct Inner {
    slots: HashMap<LeaseId, Arc<Slot>, BuildHasherDefault<IdHasher>>,
    /// New leases are refused.
    is_closed: bool,
    /// The number of threads that wait for the removal of all leases.
    threads: usize,
}

/// The reason why a lease was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoEntry {
    /// New leases are refused.
    Closed,
    /// There is a lease of this id already, which only an adopted one can have.
    Known,
}

/// Uses the random bits of an id as its hash.
#[derive(Default)]
struct IdHasher(u64);

impl Leases {
    /// Adds a lease.
    pub(super) fn insert(&self, slot: &Arc<Slot>) -> Result<(), NoEntry> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Err(NoEntry::Closed);
        }
        match inner.slots.entry(slot.key.id) {
            Entry::Occupied(_) => Err(NoEntry::Known),
            Entry::Vacant(entry) => {
                entry.insert(slot.clone());
                Ok(())
            }
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    pub(super) fn remove(&self, id: LeaseId) {
        let mut inner = self.lock();
        let _dropped_after_the_lock = inner.slots.remove(&id);
        let (is_empty, threads) = (inner.slots.is_empty(), inner.threads);
        drop(inner);
        // A task that has seen the lease was counted before it took the mutex.
        if self.removals_awaited.load(Ordering::Relaxed) > 0 {
            self.removed.notify_waiters();
        }
        if is_empty {
            self.emptied.notify_waiters();
            if threads > 0 {
                self.emptied_for_threads.notify_all(); // a system call
            }
        }
    }

    pub(super) fn get(&self, id: LeaseId) -> Option<Arc<Slot>> {
        self.lock().slots.get(&id).cloned()
    }

    /// The held leases of `resource`. Empty if there are more leases than [`MANY`], because this searches all of them
    /// under the mutex.
    pub(super) fn held_of(&self, resource: &ResourceName) -> Vec<Arc<Slot>> {
        let inner = self.lock();
        if inner.slots.len() > MANY {
            return Vec::new();
        }
        let is_held = |slot: &&Arc<Slot>| slot.key.resource == *resource && slot.deadline().is_some();
        inner.slots.values().filter(is_held).cloned().collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<Slot>> {
        self.lock().slots.values().cloned().collect()
    }

    /// Refuses new leases, and returns the existing ones.
    pub(super) fn close(&self) -> Vec<Arc<Slot>> {
        let mut inner = self.lock();
        inner.is_closed = true;
        let slots = inner.slots.values().cloned().collect();
        drop(inner);
        self.removed.notify_waiters();
        slots
    }

    pub(super) fn len(&self) -> usize {
        self.lock().slots.len()
    }

    /// Resolves when the last lease is removed after this call.
    pub(super) fn emptied(&self) -> impl Future<Output = ()> {
        self.emptied.notified()
    }

    /// Waits while new leases are accepted and `is_awaited` is true of the lease with this id. Looks now and after each
    /// removal of a lease. It is for tasks of the client's runtime: a removal wakes them under a slot's mutex, where no
    /// code of users may run.
    pub(super) async fn removed(&self, id: LeaseId, is_awaited: impl Fn(&Slot) -> bool) {
        let _counted = Counted::of(&self.removals_awaited);
        loop {
            let removed = self.removed.notified();
            if self.is_closed() || !self.get(id).is_some_and(|slot| is_awaited(&slot)) {
                return;
            }
            removed.await;
        }
    }

    /// Blocks this thread until all leases are removed, for `limit` at most, and returns the number of remaining ones.
    pub(super) fn wait_until_empty(&self, limit: Duration) -> usize {
        let mut inner = self.lock();
        inner.threads += 1;
        let waited = self.emptied_for_threads.wait_timeout_while(inner, limit, |inner| !inner.slots.is_empty());
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.threads -= 1;
        inner.slots.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts something until this is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        const LOW: u128 = u64::MAX as u128;
        self.0 = u64::try_from(id & LOW).expect("64 bits");
    }
}
