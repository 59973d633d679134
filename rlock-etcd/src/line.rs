//! The leases of a resource, and which of them are held.
//!
//! The line decides whether a lease is held: it is if the capacity has room for it and for all leases that were created
//! before it. So each removal of a lease, by a release, a break or its expiry, grants the next in the same step. A held
//! lease stays held, because no lease is ever added in front of it.

use std::time::Duration;

use etcd_client::KeyValue;
use rlock_core::{LeaseId, Place, Share, Token};

use crate::epoch::Epoch;
use crate::record::Record;
use crate::spot::Spot;
use crate::txn::At;

/// The live leases of a resource, in the order in which they were created.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) at: At,
    pub(crate) leases: Vec<Entry>,
    /// The number of leases that are held: the first ones.
    held: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) spot: Spot,
    /// The revision that created its key.
    pub(crate) created: i64,
    /// The revision that wrote it last.
    pub(crate) written: i64,
    pub(crate) token: Token,
    /// The etcd lease that its key is attached to.
    pub(crate) lease: i64,
    pub(crate) record: Record,
}

/// The key of a lease: a spot, and the revision that created it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) spot: Spot,
    pub(crate) created: i64,
}

/// The state of a lease in its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    Held,
    Queued(Wait),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    /// An upper bound of the waiters in front of it.
    pub(crate) ahead: u64,
    /// Leases of which at least one has to go before it can be held.
    pub(crate) blockers: Vec<Blocker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocker {
    pub(crate) spot: Spot,
    pub(crate) created: i64,
    /// Its TTL, which each extension restores.
    life: Duration,
}

impl Line {
    /// Reads the line whose keys begin with `front`. Other keys are skipped.
    pub(crate) fn read(front: &str, at: At, kvs: &[KeyValue]) -> Self {
        Self::new(at, kvs.iter().filter_map(|kv| Entry::read(front, at.epoch, kv)).collect())
    }

    pub(crate) fn new(at: At, mut leases: Vec<Entry>) -> Self {
        leases.sort_unstable_by_key(|entry| entry.created);
        let capacity = leases.first().map_or(0, Entry::capacity);
        let mut taken = 0;
        let fits = |entry: &&Entry| {
            taken += entry.weight();
            taken <= capacity
        };
        let held = leases.iter().take_while(fits).count();
        Self { at, leases, held }
    }

    /// The leases that are held, and the rests.
    pub(crate) fn holders(&self) -> &[Entry] {
        &self.leases[..self.held]
    }

    pub(crate) fn waiters(&self) -> &[Entry] {
        &self.leases[self.held..]
    }

    pub(crate) fn capacity(&self) -> Option<u32> {
        self.leases.first().map(|first| first.spot.capacity.get())
    }

    pub(crate) fn find(&self, id: LeaseId) -> Option<(&Entry, Standing)> {
        let at = self.leases.iter().position(|entry| entry.is(id))?;
        let entry = &self.leases[at];
        if at < self.held {
            return Some((entry, Standing::Held));
        }
        let nearest = self.leases[..at].iter().rev();
        let blockers = blockers(entry, nearest).expect("it would be held otherwise");
        Some((entry, Standing::Queued(Wait { ahead: (at - self.held) as u64, blockers })))
    }

    /// The first two free spots.
    pub(crate) fn free_spots(&self, share: Share) -> [Spot; 2] {
        let is_free = |spot: &Spot| !self.leases.iter().any(|entry| entry.spot == *spot);
        let mut free = (0..).map(|number| Spot::new(share, number)).filter(is_free);
        [(); 2].map(|()| free.next().expect("a line is shorter than its numbers"))
    }

    /// Whether another lease of this weight would be held at once.
    pub(crate) fn has_room_for(&self, weight: u32) -> bool {
        let Some(capacity) = self.capacity() else { return true };
        self.waiters().is_empty() && permits(&self.leases) + u64::from(weight) <= u64::from(capacity)
    }
}

impl Seat {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self { spot: entry.spot, created: entry.created }
    }
}

impl Entry {
    /// Reads a lease whose key begins with `front`.
    pub(crate) fn read(front: &str, epoch: Epoch, kv: &KeyValue) -> Option<Self> {
        let spot = Spot::read(std::str::from_utf8(kv.key()).ok()?.strip_prefix(front)?)?;
        let record = Record::read(kv.value())?;
        let created = kv.create_revision();
        let (token, written) = (epoch.token(created), kv.mod_revision());
        Some(Self { spot, created, written, token, lease: kv.lease(), record })
    }

    /// Whether it is the lease with this id, not a rest.
    pub(crate) fn is(&self, id: LeaseId) -> bool {
        self.record.id == id && !self.record.is_resting()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.record.weight.into()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.spot.capacity.get().into()
    }

    /// The permits that other leases may have while it is held.
    pub(crate) fn room(&self) -> u64 {
        self.capacity().saturating_sub(self.weight())
    }

    pub(crate) fn blocker(&self) -> Blocker {
        Blocker { spot: self.spot, created: self.created, life: self.record.life() }
    }
}

/// The permits of all of these leases.
pub(crate) fn permits(leases: &[Entry]) -> u64 {
    leases.iter().map(Entry::weight).sum()
}

/// The nearest leases in front of a lease that together leave it no room; `None` if all of `nearest` leave it room.
pub(crate) fn blockers<'a>(entry: &Entry, nearest: impl Iterator<Item = &'a Entry>) -> Option<Vec<Blocker>> {
    let (mut blockers, mut taken) = (Vec::new(), 0);
    for other in nearest {
        blockers.push(other.blocker());
        taken += other.weight();
        if taken > entry.room() {
            return Some(blockers);
        }
    }
    None
}

impl Wait {
    pub(crate) fn place(&self) -> Place {
        // The watch reports an expiry when it happens; this is the latest time for it.
        let ask_again = self.blockers.iter().map(|blocker| blocker.life).max().unwrap_or_default();
        Place { ahead: self.ahead, ask_again }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::record::State;

    fn line(capacity: u32, weights: &[u32]) -> Line {
        let entry = |(number, weight): (u32, &u32)| {
            let spot = Spot::new(Share::new(*weight, capacity).unwrap(), number);
            let (state, owner) = (State::Asked(UNIX_EPOCH), String::new());
            let record = Record { id: id(number), state, ttl: 30, weight: *weight, owner, data: None };
            Entry { spot, created: i64::from(number) + 1, written: 0, token: Token::new(1), lease: 1, record }
        };
        let mut leases: Vec<_> = (0..).zip(weights).map(entry).collect();
        leases.reverse();
        Line::new(At { revision: 9, epoch: Epoch::default() }, leases)
    }

    fn id(number: u32) -> LeaseId {
        LeaseId::from_u128(number.into())
    }

    fn ahead(line: &Line, number: u32) -> Option<u64> {
        match line.find(id(number)).unwrap().1 {
            Standing::Held => None,
            Standing::Queued(wait) => Some(wait.ahead),
        }
    }

    #[test]
    fn the_first_that_fit_together_are_held() {
        let mutex = line(1, &[1, 1, 1]);
        assert_eq!([0, 1, 2].map(|number| ahead(&mutex, number)), [None, Some(0), Some(1)]);
        let semaphore = line(3, &[1, 1, 2, 1]);
        assert_eq!((semaphore.holders().len(), semaphore.waiters().len()), (2, 2), "no waiter overtakes the large one");
        assert_eq!(line(3, &[]).capacity(), None);
    }

    #[test]
    fn room_is_beside_holders_not_behind_waiters() {
        assert!(line(3, &[1, 1]).has_room_for(1) && !line(3, &[1, 1]).has_room_for(2));
        assert!(!line(3, &[2, 2]).has_room_for(1) && line(3, &[]).has_room_for(3));
    }

    #[test]
    fn waiter_is_blocked_while_all_blockers_live() {
        let blockers = |line: &Line, number| -> Vec<i64> {
            let Standing::Queued(wait) = line.find(id(number)).unwrap().1 else { panic!("{number} is held") };
            wait.blockers.iter().rev().map(|blocker| blocker.created - 1).collect()
        };
        assert_eq!(blockers(&line(1, &[1, 1, 1]), 2), [1], "a mutex: the one in front");
        assert_eq!(blockers(&line(9, &[1, 1, 9, 1, 1]), 4), [2, 3], "a reader: up to the writer in front");
        assert_eq!(blockers(&line(9, &[1, 1, 9]), 2), [1], "a writer: the nearest");
        assert_eq!(blockers(&line(2, &[1, 1, 1, 1]), 3), [1, 2], "a semaphore: as many as have permits");
    }

    #[test]
    fn a_rest_is_no_lease() {
        let mut entries = line(1, &[1]).leases;
        entries[0].record.state = State::Resting;
        let line = Line::new(At { revision: 9, epoch: Epoch::default() }, entries);
        assert!(line.find(id(0)).is_none() && !line.has_room_for(1));
    }
}
