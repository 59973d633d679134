//! The metrics of one client, through the `metrics` facade.

use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::LockKind;
use super::deferred::Handles;
use crate::lease::LossReason;

/// The outcome of an acquisition.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AcquireOutcome {
    Acquired,
    Busy,
    Dropped,
    Failed,
    TimedOut,
}

/// The outcome of one extension or release.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RequestOutcome {
    Done,
    Gone,
    Failed,
}

/// The way in which a waiter learnt of its grant.
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

    /// The same metrics, by handles whose changes wait in `handles`.
    pub(super) fn deferred(&self, handles: &mut Handles) -> Self {
        Self {
            acquire: self.acquire.each_ref().map(|kind| kind.each_ref().map(|of| handles.histogram(of))),
            hold: self.hold.each_ref().map(|kind| kind.each_ref().map(|of| handles.histogram(of))),
            held: handles.gauge(&self.held),
            waiters: handles.gauge(&self.waiters),
            extends: self.extends.each_ref().map(|of| handles.counter(of)),
            extend_duration: handles.histogram(&self.extend_duration),
            extend_lag: handles.histogram(&self.extend_lag),
            lost: self.lost.each_ref().map(|of| handles.counter(of)),
            releases: self.releases.each_ref().map(|of| handles.counter(of)),
            wakeups: self.wakeups.each_ref().map(|of| handles.counter(of)),
            watchdogs: handles.gauge(&self.watchdogs),
        }
    }

    pub(crate) fn acquire_ended(&self, kind: LockKind, outcome: AcquireOutcome, took: Duration) {
        self.acquire[kind as usize][outcome as usize].record(took);
    }

    pub(crate) fn granted(&self) {
        self.held.increment(1);
    }

    pub(crate) fn given_back(&self, kind: LockKind, held_for: Duration) {
        self.held.decrement(1);
        self.hold[kind as usize][0].record(held_for);
    }

    pub(crate) fn lost(&self, kind: LockKind, reason: LossReason, held_for: Duration) {
        self.held.decrement(1);
        self.hold[kind as usize][1].record(held_for);
        self.lost[reason.index()].increment(1);
    }

    pub(crate) fn queued(&self) {
        self.waiters.increment(1);
    }

    pub(crate) fn no_longer_queued(&self) {
        self.waiters.decrement(1);
    }

    pub(crate) fn woken(&self, how: WakeUp) {
        self.wakeups[how as usize].increment(1);
    }

    pub(crate) fn extension_answered(&self, outcome: RequestOutcome, took: Duration) {
        self.extends[outcome as usize].increment(1);
        self.extend_duration.record(took);
    }

    pub(crate) fn extension_begun(&self, late: Duration) {
        self.extend_lag.record(late);
    }

    pub(crate) fn released(&self, outcome: RequestOutcome) {
        self.releases[outcome as usize].increment(1);
    }

    pub(crate) fn watchdog_started(&self) {
        self.watchdogs.increment(1);
    }

    pub(crate) fn watchdog_ended(&self) {
        self.watchdogs.decrement(1);
    }
}
