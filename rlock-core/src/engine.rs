//! Drives every lease of a client: sends its requests to the store, and keeps one schedule of all deadlines.
//!
//! Every lease is a small state machine behind a lock of its own. It is moved by answers from the store
//! (`claim`, `extend`, `release`), by its timer, by events, and by its user. No thread holds two leases' locks, and a
//! lease's lock is taken before the schedule's.

mod batcher;
mod callbacks;
mod claim;
mod extend;
mod lease;
mod release;
mod renewal;
mod schedule;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use self::batcher::Batcher;
use self::callbacks::Callbacks;
pub(crate) use self::claim::{Pending, Request};
pub(crate) use self::lease::Lease;
use self::lease::{Phase, State};
use self::schedule::Schedule;
use crate::metrics::ClientMetrics;
use crate::{
    Backend, BackendError, Clock, Event, EventStream, Failure, LeaseId, LockError, LossReason, Moment, Owner,
    ShutdownError, Ttl,
};

/// The settings of a client.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) clock: Clock,
    pub(crate) owner: Owner,
    pub(crate) default_ttl: Ttl,
    pub(crate) retry_for: Duration,
    pub(crate) drop_timeout: Duration,
}

/// The working part of a client.
pub(crate) struct Engine {
    backend: Arc<dyn Backend>,
    store: Arc<str>,
    settings: Settings,
    owner: Arc<Owner>,
    runtime: Handle,
    /// Every lease that is not settled with the store.
    leases: Mutex<HashMap<LeaseId, Arc<Lease>>>,
    schedule: Schedule,
    claims: Batcher<Arc<Lease>>,
    extensions: Batcher<Arc<Lease>>,
    releases: Batcher<Arc<Lease>>,
    callbacks: Arc<Callbacks>,
    metrics: ClientMetrics,
    generations: AtomicU64,
    /// No more locks are taken.
    closed: AtomicBool,
    /// A shutdown has waited for everything to be given back, and has reported.
    was_shut_down: AtomicBool,
    /// The last handle of this client has been dropped.
    deserted: AtomicBool,
    /// The runtime under the client has ended.
    dead: AtomicBool,
    all_settled: Notify,
    /// The number of leases that were [abandoned](Self::abandon).
    abandoned: AtomicUsize,
    /// Wakes threads that wait for an empty table of leases.
    table_emptied: Condvar,
}

/// A backend call that takes longer than this counts as unanswered. Backends have limits of their own, far below.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// The least time for which a client without handles goes on with its releases.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

impl Engine {
    /// The engine, and the events that [`drive`](Self::drive) is to attend to. They are asked for here, before the
    /// first claim can be made: one that is granted at once must not miss its event.
    pub(crate) fn new(backend: Arc<dyn Backend>, runtime: Handle, settings: Settings) -> (Arc<Self>, EventStream) {
        let name = backend.capabilities().backend;
        let events = {
            let _context = runtime.enter();
            backend.events()
        };
        let engine = Self {
            store: Arc::from(name),
            owner: Arc::new(settings.owner.clone()),
            settings,
            runtime,
            leases: Mutex::default(),
            schedule: Schedule::default(),
            claims: Batcher::new(3, 256),
            extensions: Batcher::new(8, 1024),
            releases: Batcher::new(3, 256),
            callbacks: Arc::default(),
            metrics: ClientMetrics::new(name),
            generations: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            was_shut_down: AtomicBool::new(false),
            deserted: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            abandoned: AtomicUsize::new(0),
            all_settled: Notify::new(),
            table_emptied: Condvar::new(),
            backend,
        };
        (Arc::new(engine), events)
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn open_leases(&self) -> usize {
        self.table().len()
    }

    pub(crate) fn scheduled(&self) -> usize {
        self.schedule.len()
    }

    /// Attends to the schedule and to the store's events until the client has no handle. The engine ends with the future,
    /// even if that is never polled.
    pub(crate) fn drive(self: Arc<Self>, events: EventStream) -> impl Future<Output = ()> + Send {
        let on_every_way_out = MarkDead(self.clone());
        async move {
            let _on_every_way_out = on_every_way_out;
            self.attend_to_all(events).await;
        }
    }

    async fn attend_to_all(self: Arc<Self>, events: EventStream) {
        let listener = self.runtime.spawn(self.clone().listen(events));
        let mut due = Vec::new();
        let mut drained = None;
        loop {
            let settled = self.all_settled.notified();
            let next = self.schedule.take_due(self.now(), 4096, &mut due);
            for lease in due.drain(..) {
                self.attend(&lease);
            }
            self.send_extensions();
            if self.deserted.load(Ordering::Acquire) {
                let limit =
                    *drained.get_or_insert_with(|| self.now().after(DRAIN_LIMIT.max(self.settings.drop_timeout)));
                if self.open_leases() == 0 || self.now() >= limit {
                    break;
                }
            }
            let wake = [next, drained].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = self.schedule.earlier() => {}
                () = self.settings.clock.sleep_until(wake.unwrap_or_default()), if wake.is_some() => {}
                () = settled, if drained.is_some() => {}
            }
        }
        listener.abort();
    }

    async fn listen(self: Arc<Self>, mut events: EventStream) {
        let listening = AssertUnwindSafe(async {
            while let Some(event) = events.next().await {
                self.hear(event);
            }
        });
        if listening.catch_unwind().await.is_err() {
            tracing::error!(backend = %self.store, "the backend's event stream panicked; waiters are asked about instead");
        }
    }

    fn hear(self: &Arc<Self>, event: Event) {
        match event {
            Event::Granted { id, token } => {
                if let Some(lease) = self.find(id) {
                    self.granted_by_event(&lease, token);
                }
            }
            Event::Broken { id } => {
                if let Some(lease) = self.find(id) {
                    self.broken_by_event(&lease);
                }
            }
            Event::Resync => {
                let leases: Vec<_> = self.table().values().cloned().collect();
                for lease in leases {
                    self.ask_again(&lease);
                }
            }
        }
        self.send_extensions();
    }

    /// Does what is due for a lease whose timer has come.
    fn attend(self: &Arc<Self>, lease: &Arc<Lease>) {
        let mut state = lease.lock();
        let now = self.now();
        // It may have been given another one since it was taken out.
        if state.timer.is_some_and(|(at, _)| at <= now) {
            state.timer = None;
        }
        let due = state.due.is_some_and(|due| due <= now);
        match state.phase {
            Phase::Asking | Phase::Queued if state.wait_until.is_some_and(|until| until <= now) => {
                self.time_out(lease, &mut state);
            }
            Phase::Asking if due => self.send_claim(lease, &mut state),
            Phase::Queued if due => self.keep_place(lease, &mut state, now),
            Phase::Held(_) if state.alive_until <= now => self.lose(lease, &mut state, LossReason::Expired),
            Phase::Held(_) if due => self.keep_alive(lease, &mut state, now),
            Phase::Releasing if due => self.send_release(lease, &mut state),
            _ => {}
        }
        self.reschedule(lease, &mut state);
    }

    /// Moves a lease on, and keeps count.
    fn enter(&self, lease: &Lease, state: &mut State, phase: Phase) {
        let held_for = self.now().since(state.since);
        match (state.phase, phase) {
            (Phase::Held(_), Phase::Held(_)) => {}
            (Phase::Held(_), _) => {
                self.end_watchdog(state);
                match state.lost {
                    Some(reason) => self.metrics.lost(lease.kind, reason, held_for),
                    None => self.metrics.given_back(lease.kind, held_for),
                }
            }
            (Phase::Queued, next) if next != Phase::Queued => self.metrics.no_longer_queued(),
            _ => {}
        }
        match (state.phase, phase) {
            (Phase::Queued, Phase::Queued) => {}
            (_, Phase::Queued) => self.metrics.queued(),
            (_, Phase::Held(_)) => self.metrics.granted(),
            _ => {}
        }
        state.phase = phase;
        lease.publish_deadline(state);
    }

    /// Brings the timer of a lease up to date. Every path that holds its lock ends with this.
    fn reschedule(&self, lease: &Arc<Lease>, state: &mut State) {
        let next = state.next_timer();
        self.schedule.set(&mut state.timer, next, lease);
    }

    /// Ends what the client knows of a lease.
    fn settle(&self, lease: &Arc<Lease>, state: &mut State) {
        self.enter(lease, state, Phase::Settled);
        state.due = None;
        self.reschedule(lease, state);
        let mut table = self.table();
        table.remove(&lease.key.id);
        if table.is_empty() {
            self.all_settled.notify_waiters();
            self.table_emptied.notify_all();
        }
    }

    pub(crate) async fn ask<T, F>(
        &self,
        operation: &'static str,
        call: impl FnOnce(Arc<dyn Backend>) -> F,
    ) -> Result<T, BackendError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, BackendError>> + Send + 'static,
    {
        let call = call(self.backend.clone());
        let limited = async move { tokio::time::timeout(CALL_LIMIT, call).await };
        match self.runtime.spawn(limited).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.unanswered(operation)),
            Err(_) => Err(self.not_to_be_had(operation)),
        }
    }

    pub(crate) async fn shutdown(self: &Arc<Self>, timeout: Duration) -> Result<(), ShutdownError> {
        self.close();
        let until = self.now().after(timeout);
        let this = self.clone();
        let settled = self.runtime.spawn(async move {
            loop {
                let settled = this.all_settled.notified();
                if this.open_leases() == 0 {
                    return;
                }
                tokio::select! {
                    () = settled => {}
                    () = this.settings.clock.sleep_until(until) => return,
                }
            }
        });
        let _on_a_dead_runtime = settled.await;
        self.was_shut_down.store(true, Ordering::Release);
        match self.open_leases() {
            0 => Ok(()),
            unconfirmed => Err(ShutdownError { unconfirmed, timeout }),
        }
    }

    fn close(self: &Arc<Self>) {
        let leases: Vec<_> = {
            let table = self.table();
            self.closed.store(true, Ordering::Release);
            table.values().cloned().collect()
        };
        for lease in leases {
            let mut state = lease.lock();
            if matches!(state.phase, Phase::Held(_)) {
                self.lose(&lease, &mut state, LossReason::Shutdown);
            }
            if !matches!(state.phase, Phase::Releasing | Phase::Settled) {
                // Ends a `lock` future, even one that has not yet seen its grant.
                state.outcome = Some(LockError::Closed { resource: lease.key.resource.clone() });
                lease.changed.notify_one();
            }
            self.give_back(&lease, &mut state);
            self.reschedule(&lease, &mut state);
        }
    }

    /// Ends the engine once its leases are settled, since its last handle was dropped.
    pub(crate) fn no_more_users(&self) {
        self.deserted.store(true, Ordering::Release);
        self.schedule.wake();
    }

    fn find(&self, id: LeaseId) -> Option<Arc<Lease>> {
        self.table().get(&id).cloned()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<LeaseId, Arc<Lease>>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        self.settings.clock.now()
    }

    /// Runs a worker: `send` for what is at hand, and again for what has come meanwhile.
    fn work<F>(
        self: &Arc<Self>,
        first: Vec<Arc<Lease>>,
        batcher: impl Fn(&Self) -> &Batcher<Arc<Lease>> + Send + 'static,
        send: impl Fn(Arc<Self>, Vec<Arc<Lease>>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let this = self.clone();
        self.runtime.spawn(async move {
            let place = Place(batcher(&this));
            let mut batch = first;
            loop {
                send(this.clone(), batch).await;
                match place.0.next() {
                    Some(next) => batch = next,
                    None => return std::mem::forget(place),
                }
            }
        });
    }

    /// Makes a call to the backend: bounded in time, and answered for each of `count` entries even if the backend
    /// panics.
    async fn call<T>(
        &self,
        operation: &'static str,
        count: usize,
        call: impl Future<Output = Vec<Result<T, BackendError>>>,
    ) -> Vec<Result<T, BackendError>> {
        let answers = match tokio::time::timeout(CALL_LIMIT, AssertUnwindSafe(call).catch_unwind()).await {
            Ok(Ok(answers)) if answers.len() == count => return answers,
            Ok(Ok(answers)) => format!("the backend gave {} answers to {count} requests", answers.len()),
            Ok(Err(_)) => "the backend panicked".to_owned(),
            Err(_) => format!("no answer within {CALL_LIMIT:?}"),
        };
        tracing::error!(backend = %self.store, operation, reason = %answers, "the backend broke its contract");
        let failure = BackendError::Unknown(Failure::new(operation, self.store.clone(), answers));
        (0..count).map(|_| Err(failure.clone())).collect()
    }

    fn unanswered(&self, operation: &'static str) -> BackendError {
        BackendError::Unknown(Failure::new(operation, self.store.clone(), format!("no answer within {CALL_LIMIT:?}")))
    }

    fn not_to_be_had(&self, operation: &'static str) -> BackendError {
        let reason = "the runtime under the client has ended, or the backend panicked; connect a new client";
        BackendError::Unknown(Failure::new(operation, self.store.clone(), reason))
    }
}

/// A worker's place, which is free again if the worker panics.
struct Place<'a>(&'a Batcher<Arc<Lease>>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Abandons every lease when the runtime under a client ends, because no request would be answered any more.
struct MarkDead(Arc<Engine>);

impl Drop for MarkDead {
    fn drop(&mut self) {
        let engine = &self.0;
        engine.dead.store(true, Ordering::Release);
        engine.close();
        let leases: Vec<_> = engine.table().values().cloned().collect();
        for lease in leases {
            let mut state = lease.lock();
            engine.abandon(&lease, &mut state);
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("backend", &self.backend).finish_non_exhaustive()
    }
}
