//! The operations that transactions are made of.

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp};

use crate::epoch::Epoch;
use crate::record::Record;
use crate::spot::{Class, Spot};

/// The maximum number of entries of a batch in one transaction. Servers take 128 operations, counting all levels of
/// nested ones (`--max-txn-ops`).
pub(crate) const CHUNK: usize = 64;

/// The number of leases of a line that a request reads when it may find all of them.
pub(crate) const NEAR: u32 = 8;

/// The revision and the epoch of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    pub(crate) revision: i64,
    pub(crate) epoch: Epoch,
}

/// An operation with conditions: a transaction, or a part of one.
#[derive(Debug, Clone)]
pub(crate) struct Conditional {
    when: Vec<Compare>,
    /// Operations for the case that all conditions are met.
    then: Vec<TxnOp>,
    /// Reads for the other case. They also run if a guard refuses the operation.
    otherwise: Vec<TxnOp>,
}

/// A lease to be written.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    /// The prefix of the keys of its resource.
    pub(crate) front: String,
    /// The etcd lease that it is attached to.
    pub(crate) lease: i64,
    pub(crate) record: Record,
}

/// Takes a spot if the line is empty. Answers with a [peek](peek) otherwise.
pub(crate) fn be_first(put: &Put, spot: Spot) -> Conditional {
    let key = put.key(spot);
    // etcd stops at the first condition that is not met: it walks over the line only if this spot is free.
    let absent = Compare::create_revision(key.as_str(), CompareOp::Equal, 0);
    let alone = Compare::create_revision(put.front.as_str(), CompareOp::Equal, 0).with_prefix();
    Conditional { when: vec![absent, alone], then: vec![put.write(key)], otherwise: vec![peek(&put.front)] }
}

/// Takes the first free one of the spots, unless the line has leases of another capacity. Answers with a [peek](peek).
pub(crate) fn join(put: &Put, spots: [Spot; 2]) -> Conditional {
    let (front, ours) = (put.front.as_str(), capacity_front(&put.front, spots[0]));
    let below = Compare::create_revision(front, CompareOp::Equal, 0).with_range(ours.as_str());
    let above = Compare::create_revision(behind(&ours), CompareOp::Equal, 0).with_range(behind(front));
    Conditional { when: vec![below, above], then: vec![take(put, spots)], otherwise: vec![peek(front)] }
}

/// Takes the first free one of the spots, unless a lease has joined the line after `revision`. Answers with a
/// [peek](peek).
pub(crate) fn enter(put: &Put, spots: [Spot; 2], revision: i64) -> Conditional {
    let front = put.front.as_str();
    let unchanged = Compare::create_revision(front, CompareOp::Less, revision + 1).with_prefix();
    Conditional { when: vec![unchanged], then: vec![take(put, spots)], otherwise: vec![peek(front)] }
}

/// The same for a spot that was free at that revision.
pub(crate) fn enter_at(put: &Put, spot: Spot, revision: i64) -> Conditional {
    let front = put.front.as_str();
    let unchanged = Compare::create_revision(front, CompareOp::Less, revision + 1).with_prefix();
    Conditional { when: vec![unchanged], then: vec![put.write(put.key(spot))], otherwise: vec![peek(front)] }
}

/// The request may arrive twice. The second time it finds its etcd lease at one of the spots, and changes nothing.
fn take(put: &Put, spots: [Spot; 2]) -> TxnOp {
    let [one, other] = spots.map(|spot| put.key(spot));
    let free = |key: &str| Compare::create_revision(key, CompareOp::Equal, 0);
    let not_ours = |key: &str| Compare::lease(key, CompareOp::NotEqual, put.lease);
    let second = Txn::new()
        .when([not_ours(&one), free(&other)])
        .and_then([put.write(other.clone()), peek(&put.front)])
        .or_else([peek(&put.front)]);
    let first = Txn::new()
        .when([free(&one), not_ours(&other)])
        .and_then([put.write(one), peek(&put.front)])
        .or_else([TxnOp::txn(second)]);
    TxnOp::txn(first)
}

/// Reads a few leases of a line, and counts all.
pub(crate) fn peek(front: &str) -> TxnOp {
    TxnOp::get(front, Some(GetOptions::new().with_prefix().with_limit(NEAR.into())))
}

/// Reads all leases of a line.
pub(crate) fn line(front: &str) -> TxnOp {
    TxnOp::get(front, Some(GetOptions::new().with_prefix()))
}

/// Counts the leases of a line.
pub(crate) fn count(front: &str) -> TxnOp {
    TxnOp::get(front, Some(GetOptions::new().with_prefix().with_count_only()))
}

/// Reads the lease at a key.
pub(crate) fn lease(key: &str) -> TxnOp {
    TxnOp::get(key, None)
}

/// Reads the last leases that were created before a revision, of those whose keys begin with `front`, the nearest
/// first.
pub(crate) fn before(front: &str, created: i64, limit: u32) -> TxnOp {
    let options = GetOptions::new().with_prefix().with_max_create_revision(created - 1);
    let options = options.with_sort(SortTarget::Create, SortOrder::Descend);
    TxnOp::get(front, Some(options.with_limit(limit.into())))
}

/// Reads the first leases from key `from` on that were created up to a revision, of those whose keys begin with
/// `front`, in the order of their keys.
pub(crate) fn created_by(front: &str, from: Vec<u8>, revision: i64, limit: u32) -> TxnOp {
    let options = GetOptions::new().with_range(behind(front)).with_max_create_revision(revision);
    TxnOp::get(from, Some(options.with_limit(limit.into())))
}

/// Attaches a lease to another etcd lease, if its key was not written since revision `written`.
pub(crate) fn attach(key: &str, written: i64, lease: i64, record: &Record) -> Txn {
    let options = PutOptions::new().with_lease(lease);
    let same = Compare::mod_revision(key, CompareOp::Equal, written);
    Txn::new().when([same]).and_then([TxnOp::put(key, record.write(), Some(options))])
}

/// Writes a new record of a lease, if its key is still the one that revision `created` has created.
pub(crate) fn rewrite(key: &str, created: i64, record: &Record) -> Conditional {
    let options = PutOptions::new().with_ignore_lease();
    let same = Compare::create_revision(key, CompareOp::Equal, created);
    Conditional::new([same], TxnOp::put(key, record.write(), Some(options)))
}

/// Lets a spot rest until etcd lease `resting` ends, if its key is still the same, and attached to `lease`.
pub(crate) fn rest(key: &str, created: i64, lease: i64, resting: i64, record: &Record) -> Conditional {
    let same = Compare::create_revision(key, CompareOp::Equal, created);
    let attached = Compare::lease(key, CompareOp::Equal, lease);
    let options = PutOptions::new().with_lease(resting);
    Conditional::new([same, attached], TxnOp::put(key, record.write(), Some(options)))
}

/// Deletes a lease, if its key is still the one that revision `created` has created.
pub(crate) fn delete(key: &str, created: i64) -> Conditional {
    let same = Compare::create_revision(key, CompareOp::Equal, created);
    Conditional::new([same], TxnOp::delete(key, None))
}

/// The same, if it is also attached to this etcd lease. A cluster that lost writes uses their revisions again.
pub(crate) fn delete_known(key: &str, created: i64, lease: i64) -> Conditional {
    let same = Compare::create_revision(key, CompareOp::Equal, created);
    let attached = Compare::lease(key, CompareOp::Equal, lease);
    Conditional::new([same, attached], TxnOp::delete(key, None))
}

/// Deletes a lease, if it is attached to this etcd lease.
pub(crate) fn delete_attached(key: &str, lease: i64) -> Conditional {
    let attached = Compare::lease(key, CompareOp::Equal, lease);
    Conditional::new([attached], TxnOp::delete(key, None))
}

/// The prefix of the keys of a line with this spot's capacity.
pub(crate) fn capacity_front(front: &str, spot: Spot) -> String {
    format!("{front}{:08x}/", spot.capacity)
}

/// The prefix of the keys of a line with this spot's capacity and this class.
pub(crate) fn class_front(front: &str, spot: Spot, class: Class) -> String {
    format!("{}{}", capacity_front(front, spot), class.letter())
}

/// The first key behind all that begin with `front`, which never ends with the byte 255: UTF-8 does not have it.
pub(crate) fn behind(front: &str) -> Vec<u8> {
    let mut end = front.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

impl Conditional {
    /// An operation that does nothing if its conditions are not met.
    fn new(when: impl Into<Vec<Compare>>, then: TxnOp) -> Self {
        Self { when: when.into(), then: vec![then], otherwise: Vec::new() }
    }

    /// Several operations as one without conditions. A single operation stays as it is: the servers have less work with
    /// one that is not nested.
    pub(crate) fn all(ops: Vec<Self>) -> Self {
        match <[Self; 1]>::try_from(ops) {
            Ok([only]) => only,
            Err(ops) => {
                let then = ops.into_iter().map(TxnOp::from).collect();
                Self { when: Vec::new(), then, otherwise: Vec::new() }
            }
        }
    }

    /// Adds conditions in front of the others, and operations for the case that not all of them are met.
    pub(crate) fn guarded(self, conditions: [Compare; 2], ops: [TxnOp; 2]) -> Self {
        let Self { when, then, otherwise } = self;
        let when = conditions.into_iter().chain(when).collect();
        let otherwise = ops.into_iter().chain(otherwise).collect();
        Self { when, then, otherwise }
    }
}

impl From<Conditional> for Txn {
    fn from(conditional: Conditional) -> Self {
        let Conditional { when, then, otherwise } = conditional;
        Self::new().when(when).and_then(then).or_else(otherwise)
    }
}

impl From<Conditional> for TxnOp {
    fn from(conditional: Conditional) -> Self {
        Self::txn(conditional.into())
    }
}

impl Put {
    pub(crate) fn key(&self, spot: Spot) -> String {
        format!("{}{spot}", self.front)
    }

    fn write(&self, key: String) -> TxnOp {
        TxnOp::put(key, self.record.write(), Some(PutOptions::new().with_lease(self.lease)))
    }
}
