//! Panics of a backend, of its errors and of the user's recorder, on virtual time.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};
use rlock_core::WatchdogConfig;
use tokio::time::sleep;

use support::{Fate, INTERVAL, TTL, World, options, until_idle};

/// A recorder whose metrics panic once it is armed.
#[derive(Debug, Clone, Default)]
struct Panicking(Arc<AtomicBool>);

impl Panicking {
    fn arm(&self, is_armed: bool) {
        self.0.store(is_armed, Ordering::SeqCst);
    }

    fn measure(&self) {
        assert!(!self.0.load(Ordering::SeqCst), "the recorder panics");
    }
}

impl CounterFn for Panicking {
    fn increment(&self, _: u64) {
        self.measure();
    }

    fn absolute(&self, _: u64) {
        self.measure();
    }
}

impl GaugeFn for Panicking {
    fn increment(&self, _: f64) {
        self.measure();
    }

    fn decrement(&self, _: f64) {
        self.measure();
    }

    fn set(&self, _: f64) {
        self.measure();
    }
}

impl HistogramFn for Panicking {
    fn record(&self, _: f64) {
        self.measure();
    }
}

impl metrics::Recorder for Panicking {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(self.clone()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(self.clone()))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(self.clone()))
    }
}

#[tokio::test(start_paused = true)]
async fn panicking_recorder_costs_no_held_lock() {
    let recorder = Panicking::default();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    recorder.arm(true);
    sleep(3 * TTL).await;
    assert!(guard.is_held(), "{:?}", guard.loss());
    guard.unlock().await.unwrap();
    assert_eq!(world.client.open_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn panicking_recorder_leaves_no_lease() {
    let recorder = Panicking::default();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let held = world.lock("job").lock_with(options()).await.unwrap();
    let take = |name| {
        let lock = world.lock(name);
        tokio::spawn(async move { lock.lock_with(options()).await })
    };
    let waiting = take("job");
    until_idle().await;
    recorder.arm(true);
    let free = take("free");
    held.unlock().await.unwrap();
    for asking in [waiting, free] {
        assert!(asking.await.unwrap_err().is_panic());
    }
    until_idle().await;
    assert_eq!(world.client.open_leases(), 0);
    let lock = world.lock("job");
    assert!(world.other_client().inspect(lock.resource()).await.unwrap().is_free());
    recorder.arm(false);
    assert!(lock.lock_with(options()).await.unwrap().is_held());
}

/// The timer of the released lock has the last reference to the error.
#[tokio::test(start_paused = true)]
async fn panicking_error_ends_no_client() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    world.script.set(Fate::FailedBadly);
    sleep(2 * INTERVAL).await;
    guard.unlock().await.unwrap();
    world.script.set(Fate::Answered);
    let other = world.lock("other").lock_with(options()).await.unwrap();
    sleep(3 * TTL).await;
    assert!(other.is_held(), "{:?}", other.loss());
    other.unlock().await.unwrap();
}

/// The next renewal drops the last reference to the error of an extension that its retry has confirmed.
#[tokio::test(start_paused = true)]
async fn panicking_error_loses_no_success() {
    let world = World::new();
    let successes = Arc::new(AtomicU32::new(0));
    let counted = successes.clone();
    let config = WatchdogConfig::new().on_success(move || _ = counted.fetch_add(1, Ordering::SeqCst));
    let guard = world.lock("job").lock_with(options().watchdog_config(config)).await.unwrap();
    world.script.set(Fate::FailedBadly);
    let mut extending = Box::pin(guard.extend(TTL));
    assert!(futures_util::poll!(extending.as_mut()).is_pending());
    until_idle().await;
    world.script.set(Fate::Answered);
    extending.await.unwrap();
    sleep(2 * INTERVAL).await;
    assert_eq!(successes.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn panicking_capabilities_cost_one_lock() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    world.script.panic_in_capabilities(Some(0));
    let lock = world.lock("other");
    let asking = tokio::spawn(async move { lock.lock_with(options()).await });
    assert!(asking.await.unwrap_err().is_panic());
    sleep(3 * TTL).await;
    assert!(guard.is_held(), "{:?}", guard.loss());
    assert_eq!(world.client.open_leases(), 1);
    world.script.panic_in_capabilities(None);
    assert!(world.lock("other").lock_with(options()).await.unwrap().is_held());
}
