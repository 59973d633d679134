//! Grants that other clients' releases have made, until replicas confirm them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rlock_core::{Event, Events, Extended, Grant, LeaseId, LeaseKey, Place};
use tokio::task::JoinSet;

use crate::config::Replicas;
use crate::conn::Conn;
use crate::error::CallError;
use crate::keys::Keys;
use crate::primary::Primary;
use crate::route::{Purpose, Replied, Route};
use crate::scripts;
use crate::wire::Args;

/// The leases that this client waits for, or whose outcome it does not know, if replicas have to confirm grants.
///
/// An extension finds such a lease held. The client still reports that it waits until replicas have the grant, and then
/// reports the grant by an event. If they do not have it in time, the lease is released, and the next extension finds
/// it gone.
#[derive(Debug)]
pub(crate) struct Confirmer {
    wanted: Replicas,
    waiting: Arc<Waiting>,
    under_way: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Waiting {
    route: Arc<Route>,
    keys: Keys,
    events: Events,
    leases: Mutex<HashMap<LeaseId, State>>,
}

#[derive(Debug)]
struct State {
    touched: Instant,
    step: Step,
    found: Option<Found>,
}

/// The primary that answered an extension that the lease is held, and the connection. Only its replicas can confirm the
/// grant: another server may take its place at any time.
#[derive(Debug)]
struct Found {
    primary: Arc<Primary>,
    conn: Arc<Conn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Unasked,
    Asked,
    /// The answer of an earlier extension may still arrive, and say that the lease is held.
    GivenBack,
}

impl Confirmer {
    /// The number of leases above which those without a request for an hour are dropped.
    const MANY: usize = 4_096;
    const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

    pub(crate) fn new(wanted: Replicas, route: Arc<Route>, keys: Keys, events: Events) -> Self {
        let waiting = Waiting { route, keys, events, leases: Mutex::default() };
        Self { wanted, waiting: Arc::new(waiting), under_way: Mutex::default() }
    }

    /// Notes a lease that may be granted later.
    pub(crate) fn expect(&self, id: LeaseId) {
        let mut leases = self.waiting.leases();
        leases.insert(id, State { touched: Instant::now(), step: Step::Unasked, found: None });
        if leases.len() > Self::MANY {
            leases.retain(|_, state| state.touched.elapsed() < Self::FORGOTTEN_AFTER);
        }
    }

    /// Notes that a lease is held and confirmed, or released.
    pub(crate) fn forget(&self, id: LeaseId) {
        self.waiting.leases().remove(&id);
    }

    /// Notes leases that an extension has found held.
    pub(crate) fn found(&self, answered: &Replied, ids: impl Iterator<Item = LeaseId>) {
        let mut leases = self.waiting.leases();
        for id in ids {
            if let Some(state) = leases.get_mut(&id) {
                state.found = Some(Found { primary: answered.primary.clone(), conn: answered.conn.clone() });
            }
        }
    }

    /// The answer to an extension that [found](Self::found) a lease held. Until its grant is confirmed, the lease
    /// counts as waiting, and the replicas are asked in the background.
    pub(crate) fn extended(&self, key: &LeaseKey, grant: Grant) -> Extended {
        let mut leases = self.waiting.leases();
        let Some(state) = leases.get_mut(&key.id) else { return Extended::Held(grant) };
        state.touched = Instant::now();
        let found = state.found.take();
        if state.step == Step::GivenBack {
            return Extended::Gone { taken: false };
        }
        if let Some(found) = found.filter(|_| state.step == Step::Unasked) {
            state.step = Step::Asked;
            let (waiting, wanted, key) = (self.waiting.clone(), self.wanted, key.clone());
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            while under_way.try_join_next().is_some() {}
            under_way.spawn(async move { waiting.confirm(wanted, &key, grant, found).await });
        }
        Extended::Queued(Place { ahead: 0, ask_again: self.wanted.within })
    }
}

impl Waiting {
    async fn confirm(&self, wanted: Replicas, key: &LeaseKey, grant: Grant, found: Found) {
        let bucket = Keys::bucket(&key.resource);
        let counted = found.primary.confirmed(&found.conn, self.keys.confirmed(bucket)).await;
        let is_had = counted.map(|count| count >= wanted.count.into()).ok();
        if !self.leases().contains_key(&key.id) {
            return; // it was released meanwhile
        }
        let step = match is_had {
            Some(true) => {
                if self.leases().remove(&key.id).is_some() {
                    self.events.send(Event::Granted { id: key.id, token: grant.token });
                }
                return;
            }
            Some(false) if self.release(bucket, key).await.is_ok() => Step::GivenBack,
            _ => Step::Unasked, // the next extension asks again
        };
        if let Some(state) = self.leases().get_mut(&key.id) {
            state.step = step;
        }
    }

    async fn release(&self, bucket: u16, key: &LeaseKey) -> Result<(), CallError> {
        let build = |args: &mut Args| {
            args.fixed("2");
            args.text(self.keys.resource(&key.resource));
            args.text(self.keys.set(&key.resource));
            args.bytes(scripts::packed_release(key.id, Duration::ZERO));
        };
        self.route.run(bucket, Purpose::GiveBack, &scripts::GIVE_BACK, build).await.map(drop)
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<LeaseId, State>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
