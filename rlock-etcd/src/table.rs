//! The table of a client's own leases.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rlock_core::{Event, Events, LeaseId, LeaseKey, Moment};
use tokio::sync::mpsc::UnboundedSender;

use crate::events::Command;
use crate::keys::Keys;
use crate::line::{Entry, Standing, Wait};
use crate::pool::{Lease, Pool};
use crate::record::{Record, State};
use crate::sighting::{Question, Sighting};
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
    is_foreign: bool,
    /// The time of its first claim, from which its TTL counts.
    pub(crate) asked: Moment,
    pub(crate) phase: Phase,
    /// The spots that its claim was last sent for.
    pub(crate) tried: Vec<Spot>,
    /// Whether a claim may still be in flight. The pool must not reuse its etcd lease then.
    pub(crate) tainted: bool,
    /// The epoch and the revision at which it was last read.
    seen: Option<At>,
    pub(crate) releasing: bool,
    /// The record in its key and the time of its grant, if the key does not show that time yet.
    unwritten: Option<(Record, SystemTime)>,
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
struct Late;

/// The key of a lease: a spot, and the revision that created it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) spot: Spot,
    pub(crate) created: i64,
}

impl Known {
    /// A lease whose claim has not been answered.
    fn claimed(key: &LeaseKey, lease: Lease, asked: Moment) -> Self {
        Self {
            key: key.clone(),
            lease,
            attached: 0,
            is_foreign: false,
            asked,
            phase: Phase::Asked,
            tried: Vec::new(),
            tainted: false,
            seen: None,
            releasing: false,
            unwritten: None,
        }
    }

    /// Notes the lease of etcd's that it was attached to at this revision, and returns what it was before, if that differs.
    /// An error if it was attached to another one later.
    fn attach(&mut self, lease: Lease, revision: i64, tainted: bool, is_foreign: bool) -> Result<Option<Self>, Late> {
        if revision < self.attached {
            return Err(Late);
        }
        self.attached = revision;
        if self.lease.id == lease.id {
            self.tainted |= tainted;
            return Ok(None);
        }
        let before = self.clone();
        (self.lease, self.tainted, self.is_foreign) = (lease, tainted, is_foreign);
        Ok(Some(before))
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
}

impl Seat {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self { spot: entry.spot, created: entry.created }
    }
}

/// All leases of this client.
pub(crate) struct Table {
    keys: Keys,
    pool: Arc<Pool>,
    commands: UnboundedSender<Command>,
    events: Events,
    known: Mutex<HashMap<LeaseId, Known>>,
    /// The number of leases left after the last sweep.
    swept: AtomicUsize,
}

impl Table {
    pub(crate) fn new(keys: Keys, pool: Arc<Pool>, commands: UnboundedSender<Command>, events: Events) -> Self {
        Self { keys, pool, commands, events, known: Mutex::default(), swept: AtomicUsize::new(0) }
    }

    /// A lease that is not being released.
    pub(crate) fn find(&self, id: LeaseId) -> Option<Known> {
        self.lock().get(&id).filter(|known| !known.releasing).cloned()
    }

    /// Notes a claim before it is sent.
    pub(crate) fn claimed(&self, key: &LeaseKey, lease: Lease, asked: Moment) {
        let known = Known::claimed(key, lease, asked);
        let before = self.lock().insert(key.id, known);
        if let Some(before) = before.filter(|before| before.lease.id != lease.id) {
            if before.is_foreign { self.pool.forget(before.lease.id) } else { self.pool.revoke(before.lease.id) }
        }
    }

    /// Notes the spots that a claim will be sent for.
    pub(crate) fn trying(&self, id: LeaseId, spots: &[Spot]) {
        if let Some(known) = self.lock().get_mut(&id) {
            known.tainted = true;
            known.tried.clear();
            known.tried.extend_from_slice(spots);
        }
    }

    /// Notes that no request of a claim is in flight any more.
    pub(crate) fn answered(&self, id: LeaseId) {
        if let Some(known) = self.lock().get_mut(&id) {
            known.tainted = false;
        }
    }

    /// Notes that a lease has ended, or that its claim was not granted.
    pub(crate) fn ended(&self, id: LeaseId) {
        let known = self.lock().remove(&id);
        known.into_iter().for_each(|known| self.take_back(known));
    }

    /// Notes the time of the last keep-alive of an etcd lease.
    pub(crate) fn touched(&self, id: LeaseId, lease: Lease) {
        if let Some(known) = self.lock().get_mut(&id).filter(|known| known.lease.id == lease.id) {
            known.lease.touched = known.lease.touched.max(lease.touched);
        }
    }

    /// Notes that another etcd lease replaced the previous one at this revision, by a request that may arrive again if
    /// `tainted`. False if the lease was released meanwhile, or is already attached to a later etcd lease.
    pub(crate) fn attached(&self, id: LeaseId, lease: Lease, revision: i64, tainted: bool) -> bool {
        self.replace(id, lease, revision, tainted, false)
    }

    /// Notes that another etcd lease replaced the previous one at this revision, by a request of another client or of
    /// this client whose answer was lost.
    pub(crate) fn adopted(&self, id: LeaseId, lease: Lease, revision: i64) {
        self.replace(id, lease, revision, true, true);
    }

    fn replace(&self, id: LeaseId, lease: Lease, revision: i64, tainted: bool, is_foreign: bool) -> bool {
        let mut table = self.lock();
        let Some(known) = table.get_mut(&id) else { return false };
        let replaced = known.attach(lease, revision, tainted, is_foreign);
        drop(table);
        match replaced {
            Ok(before) => {
                before.into_iter().for_each(|before| self.take_back(before));
                true
            }
            Err(Late) => false,
        }
    }

    /// Notes the state of a lease as it was read, and notifies core of changes.
    pub(crate) fn seen(&self, id: LeaseId, sighting: &Sighting) {
        let Some((entry, standing)) = &sighting.found else { return self.gone(id, sighting.at) };
        let mut table = self.lock();
        let Some(known) = table.get_mut(&id).filter(|known| known.may_see(sighting.at)) else { return };
        if !known.is(entry) {
            drop(table);
            return self.gone(id, sighting.at);
        }
        known.seen = Some(sighting.at);
        let (seat, read_at) = (Seat::of(entry), sighting.at.revision);
        let spot = |spot| self.keys.spot(&known.key.resource, spot);
        let key = spot(seat.spot);
        match standing {
            Standing::Queued(wait) => {
                let ahead = match &known.phase {
                    Phase::Queued(_, before) => wait.ahead.min(before.ahead),
                    _ => wait.ahead,
                };
                let blockers = wait.blockers.iter().map(|blocker| spot(blocker.spot)).collect();
                known.phase = Phase::Queued(seat, Wait { ahead, ..wait.clone() });
                self.command(Command::Queued { id, key, blockers, read_at });
            }
            Standing::Held => {
                let was = std::mem::replace(&mut known.phase, Phase::Held(seat));
                if !matches!(was, Phase::Held(_)) && matches!(entry.record.state, State::Asked(_)) {
                    known.unwritten = Some((entry.record.clone(), SystemTime::now()));
                }
                if matches!(was, Phase::Queued(..)) {
                    self.events.send(Event::Granted { id, token: entry.token });
                }
                self.command(Command::Held { id, key, read_at });
            }
        }
    }

    /// Notes that a lease no longer exists, and notifies core.
    pub(crate) fn gone(&self, id: LeaseId, at: At) {
        let gone = {
            let mut table = self.lock();
            let is_gone = |known: &Known| known.seat().is_some() && known.may_see(at);
            if !table.get(&id).is_some_and(is_gone) {
                return;
            }
            table.remove(&id)
        };
        self.events.send(Event::Broken { id });
        self.command(Command::Forget(id));
        gone.into_iter().for_each(|known| self.take_back(known));
    }

    /// Notes that the key of a lease was deleted at this revision, after the lease was created.
    pub(crate) fn deleted(&self, id: LeaseId, revision: i64) {
        let epoch = match self.lock().get(&id) {
            Some(Known { seen: Some(seen), .. }) => seen.epoch,
            _ => return,
        };
        self.gone(id, At { revision, epoch });
    }

    /// Notes that a lease will be released, and returns it.
    pub(crate) fn releasing(&self, id: LeaseId) -> Option<Known> {
        let mut table = self.lock();
        let known = table.get_mut(&id)?;
        known.releasing = true;
        self.command(Command::Forget(id));
        Some(known.clone())
    }

    /// The record to write into the key of a held lease.
    pub(crate) fn unwritten(&self, id: LeaseId) -> Option<(String, Seat, Record)> {
        let mut table = self.lock();
        let known = table.get_mut(&id).filter(|known| !known.releasing)?;
        let Phase::Held(seat) = known.phase else { return None };
        let (record, since) = known.unwritten.take()?;
        let ttl = i64::try_from(known.lease.ttl.as_secs()).unwrap_or(i64::MAX);
        let record = Record { state: State::Granted(since), ttl, ..record };
        Some((self.keys.spot(&known.key.resource, seat.spot), seat, record))
    }

    /// Drops leases that ended long ago and were not used since.
    pub(crate) fn sweep(&self) {
        let now = self.pool.now();
        let mut table = self.lock();
        if table.len() <= 2 * self.swept.load(Ordering::Relaxed) + 64 {
            return;
        }
        let is_over = |_: &LeaseId, known: &mut Known| known.lease.touched.after(known.lease.ttl * 2) < now;
        for (id, known) in table.extract_if(is_over) {
            self.command(Command::Forget(id));
            self.pool.forget(known.lease.id);
        }
        self.swept.store(table.len(), Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Moment {
        self.pool.now()
    }

    /// Returns an etcd lease to the pool, or revokes it if a request in flight might still attach a key to it. One that
    /// may belong to another client is left to expire.
    fn take_back(&self, known: Known) {
        match known {
            Known { is_foreign: true, lease, .. } => self.pool.forget(lease.id),
            Known { tainted: true, lease, .. } => self.pool.revoke(lease.id),
            Known { lease, .. } => self.pool.give_back(lease),
        }
    }

    fn command(&self, command: Command) {
        let _client_gone = self.commands.send(command);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether a read as of `at` is newer than the last one. Revisions start again in a cluster that has lost its data.
    fn may_see(&self, at: At) -> bool {
        let is_news = self.seen.is_none_or(|seen| seen.epoch != at.epoch || seen.revision <= at.revision);
        let exists = self
            .seat()
            .is_none_or(|seat| self.seen.is_none_or(|seen| seen.epoch != at.epoch) || seat.created <= at.revision);
        !self.releasing && is_news && exists
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rlock_core::{Clock, ResourceName};

    use super::*;

    fn known() -> Known {
        let key = LeaseKey { resource: ResourceName::new("x").unwrap(), id: LeaseId::from_u128(1) };
        Known::claimed(&key, lease(1), Clock::manual().now())
    }

    fn lease(id: i64) -> Lease {
        Lease { id, ttl: Duration::from_secs(10), touched: Clock::manual().now() }
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
    fn foreign_lease_stays_foreign_until_it_is_left() {
        let mut known = known();
        known.attach(lease(2), 20, true, true).unwrap();
        let before = known.attach(lease(3), 30, false, false).unwrap().expect("it is another lease");
        assert!(before.is_foreign && !known.is_foreign);
    }
}
