//! One lease of this client, as the client knows it.

use std::time::SystemTime;

use rlock_core::{LeaseKey, Moment};

use crate::line::{Entry, Seat, Wait};
use crate::pool::Lease;
use crate::record::Record;
use crate::sighting::Question;
use crate::spot::Spot;
use crate::txn::At;

/// A lease that this client has claimed and not released.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) key: LeaseKey,
    pub(crate) lease: Lease,
    /// The revision at which its key was attached to `lease`, or was seen to be; 0 for that of its claim. Answers may
    /// arrive in another order than that of their revisions.
    attached: i64,
    /// Whether `lease` may belong to another client, which may use it for another lock once this one has left it.
    pub(crate) is_foreign: bool,
    /// The time of its first claim, from which its TTL counts.
    pub(crate) asked: Moment,
    pub(crate) phase: Phase,
    /// The spots that its claim was last sent for; none if its requests have written no key.
    pub(crate) tried: Vec<Spot>,
    /// Whether a request of its claim may be in flight, or follow. The pool must not reuse its etcd lease then.
    pub(crate) tainted: bool,
    /// The first etcd lease that was tainted when another one replaced it: that of its claim, if it was sent again.
    former: Option<i64>,
    /// The epoch and the revision at which it was last read.
    pub(crate) seen: Option<At>,
    pub(crate) releasing: bool,
    /// Whether its key is watched.
    pub(crate) is_watched: bool,
    /// The record in its key and the time of its grant, if the key does not show that time yet.
    pub(crate) unwritten: Option<(Record, SystemTime)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its claim has not been answered, and may still create the lease.
    Asked,
    Queued(Seat, Wait),
    Held(Seat),
}

/// The answer about an attachment came after that about a later one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Late;

impl Known {
    /// A lease whose claim has not been answered.
    pub(crate) fn claimed(key: &LeaseKey, lease: Lease, asked: Moment) -> Self {
        Self {
            key: key.clone(),
            lease,
            attached: 0,
            is_foreign: false,
            asked,
            phase: Phase::Asked,
            tried: Vec::new(),
            tainted: false,
            former: None,
            seen: None,
            releasing: false,
            is_watched: false,
            unwritten: None,
        }
    }

    /// Notes the etcd lease that it was attached to at this revision. Returns the state before, if that was another.
    ///
    /// # Errors
    ///
    /// [`Late`] if it was attached to another one later, or if its present key was created later.
    pub(crate) fn attach(
        &mut self,
        lease: Lease,
        revision: i64,
        tainted: bool,
        is_foreign: bool,
    ) -> Result<Option<Self>, Late> {
        let created = self.seat().map_or(0, |seat| seat.created);
        if revision < self.attached.max(created) {
            return Err(Late);
        }
        self.attached = revision;
        if self.lease.id == lease.id {
            self.tainted |= tainted;
            return Ok(None);
        }
        let before = self.clone();
        self.former = before.late_leases().next();
        (self.lease, self.tainted, self.is_foreign) = (lease, tainted, is_foreign);
        Ok(Some(before))
    }

    /// The etcd leases that a late request of this client could still attach a key to.
    pub(crate) fn late_leases(&self) -> impl Iterator<Item = i64> {
        let tainted = (self.tainted && !self.is_foreign).then_some(self.lease.id);
        self.former.into_iter().chain(tainted)
    }

    pub(crate) fn seat(&self) -> Option<Seat> {
        match self.phase {
            Phase::Asked => None,
            Phase::Queued(seat, _) | Phase::Held(seat) => Some(seat),
        }
    }

    pub(crate) fn question(&self) -> Option<Question<'_>> {
        let Seat { spot, created } = self.seat()?;
        Some(Question { resource: &self.key.resource, id: self.key.id, spot, created })
    }

    /// Whether `entry` is this lease, not one that another client has claimed with the same id.
    pub(crate) fn is(&self, entry: &Entry) -> bool {
        match self.seat() {
            Some(seat) => seat == Seat::of(entry),
            None => self.lease.id == entry.lease,
        }
    }

    /// Whether a read as of `at` is newer than the last one. It was a read of the key of `seat`, or of the whole line.
    /// An answer about an earlier key of the lease may come late, and says nothing about the present one. Revisions
    /// start again in a cluster that has lost its data.
    pub(crate) fn may_see(&self, seat: Option<Seat>, at: At) -> bool {
        let is_former = seat.is_some_and(|read| self.seat().is_some_and(|present| present != read));
        let is_news = self.seen.is_none_or(|seen| seen.epoch != at.epoch || seen.revision <= at.revision);
        let exists = self
            .seat()
            .is_none_or(|seat| self.seen.is_none_or(|seen| seen.epoch != at.epoch) || seat.created <= at.revision);
        !self.releasing && !is_former && is_news && exists
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rlock_core::{Clock, LeaseId, ResourceName, Share};

    use super::*;
    use crate::epoch::Epoch;

    fn known() -> Known {
        let key = LeaseKey { resource: ResourceName::new("x").unwrap(), id: LeaseId::from_u128(1) };
        Known::claimed(&key, lease(1), Clock::manual().now())
    }

    fn lease(id: i64) -> Lease {
        Lease { id, ttl: Duration::from_secs(10), touched: Clock::manual().now() }
    }

    fn seat(created: i64) -> Seat {
        Seat { spot: Spot::new(Share::EXCLUSIVE, 0), created }
    }

    #[test]
    fn late_answer_does_not_replace_a_newer_attachment() {
        let mut known = known();
        let before = known.attach(lease(3), 30, false, false).unwrap().expect("it is another lease");
        assert_eq!((before.lease.id, known.lease.id), (1, 3));
        assert_eq!(known.attach(lease(2), 20, false, false).unwrap_err(), Late);
        assert_eq!(known.lease.id, 3);
        let before = known.attach(lease(4), 40, false, false).unwrap().expect("it is another lease");
        assert_eq!(before.lease.id, 3);
    }

    #[test]
    fn repeated_attachment_taints_the_lease() {
        let mut known = known();
        known.attach(lease(2), 20, false, false).unwrap();
        assert!(known.attach(lease(2), 20, true, false).unwrap().is_none());
        assert!(known.attach(lease(3), 30, false, false).unwrap().expect("it is another lease").tainted);
    }

    #[test]
    fn etcd_lease_of_a_late_claim_is_remembered() {
        let mut known = known();
        known.tainted = true;
        for (id, tainted) in [(2, false), (3, true), (4, false)] {
            known.attach(lease(id), 10 * id, tainted, false).unwrap();
            assert_eq!(known.late_leases().next(), Some(1), "attached to {id}");
        }
    }

    #[test]
    fn late_attachment_of_a_former_key_is_ignored() {
        let mut known = known();
        known.phase = Phase::Held(seat(20));
        assert_eq!(known.attach(lease(2), 15, false, false).unwrap_err(), Late);
        assert_eq!(known.lease.id, 1);
        assert!(known.attach(lease(3), 25, false, false).unwrap().is_some());
    }

    #[test]
    fn late_read_of_a_former_key_is_ignored() {
        let mut known = known();
        known.phase = Phase::Held(seat(20));
        let at = At { revision: 30, epoch: Epoch::default() };
        assert!(!known.may_see(Some(seat(10)), at));
        assert!(known.may_see(Some(seat(20)), at));
        assert!(known.may_see(None, at), "the whole line has the present key");
    }

    #[test]
    fn foreign_lease_stays_foreign_until_it_is_left() {
        let mut known = known();
        known.attach(lease(2), 20, true, true).unwrap();
        let before = known.attach(lease(3), 30, false, false).unwrap().expect("it is another lease");
        assert!(before.is_foreign && !known.is_foreign);
    }
}
