//! What is counted: through the `metrics` facade for exporters, and as a snapshot without one.
//!
//! Names are Prometheus names with their units in them, durations are in seconds, and no label ever carries a
//! name, a token or an owner. Install your recorder before the first client is made: a client asks for its handles
//! once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram};
use ::metrics::{gauge, histogram};

use crate::lock_kind::LockKind;
use crate::{LossReason, WatchdogStats};

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
    /// The counters at this instant. They are read one after another.
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

/// What the process has done since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Of its locks.
    pub locks: LockStats,
    /// Of its watchdogs.
    pub watchdog: WatchdogStats,
}

/// What the locks of the process have done since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LockStats {
    /// Locks that were granted.
    pub acquired: u64,
    /// Locks that were given back while they were held.
    pub released: u64,
    /// Locks that were lost.
    pub lost: u64,
    /// Locks that are held now.
    pub held: u64,
    /// Locks that are waited for in a queue now.
    pub waiting: u64,
}

/// Tells the recorder the unit and the meaning of every metric.
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

/// How an acquisition ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AcquireOutcome {
    Acquired,
    Busy,
    Dropped,
    Failed,
    TimedOut,
}

/// What became of one extension or release.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Done,
    Gone,
    Failed,
}

/// How a waiter learnt of its grant.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WakeUp {
    Asked,
    Pushed,
}

/// The handles of one client.
pub(crate) struct ClientMetrics {
    acquire: [[Histogram; 5]; 4],
    hold: [[Histogram; 2]; 4],
    held: Gauge,
    waiters: Gauge,
    extends: [Counter; 3],
    extend_duration: Histogram,
    extend_lag: Histogram,
    lost: [Counter; LossReason::ALL.len()],
    releases: [Counter; 3],
    wakeups: [Counter; 2],
    watchdogs: Gauge,
}

impl ClientMetrics {
    pub(crate) fn new(backend: &'static str) -> Self {
        let acquire = |kind: LockKind, outcome: &'static str| histogram!("rlock_acquire_duration_seconds", "backend" => backend, "kind" => kind.as_str(), "outcome" => outcome);
        let hold = |kind: LockKind, outcome: &'static str| histogram!("rlock_hold_duration_seconds", "backend" => backend, "kind" => kind.as_str(), "outcome" => outcome);
        let outcomes = ["acquired", "busy", "dropped", "failed", "timed_out"];
        Self {
            acquire: LockKind::ALL.map(|kind| outcomes.map(|outcome| acquire(kind, outcome))),
            hold: LockKind::ALL.map(|kind| ["released", "lost"].map(|outcome| hold(kind, outcome))),
            held: gauge!("rlock_held", "backend" => backend),
            waiters: gauge!("rlock_waiters", "backend" => backend),
            extends: ["ok", "gone", "failed"]
                .map(|outcome| counter!("rlock_extends_total", "backend" => backend, "outcome" => outcome)),
            extend_duration: histogram!("rlock_extend_duration_seconds", "backend" => backend),
            extend_lag: histogram!("rlock_extend_lag_seconds", "backend" => backend),
            lost: LossReason::ALL
                .map(|reason| counter!("rlock_lost_total", "backend" => backend, "reason" => reason.as_str())),
            releases: ["released", "absent", "failed"]
                .map(|outcome| counter!("rlock_releases_total", "backend" => backend, "outcome" => outcome)),
            wakeups: ["ask", "push"]
                .map(|source| counter!("rlock_wakeups_total", "backend" => backend, "source" => source)),
            watchdogs: gauge!("rlock_watchdogs", "backend" => backend),
        }
    }

    pub(crate) fn acquire_ended(&self, kind: LockKind, outcome: AcquireOutcome, took: Duration) {
        self.acquire[kind as usize][outcome as usize].record(took);
    }

    pub(crate) fn granted(&self) {
        self.held.increment(1);
        count(&GLOBAL.acquired);
        count(&GLOBAL.held);
    }

    pub(crate) fn given_back(&self, kind: LockKind, held_for: Duration) {
        self.no_longer_held(kind, 0, held_for);
        count(&GLOBAL.released);
    }

    pub(crate) fn lost(&self, kind: LockKind, reason: LossReason, held_for: Duration) {
        self.no_longer_held(kind, 1, held_for);
        self.lost[reason.index()].increment(1);
        count(&GLOBAL.lost);
    }

    fn no_longer_held(&self, kind: LockKind, outcome: usize, held_for: Duration) {
        self.held.decrement(1);
        self.hold[kind as usize][outcome].record(held_for);
        uncount(&GLOBAL.held);
    }

    pub(crate) fn queued(&self) {
        self.waiters.increment(1);
        count(&GLOBAL.waiting);
    }

    pub(crate) fn no_longer_queued(&self) {
        self.waiters.decrement(1);
        uncount(&GLOBAL.waiting);
    }

    pub(crate) fn woken(&self, how: WakeUp) {
        self.wakeups[how as usize].increment(1);
    }

    pub(crate) fn extension_answered(&self, answer: Answer, took: Duration) {
        self.extends[answer as usize].increment(1);
        self.extend_duration.record(took);
    }

    pub(crate) fn extension_begun(&self, late: Duration) {
        self.extend_lag.record(late);
    }

    pub(crate) fn released(&self, answer: Answer) {
        self.releases[answer as usize].increment(1);
    }

    pub(crate) fn watchdog_started(&self) {
        self.watchdogs.increment(1);
        count(&GLOBAL.watchdogs);
    }

    pub(crate) fn watchdog_ended(&self) {
        self.watchdogs.decrement(1);
        uncount(&GLOBAL.watchdogs);
    }

    pub(crate) fn watchdog_extended(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        GLOBAL.extend_nanos.fetch_add(nanos, Ordering::Relaxed);
        count(&GLOBAL.extended);
    }

    pub(crate) fn watchdog_failed(&self) {
        count(&GLOBAL.failed);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn uncount(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}
