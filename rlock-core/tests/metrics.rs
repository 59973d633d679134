//! The documented metrics, as a recorder sees them.

mod support;

use std::collections::BTreeSet;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use rlock_core::{SimpleLock, metrics::describe_metrics};
use tokio::time::sleep;

use support::{Fate, TTL, World, options, until_idle};

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
    until_idle().await;

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
        let wanted = |key: &metrics::Key| key.labels().any(|found| (found.key(), found.value()) == label);
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
