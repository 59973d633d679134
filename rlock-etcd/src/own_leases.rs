//! The leases that a client has claimed and not released.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use rlock_core::{Event, Events, LeaseId, LeaseKey, Moment};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep_until, timeout};

use crate::events::Command;
use crate::keys::Keys;
use crate::known::{Known, Late, Phase};
use crate::line::{Seat, Standing, Wait};
use crate::pool::{Lease, Pool};
use crate::record::{Record, State};
use crate::sighting::Sighting;
use crate::spot::Spot;
use crate::txn::At;
use crate::young::Young;

/// The number of other clients' leases to remember.
const MOST_MET: usize = 256;
/// How long an answer to core waits for the end of an etcd lease. Core limits the time of a whole batch.
const ENDED_WITHIN: Duration = Duration::from_secs(1);

/// All leases that this client has claimed and not released, and the spots of some leases of other clients.
pub(crate) struct OwnLeases {
    keys: Keys,
    pool: Arc<Pool>,
    commands: UnboundedSender<Command>,
    events: Events,
    known: Mutex<HashMap<LeaseId, Known>>,
    /// The last leases of other clients that this client has extended, the latest first.
    met: Mutex<VecDeque<(LeaseId, Spot)>>,
    young: Mutex<Young>,
    /// Notified when `young` sets its timer.
    timer_set: Notify,
    /// The number of leases left after the last sweep.
    swept: AtomicUsize,
}

impl OwnLeases {
    pub(crate) fn new(keys: Keys, pool: Arc<Pool>, commands: UnboundedSender<Command>, events: Events) -> Self {
        Self {
            keys,
            pool,
            commands,
            events,
            known: Mutex::default(),
            met: Mutex::default(),
            young: Mutex::default(),
            timer_set: Notify::new(),
            swept: AtomicUsize::new(0),
        }
    }

    /// A lease that is not being released.
    pub(crate) fn find(&self, id: LeaseId) -> Option<Known> {
        self.lock().get(&id).filter(|known| !known.releasing).cloned()
    }

    /// Notes a claim before it is sent.
    pub(crate) fn claimed(&self, key: &LeaseKey, lease: Lease, asked: Moment) {
        let mut leases = self.lock();
        let before = self.remove(&mut leases, key.id);
        leases.insert(key.id, Known::claimed(key, lease, asked));
        drop(leases);
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
        if let Some(known) = self.lock().get_mut(&id).filter(|known| !known.releasing) {
            known.tainted = false;
        }
    }

    /// Notes that the requests of a claim have written no key.
    pub(crate) fn missed(&self, id: LeaseId) {
        if let Some(known) = self.lock().get_mut(&id) {
            known.tried.clear();
        }
    }

    /// Notes that a lease has ended, or that its claim was not granted.
    pub(crate) fn ended(&self, id: LeaseId) {
        let known = self.remove(&mut self.lock(), id);
        known.into_iter().for_each(|known| self.take_back(known));
    }

    /// The same, at once. The future waits before core gets the answer: if a copy of the claim may still arrive, its etcd
    /// lease ends first, so that the copy has no effect even if the process exits. After [`ENDED_WITHIN`] the etcd lease
    /// ends in the background.
    pub(crate) fn end(&self, id: LeaseId) -> impl Future<Output = ()> {
        let known = self.remove(&mut self.lock(), id);
        let late = known.iter().flat_map(Known::late_leases);
        let revocations: Vec<_> = late.map(|lease| self.pool.revoke_in_background(lease)).collect();
        known.into_iter().for_each(|known| self.take_back(known));
        let ended = timeout(ENDED_WITHIN, join_all(revocations));
        async move {
            let _goes_on_in_background = ended.await;
        }
    }

    /// Notes the spot of another client's lease that this client has extended, and may claim by the same id.
    pub(crate) fn met(&self, id: LeaseId, spot: Spot) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.truncate(MOST_MET - 1);
        met.push_front((id, spot));
    }

    /// The spots at which a claim of this id may find its lease.
    pub(crate) fn spots(&self, id: LeaseId) -> Vec<Spot> {
        if let Some(known) = self.find(id) {
            return known.tried;
        }
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.iter().find(|(met, _)| *met == id).map(|&(_, spot)| spot).into_iter().collect()
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
        let mut leases = self.lock();
        let Some(known) = leases.get_mut(&id) else { return false };
        let replaced = known.attach(lease, revision, tainted, is_foreign);
        drop(leases);
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
        let Some((entry, standing)) = &sighting.found else { return self.gone(id, sighting.seat, sighting.at) };
        let mut leases = self.lock();
        let known = leases.get_mut(&id).filter(|known| known.may_see(sighting.seat, sighting.at));
        let Some(known) = known else { return };
        if !known.is(entry) {
            drop(leases);
            return self.gone(id, sighting.seat, sighting.at);
        }
        known.seen = Some(sighting.at);
        let (seat, read_at) = (Seat::of(entry), sighting.at.revision);
        match standing {
            Standing::Queued(wait) => {
                let ahead = match &known.phase {
                    Phase::Queued(_, before) => wait.ahead.min(before.ahead),
                    _ => wait.ahead,
                };
                let spot = |spot| self.keys.spot(&known.key.resource, spot);
                let key = spot(seat.spot);
                let blockers = wait.blockers.iter().map(|blocker| spot(blocker.spot)).collect();
                known.phase = Phase::Queued(seat, Wait { ahead, ..wait.clone() });
                known.is_watched = true;
                self.command(Command::Watch { id, seat, key, blockers, read_at });
            }
            Standing::Held => {
                let was = std::mem::replace(&mut known.phase, Phase::Held(seat));
                if !matches!(was, Phase::Held(_)) {
                    self.add_young(id);
                    if matches!(entry.record.state, State::Asked(_)) {
                        known.unwritten = Some((entry.record.clone(), SystemTime::now()));
                    }
                }
                if matches!(was, Phase::Queued(..)) {
                    self.events.send(Event::Granted { id, token: entry.token });
                }
                if known.is_watched {
                    let key = self.keys.spot(&known.key.resource, seat.spot);
                    self.command(Command::Watch { id, seat, key, blockers: Vec::new(), read_at });
                }
            }
        }
    }

    /// Notes that a read of this key, or of the whole line, has not found a lease, and notifies core.
    fn gone(&self, id: LeaseId, seat: Option<Seat>, at: At) {
        let gone = {
            let mut leases = self.lock();
            let is_gone = |known: &Known| known.seat().is_some() && known.may_see(seat, at);
            if !leases.get(&id).is_some_and(is_gone) {
                return;
            }
            self.remove(&mut leases, id)
        };
        self.events.send(Event::Broken { id });
        gone.into_iter().for_each(|known| self.take_back(known));
    }

    /// Notes that this key of a lease was deleted at this revision.
    pub(crate) fn deleted(&self, id: LeaseId, seat: Seat, revision: i64) {
        let epoch = match self.lock().get(&id) {
            Some(Known { seen: Some(seen), .. }) => seen.epoch,
            _ => return,
        };
        self.gone(id, Some(seat), At { revision, epoch });
    }

    /// Notes that a lease will be released, and returns it.
    pub(crate) fn releasing(&self, id: LeaseId) -> Option<Known> {
        let mut leases = self.lock();
        let known = leases.get_mut(&id)?;
        known.releasing = true;
        // Its claim may be about to send the next request.
        known.tainted |= known.phase == Phase::Asked;
        self.unwatch(known);
        Some(known.clone())
    }

    /// Waits until leases have been held for a while, has their keys watched, and returns them. Some may have ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the next one returns the leases.
    pub(crate) async fn lasting(&self) -> Vec<LeaseId> {
        loop {
            let timer = self.lock_young().timer();
            match timer {
                Some(timer) => {
                    sleep_until(timer).await;
                    return self.watch_lasting();
                }
                None => self.timer_set.notified().await,
            }
        }
    }

    fn watch_lasting(&self) -> Vec<LeaseId> {
        let lasting = self.lock_young().take_lasting(Instant::now());
        let mut leases = self.lock();
        for &id in &lasting {
            let known = leases.get_mut(&id).filter(|known| !known.releasing && !known.is_watched);
            let Some(known) = known else { continue };
            let (Some(seat), Some(seen)) = (known.seat(), known.seen) else { continue };
            known.is_watched = true;
            let key = self.keys.spot(&known.key.resource, seat.spot);
            self.command(Command::Watch { id, seat, key, blockers: Vec::new(), read_at: seen.revision });
        }
        lasting
    }

    /// The record to write into the key of a held lease.
    pub(crate) fn unwritten(&self, id: LeaseId) -> Option<(String, Seat, Record)> {
        let mut leases = self.lock();
        let known = leases.get_mut(&id).filter(|known| !known.releasing)?;
        let Phase::Held(seat) = known.phase else { return None };
        let (record, since) = known.unwritten.take()?;
        let ttl = i64::try_from(known.lease.ttl.as_secs()).unwrap_or(i64::MAX);
        let record = Record { state: State::Granted(since), ttl, ..record };
        Some((self.keys.spot(&known.key.resource, seat.spot), seat, record))
    }

    /// Drops leases that ended long ago and were not used since.
    pub(crate) fn sweep(&self) {
        let now = self.pool.now();
        let mut leases = self.lock();
        if leases.len() <= 2 * self.swept.load(Ordering::Relaxed) + 64 {
            return;
        }
        let is_over = |_: &LeaseId, known: &mut Known| known.lease.touched.after(known.lease.ttl * 2) < now;
        for (_, mut known) in leases.extract_if(is_over) {
            self.unwatch(&mut known);
            self.pool.forget(known.lease.id);
        }
        self.swept.store(leases.len(), Ordering::Relaxed);
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

    fn remove(&self, leases: &mut HashMap<LeaseId, Known>, id: LeaseId) -> Option<Known> {
        let mut known = leases.remove(&id)?;
        self.unwatch(&mut known);
        Some(known)
    }

    fn unwatch(&self, known: &mut Known) {
        if std::mem::take(&mut known.is_watched) {
            self.command(Command::Forget(known.key.id));
        }
    }

    /// Has a lease that is held from now on watched later.
    fn add_young(&self, id: LeaseId) {
        let mut young = self.lock_young();
        let was_set = young.timer().is_some();
        young.add(id, Instant::now());
        drop(young);
        if !was_set {
            self.timer_set.notify_one();
        }
    }

    fn command(&self, command: Command) {
        let _client_gone = self.commands.send(command);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_young(&self) -> MutexGuard<'_, Young> {
        self.young.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
