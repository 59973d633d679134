//! The documented metrics, as a recorder sees them.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use rlock_core::{LossReason, SimpleLock, metrics::describe_metrics};
use tokio::time::sleep;

use support::{Fate, TTL, World, options, until_idle, until_reported};

#[tokio::test(start_paused = true)]
async fn every_event_is_counted_under_its_name() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _installed = metrics::set_default_local_recorder(&recorder);
    describe_metrics();
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let lock = SimpleLock::new("job", &world.client).unwrap();
    assert!(lock.try_lock().await.unwrap().is_none());
    let waiting = tokio::spawn(async move { lock.lock_with(options()).await });
    until_idle().await;
    // A snapshot takes the values that were counted so far.
    let before = snapshotter.snapshot().into_vec();
    let waiters = before.iter().find(|(key, ..)| key.key().name() == "rlock_waiters").unwrap();
    assert_eq!(waiters.3, DebugValue::Gauge(1.0.into()));
    sleep(TTL).await;
    guard.unlock().await.unwrap();
    let guard = waiting.await.unwrap().unwrap();
    world.script.set(Fate::Failed);
    guard.lost().await;
    drop(guard);
    until_reported().await;

    let snapshot = snapshotter.snapshot().into_vec();
    let names: BTreeSet<&str> = snapshot.iter().map(|(key, ..)| key.key().name()).collect();
    let promised = BTreeSet::from([
        "rlock_acquire_duration_seconds",
        "rlock_extend_duration_seconds",
        "rlock_extend_lag_seconds",
        "rlock_extends_total",
        "rlock_held",
        "rlock_hold_duration_seconds",
        "rlock_lost_total",
        "rlock_releases_total",
        "rlock_waiters",
        "rlock_wakeups_total",
        "rlock_watchdogs",
    ]);
    assert_eq!(names, promised);
    for (key, unit, help, _) in &snapshot {
        assert!(unit.is_some() && help.is_some(), "{key:?} is not described");
        let labels: Vec<&str> = key.key().labels().map(|label| label.key()).collect();
        let bounded = ["backend", "kind", "outcome", "reason", "source"];
        assert!(labels.iter().all(|label| bounded.contains(label)), "{labels:?}");
    }
    let counted = |name: &str, label: (&str, &str)| {
        let wanted = |key: &Key| key.labels().any(|found| (found.key(), found.value()) == label);
        let found = before.iter().chain(&snapshot).filter(|(key, ..)| key.key().name() == name && wanted(key.key()));
        let count = |value: &DebugValue| match value {
            DebugValue::Counter(count) => *count,
            DebugValue::Histogram(values) => values.len() as u64,
            DebugValue::Gauge(_) => panic!("{name} is a gauge"),
        };
        found.map(|(_, _, _, value)| count(value)).sum::<u64>()
    };
    assert_eq!(counted("rlock_acquire_duration_seconds", ("outcome", "acquired")), 2);
    assert_eq!(counted("rlock_acquire_duration_seconds", ("outcome", "busy")), 1);
    assert_eq!(counted("rlock_hold_duration_seconds", ("outcome", "released")), 1);
    assert_eq!(counted("rlock_hold_duration_seconds", ("outcome", "lost")), 1);
    assert_eq!(counted("rlock_lost_total", ("reason", "expired")), 1);
    assert_eq!(counted("rlock_wakeups_total", ("source", "push")), 1);
    assert!(counted("rlock_extends_total", ("outcome", "ok")) >= 3);
    assert!(counted("rlock_extends_total", ("outcome", "failed")) >= 3);
    for gauge in ["rlock_held", "rlock_waiters", "rlock_watchdogs"] {
        let moved = before.iter().chain(&snapshot).filter(|(key, ..)| key.key().name() == gauge);
        let moved = moved.map(|(_, _, _, value)| match value {
            DebugValue::Gauge(by) => by.0,
            other => panic!("{gauge} is {other:?}"),
        });
        assert_eq!(moved.sum::<f64>(), 0.0, "{gauge}");
    }
}

/// A recorder that blocks when a loss is counted.
struct Blocking(Arc<Blocked>);

struct Blocked {
    until_unblocked: Mutex<Receiver<()>>,
    lost: AtomicU64,
    held: Mutex<f64>,
}

impl Blocked {
    fn until(unblocked: Receiver<()>) -> Arc<Self> {
        Arc::new(Self { until_unblocked: Mutex::new(unblocked), lost: AtomicU64::new(0), held: Mutex::new(0.0) })
    }
}

impl CounterFn for Blocked {
    fn increment(&self, value: u64) {
        let _until_unblocked = self.until_unblocked.lock().unwrap().recv_timeout(Duration::from_secs(10));
        self.lost.fetch_add(value, Ordering::SeqCst);
    }

    fn absolute(&self, _: u64) {}
}

impl GaugeFn for Blocked {
    fn increment(&self, value: f64) {
        *self.held.lock().unwrap() += value;
    }

    fn decrement(&self, value: f64) {
        *self.held.lock().unwrap() -= value;
    }

    fn set(&self, _: f64) {}
}

impl Recorder for Blocking {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == "rlock_lost_total" { Counter::from_arc(self.0.clone()) } else { Counter::noop() }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        if key.name() == "rlock_held" { Gauge::from_arc(self.0.clone()) } else { Gauge::noop() }
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn blocked_recorder_delays_no_loss() {
    let (unblock, blocking) = channel();
    let blocked = Blocked::until(blocking);
    let recorder = Blocking(blocked.clone());
    let _installed = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let unwatched = || options().watchdog(false);
    let first = world.lock("first").lock_with(unwatched()).await.unwrap();
    let second = world.lock("second").lock_with(unwatched()).await.unwrap();
    first.lost().await;
    second.lost().await;
    assert_eq!(blocked.lost.load(Ordering::SeqCst), 0, "the second loss waited for the recorder");
    drop(unblock);
    until_reported().await;
    assert_eq!(blocked.lost.load(Ordering::SeqCst), 2, "the losses are counted");
}

/// There are more losses than reports that may wait.
#[tokio::test(start_paused = true)]
async fn blocked_recorder_misses_no_loss() {
    const LOCKS: u64 = 5_000;
    let (unblock, blocking) = channel();
    let blocked = Blocked::until(blocking);
    let recorder = Blocking(blocked.clone());
    let _installed = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let mut guards = Vec::new();
    for number in 0..LOCKS {
        let lock = world.lock(&format!("job {number}"));
        guards.push(lock.lock_with(options().watchdog(false)).await.unwrap());
    }
    for guard in &guards {
        assert_eq!(guard.lost().await, LossReason::Expired);
    }
    drop(unblock);
    until_reported().await;
    assert_eq!(blocked.lost.load(Ordering::SeqCst), LOCKS);
    assert_eq!(*blocked.held.lock().unwrap(), 0.0);
}
