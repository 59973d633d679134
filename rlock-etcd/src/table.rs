//! What this client knows of its own leases.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rlock_core::{Event, Events, LeaseId, LeaseKey, Moment};
use tokio::sync::mpsc::UnboundedSender;

use crate::keys::Keys;
use crate::line::{Entry, Line, Standing};
use crate::pool::{Lease, Pool};
use crate::record::{Record, Since};
use crate::watcher::Command;

/// A lease that this client has claimed, and not released.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) key: LeaseKey,
    pub(crate) lease: Lease,
    /// When it was claimed first. Its life counts from then on.
    pub(crate) asked: Moment,
    pub(crate) place: Place,
    /// The revision that created its key.
    pub(crate) created: i64,
    /// The revision at which it was last seen.
    seen: i64,
    /// Whether a claim may be under way still. A lease of etcd's may then be put to no other use.
    pub(crate) tainted: bool,
    /// Whether a claim has not been answered. It may make the lease anew at any time.
    asking: bool,
    pub(crate) releasing: bool,
    /// What its key says, if that does not say yet that it is held, and since when it is.
    unwritten: Option<(Record, SystemTime)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its claim has not been answered.
    Asked,
    Queued,
    Held,
}

impl Known {
    /// Whether that is this lease, and not one that somebody else has claimed by the same id.
    pub(crate) fn is(&self, entry: &Entry) -> bool {
        self.created == entry.created || self.asking && self.lease.id == entry.lease
    }
}

/// All of them.
pub(crate) struct Table {
    keys: Keys,
    pool: Arc<Pool>,
    commands: UnboundedSender<Command>,
    events: Events,
    known: Mutex<HashMap<LeaseId, Known>>,
    /// How many were left when those that had ended were last dropped.
    swept: AtomicUsize,
}

impl Table {
    pub(crate) fn new(keys: Keys, pool: Arc<Pool>, commands: UnboundedSender<Command>, events: Events) -> Self {
        Self { keys, pool, commands, events, known: Mutex::default(), swept: AtomicUsize::new(0) }
    }

    /// A lease that may be extended or looked at.
    pub(crate) fn find(&self, id: LeaseId) -> Option<Known> {
        self.lock().get(&id).filter(|known| !known.releasing).cloned()
    }

    /// Notes a claim before it is sent.
    pub(crate) fn claimed(&self, key: &LeaseKey, lease: Lease, asked: Moment) {
        let known = Known {
            key: key.clone(),
            lease,
            asked,
            place: Place::Asked,
            created: 0,
            seen: 0,
            tainted: false,
            asking: true,
            releasing: false,
            unwritten: None,
        };
        self.lock().insert(key.id, known);
    }

    /// Notes that a claim of a lease that is known is about to be sent; with which lease of etcd's, if that has not ended.
    pub(crate) fn asked_again(&self, id: LeaseId) -> Option<Lease> {
        let now = self.pool.now();
        let mut table = self.lock();
        let known = table.get_mut(&id).filter(|known| !known.releasing && !known.lease.left(now).is_zero())?;
        known.asking = true;
        Some(known.lease)
    }

    /// Notes that a claim may be carried out yet, or once more.
    pub(crate) fn taint(&self, id: LeaseId) {
        if let Some(known) = self.lock().get_mut(&id) {
            known.tainted = true;
        }
    }

    /// Notes that a claim came to nothing.
    pub(crate) fn refused(&self, id: LeaseId) {
        let known = self.lock().remove(&id);
        known.into_iter().for_each(|known| self.take_back(known));
    }

    /// Notes that a lease is not this client's.
    pub(crate) fn forget(&self, id: LeaseId) -> Option<Known> {
        self.lock().remove(&id)
    }

    /// Notes when a lease of etcd's was kept alive, or that another one took its place.
    pub(crate) fn touched(&self, id: LeaseId, lease: Lease) {
        if let Some(known) = self.lock().get_mut(&id) {
            if known.lease.id == lease.id {
                known.lease.touched = known.lease.touched.max(lease.touched);
            } else {
                known.lease = lease;
            }
        }
    }

    /// Notes that another lease of etcd's took the place of the one before, by a request that may come once more if it is `tainted`.
    pub(crate) fn attached(&self, id: LeaseId, lease: Lease, tainted: bool) {
        if let Some(known) = self.lock().get_mut(&id) {
            known.lease = lease;
            known.tainted |= tainted;
        }
    }

    /// Notes what a line says of a lease; what is new, core is told.
    pub(crate) fn seen(&self, id: LeaseId, line: &Line) {
        let Some((entry, standing)) = line.find(id) else { return self.gone(id, line.revision) };
        let mut table = self.lock();
        let is_current = |known: &&mut Known| !known.releasing && known.seen <= line.revision;
        let Some(known) = table.get_mut(&id).filter(is_current) else { return };
        if !known.is(entry) {
            drop(table);
            return self.gone(id, line.revision);
        }
        known.seen = line.revision;
        known.created = entry.created;
        known.asking = false;
        let (key, read_at) = (self.keys.lease(&known.key), line.revision);
        match standing {
            Standing::Queued(_) => {
                known.place = Place::Queued;
                let blocker = |entry: &Entry| self.keys.lease(&LeaseKey { id: entry.id, ..known.key.clone() });
                let blockers = line.blockers(id).iter().map(blocker).collect();
                self.command(Command::Queued { id, key, blockers, read_at });
            }
            Standing::Held => {
                if known.place != Place::Held && matches!(entry.record.since, Since::Asked(_)) {
                    known.unwritten = Some((entry.record.clone(), SystemTime::now()));
                }
                if known.place == Place::Queued {
                    self.events.send(Event::Granted { id, token: entry.token });
                }
                known.place = Place::Held;
                self.command(Command::Held { id, key, read_at });
            }
        }
    }

    /// Notes that a lease was held still.
    pub(crate) fn held(&self, id: LeaseId, revision: i64) {
        let mut table = self.lock();
        let Some(known) = table.get_mut(&id).filter(|known| !known.releasing && known.seen <= revision) else { return };
        known.seen = revision;
        self.command(Command::Held { id, key: self.keys.lease(&known.key), read_at: revision });
    }

    /// Notes that a lease was not there any more, which core is told.
    pub(crate) fn gone(&self, id: LeaseId, revision: i64) {
        let gone = {
            let mut table = self.lock();
            let is_gone =
                |known: &Known| !known.releasing && !known.asking && known.seen <= revision && known.created < revision;
            if !table.get(&id).is_some_and(is_gone) {
                return;
            }
            table.remove(&id)
        };
        self.events.send(Event::Broken { id });
        self.command(Command::Forget(id));
        gone.into_iter().for_each(|known| self.take_back(known));
    }

    /// Notes that a lease is about to be released.
    pub(crate) fn releasing(&self, id: LeaseId) {
        if let Some(known) = self.lock().get_mut(&id) {
            known.releasing = true;
            self.command(Command::Forget(id));
        }
    }

    /// Notes that a lease was released, or was gone already.
    pub(crate) fn released(&self, id: LeaseId) {
        let known = self.lock().remove(&id);
        known.into_iter().for_each(|known| self.take_back(known));
    }

    /// What the key of a held lease is to say, and the revision that created it.
    pub(crate) fn unwritten(&self, id: LeaseId) -> Option<(String, i64, Record)> {
        let mut table = self.lock();
        let known = table.get_mut(&id).filter(|known| !known.releasing && known.place == Place::Held)?;
        let (record, since) = known.unwritten.take()?;
        let ttl = i64::try_from(known.lease.ttl.as_secs()).unwrap_or(i64::MAX);
        let record = Record { since: Since::Granted(since), ttl, ..record };
        Some((self.keys.lease(&known.key), known.created, record))
    }

    /// Forgets leases that ended long ago, which nobody has asked about since.
    pub(crate) fn sweep(&self) {
        let now = self.pool.now();
        let mut table = self.lock();
        if table.len() <= 2 * self.swept.load(Ordering::Relaxed) + 64 {
            return;
        }
        table.retain(|&id, known| {
            let lives = known.lease.touched.after(known.lease.ttl * 2) >= now;
            if !lives {
                self.command(Command::Forget(id));
            }
            lives
        });
        self.swept.store(table.len(), Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Moment {
        self.pool.now()
    }

    /// Finds another use for a lease of etcd's, or ends it where a request may still be under way that would attach it.
    pub(crate) fn take_back(&self, known: Known) {
        if known.tainted {
            self.pool.revoke(known.lease.id);
        } else {
            self.pool.give_back(known.lease);
        }
    }

    fn command(&self, command: Command) {
        let _client_gone = self.commands.send(command);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
