//! The leases of a resource, and what follows from their order.
//!
//! Nothing says in etcd that a lease is held: it is, if there is room for it and for all that were created before it. So
//! whatever takes a lease out of the line, a release, a break or the end of its life, grants the next in the same step. A
//! lease that is held stays so, because nothing ever comes in front of it.

use etcd_client::KeyValue;
use rlock_core::{LeaseId, Token};

use crate::epoch::Epoch;
use crate::keys::Keys;
use crate::record::Record;
use crate::txn::At;

/// The live leases of a resource, in the order in which they were created.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// The revision at which it looked like this.
    pub(crate) revision: i64,
    pub(crate) leases: Vec<Entry>,
    /// How many of them are held: the first.
    held: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: LeaseId,
    /// The revision that created it.
    pub(crate) created: i64,
    /// The revision that wrote it last.
    pub(crate) written: i64,
    pub(crate) token: Token,
    /// The lease of etcd's that it ends with.
    pub(crate) lease: i64,
    pub(crate) record: Record,
}

/// What a lease is in its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Held,
    /// So many wait in front of it.
    Queued(usize),
}

impl Line {
    /// Keys that are none of ours are passed over.
    pub(crate) fn read(keys: &Keys, at: At, kvs: &[KeyValue]) -> Self {
        Self::new(at.revision, kvs.iter().filter_map(|kv| Entry::read(keys, at.epoch, kv)).collect())
    }

    pub(crate) fn new(revision: i64, mut leases: Vec<Entry>) -> Self {
        leases.sort_unstable_by_key(|entry| entry.created);
        let capacity = leases.first().map_or(0, |first| u64::from(first.record.share.capacity()));
        let mut taken = 0;
        let fits = |entry: &&Entry| {
            taken += u64::from(entry.record.share.weight());
            taken <= capacity
        };
        let held = leases.iter().take_while(fits).count();
        Self { revision, leases, held }
    }

    pub(crate) fn holders(&self) -> &[Entry] {
        &self.leases[..self.held]
    }

    pub(crate) fn waiters(&self) -> &[Entry] {
        &self.leases[self.held..]
    }

    pub(crate) fn capacity(&self) -> Option<u32> {
        self.leases.first().map(|first| first.record.share.capacity())
    }

    pub(crate) fn find(&self, id: LeaseId) -> Option<(&Entry, Standing)> {
        let at = self.leases.iter().position(|entry| entry.id == id)?;
        let standing = if at < self.held { Standing::Held } else { Standing::Queued(at - self.held) };
        Some((&self.leases[at], standing))
    }

    /// Whether one more that weighs `weight` would be held at once.
    pub(crate) fn has_room_for(&self, weight: u32) -> bool {
        let Some(capacity) = self.capacity() else { return true };
        self.waiters().is_empty() && weight_of(&self.leases) + u64::from(weight) <= u64::from(capacity)
    }

    /// Leases of which at least one has to go before the queued lease `id` can be held: the nearest in front of it that
    /// leave it no room.
    pub(crate) fn blockers(&self, id: LeaseId) -> &[Entry] {
        let Some(at) = self.leases.iter().position(|entry| entry.id == id) else { return &[] };
        let share = self.leases[at].record.share;
        let room = u64::from(share.capacity() - share.weight());
        let mut first = at;
        while first > 0 && weight_of(&self.leases[first..at]) <= room {
            first -= 1;
        }
        &self.leases[first..at]
    }
}

impl Entry {
    pub(crate) fn read(keys: &Keys, epoch: Epoch, kv: &KeyValue) -> Option<Self> {
        let id = keys.read(kv.key())?.id;
        let record = Record::read(kv.value())?;
        let created = kv.create_revision();
        let (token, written) = (epoch.token(created), kv.mod_revision());
        Some(Self { id, created, written, token, lease: kv.lease(), record })
    }
}

fn weight_of(leases: &[Entry]) -> u64 {
    leases.iter().map(|entry| u64::from(entry.record.share.weight())).sum()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use rlock_core::Share;

    use super::*;
    use crate::record::Since;

    fn line(capacity: u32, weights: &[u32]) -> Line {
        let entry = |(number, weight): (u32, &u32)| {
            let share = Share::new(*weight, capacity).unwrap();
            let record = Record { share, since: Since::Asked(UNIX_EPOCH), ttl: 30, owner: String::new() };
            Entry { id: id(number), created: i64::from(number) + 1, written: 0, token: Token::new(1), lease: 1, record }
        };
        let mut leases: Vec<_> = (0..).zip(weights).map(entry).collect();
        leases.reverse();
        Line::new(9, leases)
    }

    fn id(number: u32) -> LeaseId {
        LeaseId::from_u128(number.into())
    }

    fn standing(line: &Line, number: u32) -> Standing {
        line.find(id(number)).unwrap().1
    }

    #[test]
    fn the_first_that_fit_together_are_held() {
        let mutex = line(1, &[1, 1, 1]);
        assert_eq!([0, 1, 2].map(|n| standing(&mutex, n)), [Standing::Held, Standing::Queued(0), Standing::Queued(1)]);
        let semaphore = line(3, &[1, 1, 2, 1]);
        assert_eq!((semaphore.holders().len(), semaphore.waiters().len()), (2, 2), "nobody overtakes the large one");
        assert_eq!(line(3, &[]).capacity(), None);
    }

    #[test]
    fn there_is_room_beside_holders_but_not_behind_waiters() {
        assert!(line(3, &[1, 1]).has_room_for(1) && !line(3, &[1, 1]).has_room_for(2));
        assert!(!line(3, &[2, 2]).has_room_for(1) && line(3, &[]).has_room_for(3));
    }

    #[test]
    fn a_waiter_is_blocked_as_long_as_its_blockers_are_all_there() {
        let blockers = |line: &Line, number| -> Vec<i64> {
            line.blockers(id(number)).iter().map(|entry| entry.created - 1).collect()
        };
        assert_eq!(blockers(&line(1, &[1, 1, 1]), 2), [1], "a mutex: the one in front");
        assert_eq!(blockers(&line(9, &[1, 1, 9, 1, 1]), 4), [2, 3], "a reader: up to the writer in front");
        assert_eq!(blockers(&line(9, &[1, 1, 9]), 2), [1], "a writer: whoever is nearest");
        assert_eq!(blockers(&line(2, &[1, 1, 1, 1]), 3), [1, 2], "a semaphore: as many as have permits");
    }
}
