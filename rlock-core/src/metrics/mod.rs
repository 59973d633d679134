//! Metrics through the `metrics` facade for exporters, and statistics as a snapshot without an exporter.
//!
//! Names are Prometheus names that include their units, durations are in seconds, and no label ever contains a name, a
//! token or an owner. Install your recorder before the first client is made: a client gets its metric handles only
//! once. A recorder must not block: only losses and failed releases are counted on a thread of their own, all other
//! events in line.

mod client;
mod deferred;
mod lock_kind;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(crate) use self::client::{AcquireOutcome, ClientMetrics, RequestOutcome, WakeUp};
pub(crate) use self::deferred::DeferredMetrics;
pub(crate) use self::lock_kind::LockKind;

/// The statistics of the process, over all its clients.
pub fn global() -> &'static Metrics {
    &GLOBAL
}

static GLOBAL: Metrics = Metrics {
    acquired: AtomicU64::new(0),
    released: AtomicU64::new(0),
    lost: AtomicU64::new(0),
    held: AtomicU64::new(0),
    waiting: AtomicU64::new(0),
    watchdogs: AtomicU64::new(0),
    extended: AtomicU64::new(0),
    failed: AtomicU64::new(0),
    extend_nanos: AtomicU64::new(0),
};

/// Counters of the process, over all its clients.
#[derive(Debug)]
pub struct Metrics {
    acquired: AtomicU64,
    released: AtomicU64,
    lost: AtomicU64,
    held: AtomicU64,
    waiting: AtomicU64,
    watchdogs: AtomicU64,
    extended: AtomicU64,
    failed: AtomicU64,
    extend_nanos: AtomicU64,
}

impl Metrics {
    /// The counters at this instant. They are read one after the other.
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (successful_extends, failed_extends) = (read(&self.extended), read(&self.failed));
        let average = read(&self.extend_nanos).checked_div(successful_extends).unwrap_or_default();
        Stats {
            locks: LockStats {
                acquired: read(&self.acquired),
                released: read(&self.released),
                lost: read(&self.lost),
                held: read(&self.held),
                waiting: read(&self.waiting),
            },
            watchdog: WatchdogStats {
                active_watchdogs: read(&self.watchdogs),
                total_extends: successful_extends + failed_extends,
                successful_extends,
                failed_extends,
                average_extend_time: Duration::from_nanos(average),
            },
        }
    }
}

/// The statistics of the process since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// Statistics of its locks.
    pub locks: LockStats,
    /// Statistics of its watchdogs.
    pub watchdog: WatchdogStats,
}

/// The statistics of the locks of the process since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LockStats {
    /// Locks that were granted.
    pub acquired: u64,
    /// Locks that were released while they were held.
    pub released: u64,
    /// Locks that were lost.
    pub lost: u64,
    /// Locks that are held now.
    pub held: u64,
    /// Locks that wait in a queue now.
    pub waiting: u64,
}

/// The statistics of the watchdogs of the process since it started.
///
/// `total_extends` is the sum of `successful_extends` and `failed_extends`. The numbers are read one after the other,
/// so the sum is exact only while nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WatchdogStats {
    /// Watchdogs that are running.
    pub active_watchdogs: u64,
    /// Scheduled extensions that have ended, successful or not.
    pub total_extends: u64,
    /// Successful scheduled extensions, at the first try or a later one.
    pub successful_extends: u64,
    /// Scheduled extensions that failed with all their retries, or that found the lease gone.
    pub failed_extends: u64,
    /// The average time from sending a successful extension to its answer.
    pub average_extend_time: Duration,
}

/// Registers the unit and the description of every metric with the recorder.
pub fn describe_metrics() {
    describe_histogram!("rlock_acquire_duration_seconds", Unit::Seconds, "From asking for a lock to the outcome");
    describe_histogram!("rlock_hold_duration_seconds", Unit::Seconds, "From a lock's grant to its release or loss");
    describe_gauge!("rlock_held", Unit::Count, "Locks that are held");
    describe_gauge!("rlock_waiters", Unit::Count, "Locks that are waited for in a queue");
    describe_counter!("rlock_extends_total", Unit::Count, "Extensions of held locks that were answered, by outcome");
    describe_histogram!("rlock_extend_duration_seconds", Unit::Seconds, "From sending an extension to its answer");
    describe_histogram!("rlock_extend_lag_seconds", Unit::Seconds, "How late scheduled extensions were begun");
    describe_counter!("rlock_lost_total", Unit::Count, "Locks that were lost, by reason");
    describe_counter!("rlock_releases_total", Unit::Count, "Releases that were answered or given up, by outcome");
    describe_counter!("rlock_wakeups_total", Unit::Count, "Waiters that were granted their lock, by how they learnt");
    describe_gauge!("rlock_watchdogs", Unit::Count, "Watchdogs that are running");
}

/// An event that the statistics of the process count.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counted {
    Queued,
    Unqueued,
    Granted,
    GivenBack,
    Lost,
    WatchdogStarted,
    WatchdogEnded,
    /// A scheduled extension succeeded, after this time.
    Extended(Duration),
    ExtensionFailed,
}

pub(crate) fn count(event: Counted) {
    let add = |counter: &AtomicU64| _ = counter.fetch_add(1, Ordering::Relaxed);
    let subtract = |counter: &AtomicU64| _ = counter.fetch_sub(1, Ordering::Relaxed);
    match event {
        Counted::Queued => add(&GLOBAL.waiting),
        Counted::Unqueued => subtract(&GLOBAL.waiting),
        Counted::Granted => {
            add(&GLOBAL.acquired);
            add(&GLOBAL.held);
        }
        Counted::GivenBack => {
            subtract(&GLOBAL.held);
            add(&GLOBAL.released);
        }
        Counted::Lost => {
            subtract(&GLOBAL.held);
            add(&GLOBAL.lost);
        }
        Counted::WatchdogStarted => add(&GLOBAL.watchdogs),
        Counted::WatchdogEnded => subtract(&GLOBAL.watchdogs),
        Counted::Extended(took) => {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            GLOBAL.extend_nanos.fetch_add(nanos, Ordering::Relaxed);
            add(&GLOBAL.extended);
        }
        Counted::ExtensionFailed => add(&GLOBAL.failed),
    }
}
