//! Drives the leases of a client: batches their requests, runs one timer, and carries out the effects of their steps.
//!
//! Every lease is a [machine](crate::lease) behind a mutex of its own, in a [`Slot`]. A step takes the mutex, moves the
//! machine, updates [`Leases`] or the schedule, and releases the mutex. Then it signals a loss first, wakes users and
//! sends requests, and last serves metrics, logs and callbacks. No thread holds two slots. The mutexes of the schedule, of
//! [`Leases`] and of a watchdog's pending callbacks may be taken while a slot's is held; those of the lanes are not.
//!
//! - `step`: one step and its effects.
//! - `claim`, `hold`, `release`, `handle`: the operations of users.
//! - `requests`: requests to the store, alone or in batches, and their answers.
//! - `together`: several futures, whose requests are queued at once.
//! - `lane`, `window`: the requests of one verb that are under way or wait for their turn.
//! - `lanes`: the lane of a request, and the size of the call that repeats it.
//! - `observe`, `reports`: metrics and logs of steps; those of failures are made on another thread.
//! - `schedule`: leases by the next moment at which they need attention.
//! - `life`: the task that fires timers, the task that listens to the store's events, and the end of a client.
//! - `slot`, `leases`: one lease with its data; all leases by their ids, and the tasks that wait for a removal.
//! - `callbacks`, `quietly`: calls into the user's code, and its panics.

mod call;
mod callbacks;
mod claim;
mod defaults;
mod handle;
mod hold;
mod lane;
mod lanes;
mod leases;
mod life;
mod observe;
mod queue_place;
mod quietly;
mod release;
mod reports;
mod requests;
mod schedule;
mod slot;
mod step;
mod together;
mod watch;
mod window;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;

use self::callbacks::Callbacks;
pub(crate) use self::claim::Claimed;
pub(crate) use self::defaults::Defaults;
use self::lane::{Lane, Shares};
use self::lanes::{LaneId, Lanes};
use self::leases::Leases;
pub use self::queue_place::QueuePlace;
pub(crate) use self::quietly::{QuietWaker, quietly};
use self::reports::Reports;
use self::schedule::Schedule;
pub(crate) use self::slot::{LockRequest, Slot};
pub(crate) use self::together::{send_collected, together};
use crate::clock::{Clock, Moment};
use crate::contract::{Backend, BackendError, EventStream, Failure, Owner, Ttl};
use crate::error::InvalidConfig;
use crate::lease::Verb;
use crate::metrics::{ClientMetrics, DeferredMetrics};

/// The settings of a client.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) clock: Clock,
    pub(crate) owner: Owner,
    pub(crate) defaults: Defaults,
    pub(crate) retry_for: Duration,
    pub(crate) drop_timeout: Duration,
}

/// The working part of a client.
pub(crate) struct Driver {
    backend: Arc<dyn Backend>,
    store: Arc<str>,
    settings: Settings,
    owner: Arc<Owner>,
    runtime: Handle,
    /// The leases that are not forgotten yet.
    leases: Leases,
    schedule: Schedule,
    claims: Lanes,
    extensions: Lanes,
    releases: Lanes,
    callbacks: Arc<Callbacks>,
    log: Arc<Reports>,
    measurements: Arc<Reports>,
    metrics: ClientMetrics,
    /// The metrics of failures.
    failures: Arc<DeferredMetrics>,
    numbers: AtomicU64,
    /// A shutdown has waited for the releases, and has reported the result.
    was_shut_down: AtomicBool,
    /// The last handle of this client was dropped.
    is_deserted: AtomicBool,
    /// The runtime under the client has ended.
    is_dead: AtomicBool,
    /// The number of leases whose release will never be confirmed.
    abandoned: AtomicUsize,
}

/// Requests that users wait for. In a larger call the share of each in the cost of the call is small already, and the
/// client would wait for the store and the store for the client.
const AWAITED: Shares = Shares { worth_a_call: 32, max: 256 };
/// Extensions, for which users rarely wait: few large calls cost less than many small ones.
const RENEWED: Shares = Shares { worth_a_call: 1024, max: 1024 };
/// The longest time to wait for an answer of the store. The limits of the backends are far shorter.
const LONGEST_CALL: Duration = Duration::from_secs(60);

impl Driver {
    /// Creates the driver, and takes the stream of events for [`drive`](Self::drive). The stream is taken here, before
    /// the first claim can be made, because a waiter that is granted at once must not miss its event.
    pub(crate) fn new(backend: Arc<dyn Backend>, runtime: Handle, settings: Settings) -> (Arc<Self>, EventStream) {
        let name = backend.capabilities().backend;
        let events = {
            let _context = runtime.enter();
            backend.events()
        };
        let metrics = ClientMetrics::new(name);
        let driver = Self {
            store: Arc::from(name),
            owner: Arc::new(settings.owner.clone()),
            settings,
            runtime,
            leases: Leases::default(),
            schedule: Schedule::default(),
            claims: Lanes::new(AWAITED),
            extensions: Lanes::new(RENEWED),
            releases: Lanes::new(AWAITED),
            callbacks: Arc::default(),
            log: Arc::default(),
            measurements: Arc::default(),
            failures: Arc::new(DeferredMetrics::of(&metrics)),
            metrics,
            numbers: AtomicU64::new(0),
            was_shut_down: AtomicBool::new(false),
            is_deserted: AtomicBool::new(false),
            is_dead: AtomicBool::new(false),
            abandoned: AtomicUsize::new(0),
            backend,
        };
        (Arc::new(driver), events)
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

    pub(crate) fn now(&self) -> Moment {
        self.settings.clock.now()
    }

    pub(crate) fn open_leases(&self) -> usize {
        self.leases.len()
    }

    /// Whether new claims are refused.
    pub(crate) fn is_closed(&self) -> bool {
        self.leases.is_closed() || self.is_dead.load(Ordering::Acquire)
    }

    /// The number of leases with a timer in the schedule.
    pub(crate) fn scheduled(&self) -> usize {
        self.schedule.len()
    }

    /// Makes a call that concerns no lease.
    pub(crate) async fn call<T, F>(
        &self,
        operation: &'static str,
        call: impl FnOnce(Arc<dyn Backend>) -> F,
    ) -> Result<T, BackendError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, BackendError>> + Send + 'static,
    {
        self.call_within(LONGEST_CALL, operation, call).await
    }

    /// Makes a call that concerns no lease of this client, for `limit` at most.
    async fn call_within<T, F>(
        &self,
        limit: Duration,
        operation: &'static str,
        call: impl FnOnce(Arc<dyn Backend>) -> F,
    ) -> Result<T, BackendError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, BackendError>> + Send + 'static,
    {
        let call = call(self.backend.clone());
        let limited = async move { timeout(limit, call).await };
        let reason = match self.runtime.spawn(limited).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(_)) => format!("no answer within {limit:?}"),
            Err(_) => {
                "the runtime under the client has ended, or the backend panicked; connect a new client".to_owned()
            }
        };
        Err(BackendError::Unknown(Failure::new(operation, self.store.clone(), reason)))
    }

    /// Refuses a TTL that the store cannot keep.
    fn check_max(&self, ttl: Ttl) -> Result<(), InvalidConfig> {
        let can = self.backend.capabilities();
        if ttl > can.max_ttl {
            return Err(InvalidConfig::TtlTooLong { ttl, backend: can.backend, max: can.max_ttl });
        }
        Ok(())
    }

    /// A number that is unique in this client.
    fn new_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn lanes(&self, verb: Verb) -> &Lanes {
        match verb {
            Verb::Claim => &self.claims,
            Verb::Extend => &self.extensions,
            Verb::Release => &self.releases,
        }
    }

    fn lane(&self, LaneId { verb, is_repeated }: LaneId) -> &Lane<Arc<Slot>> {
        self.lanes(verb).get(is_repeated)
    }

    fn stuck_after(&self, LaneId { verb, is_repeated }: LaneId) -> Duration {
        self.lanes(verb).stuck_after(is_repeated)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("backend", &self.backend).finish_non_exhaustive()
    }
}
