//! Options of a lock, on virtual time.

mod support;

use std::time::Duration;

use rlock_core::{Guard, InvalidConfig, LockError, LockOptions, LossReason, RwLock, Semaphore, WatchdogConfig};

use tokio::sync::mpsc::unbounded_channel;

use support::{Fate, INTERVAL, TTL, Verb, World, options};

#[tokio::test(start_paused = true)]
async fn watchdog_is_configured_with_the_lock() {
    let world = World::new();
    let (extended, failed) = (unbounded_channel(), unbounded_channel());
    let ((on_success, mut extended), (on_failure, mut failed)) = (extended, failed);
    let config = WatchdogConfig { interval: Some(TTL / 10), max_failures: 2, ..WatchdogConfig::new() }
        .on_success(move || on_success.send(()).unwrap())
        .on_failure(move |failure| on_failure.send(failure.to_string()).unwrap());
    let guard = world.lock("job").lock_with(options().watchdog_config(config)).await.unwrap();
    for _ in 0..20 {
        extended.recv().await.expect("it is called");
    }
    assert!(guard.is_held());
    world.script.decide(Verb::Extend, Fate::Failed);
    assert_eq!(guard.lost().await, LossReason::GaveUp);
    for _ in 0..2 {
        failed.recv().await.expect("it is called");
    }
}

#[tokio::test(start_paused = true)]
async fn contradictions_are_refused() {
    let world = World::new();
    let refusal = async |options: LockOptions| match world.lock("job").lock_with(options).await {
        Err(LockError::InvalidConfig(error)) => error,
        other => panic!("{other:?}"),
    };
    let configured = || options().watchdog_config(WatchdogConfig::new());
    assert_eq!(refusal(configured().watchdog(false)).await, InvalidConfig::ConfigWithoutWatchdog);
    assert_eq!(refusal(configured().watchdog_interval(INTERVAL)).await, InvalidConfig::IntervalTwice);
    let none = WatchdogConfig { max_failures: 0, ..WatchdogConfig::new() };
    assert_eq!(refusal(options().watchdog_config(none)).await, InvalidConfig::NoFailureAllowed);
}

#[tokio::test(start_paused = true)]
async fn lock_is_lost_after_its_longest_time() {
    let world = World::new();
    let lock = world.lock("job");
    let (on_failure, mut failed) = unbounded_channel();
    let config = WatchdogConfig::new().on_failure(move |failure| on_failure.send(failure.to_string()).unwrap());
    let guard = lock.lock_with(options().watchdog_config(config).hold_at_most(TTL * 2)).await.unwrap();
    tokio::time::sleep(TTL * 2 - Duration::from_millis(1)).await;
    assert!(guard.is_held());
    assert_eq!(guard.lost().await, LossReason::HeldTooLong);
    assert!(failed.try_recv().is_err(), "no extension has failed");
    let begun = tokio::time::Instant::now();
    assert!(lock.try_lock().await.unwrap().is_none(), "the store keeps it while the work ends");
    drop(guard);
    lock.lock().await.unwrap().unlock().await.unwrap();
    assert!(begun.elapsed() < TTL);
    let limit = |limit| options().hold_at_least(TTL / 2).hold_at_most(limit);
    for wrong in [limit(Duration::ZERO), limit(TTL / 3), options().hold_at_most(Duration::from_millis(9))] {
        let refused = lock.lock_with(wrong).await.unwrap_err();
        assert!(matches!(refused, LockError::InvalidConfig(InvalidConfig::HoldLimit { .. })), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn permits_are_taken_by_their_number() {
    let world = World::new();
    let pool = Semaphore::new("pool", 4, &world.client).unwrap();
    let weights = async || pool.holders().await.unwrap().iter().map(|holder| holder.weight).collect::<Vec<_>>();
    let two = pool.acquire_many(2).await.unwrap();
    let one = pool.acquire_with(options().label("batch")).await.unwrap();
    assert_eq!(weights().await, [2, 1]);
    assert_eq!(pool.holders().await.unwrap()[1].owner.label(), Some("batch"));
    assert!(pool.try_acquire_many(2).await.unwrap().is_none());
    let last = pool.try_acquire_with(options().label("last")).await.unwrap().expect("a permit is free");
    assert_eq!(weights().await, [2, 1, 1]);
    assert_eq!(pool.holders().await.unwrap()[2].owner.label(), Some("last"));
    for guard in [two, one, last] {
        guard.unlock().await.unwrap();
    }
    for wrong in [pool.acquire_many(5).await.unwrap_err(), pool.try_acquire_many(0).await.unwrap_err()] {
        assert!(matches!(wrong, LockError::InvalidConfig(InvalidConfig::Share(_))), "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn readers_are_counted() {
    let world = World::new();
    let pages = RwLock::new("pages", &world.client).unwrap();
    let readers = [pages.read().await.unwrap(), pages.read().await.unwrap()];
    let tokens: Vec<_> = pages.holders().await.unwrap().iter().map(|holder| holder.token).collect();
    assert_eq!(tokens, readers.each_ref().map(Guard::token));
    for reader in readers {
        reader.unlock().await.unwrap();
    }
    assert_eq!(pages.holders().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn locks_are_printed_by_name() {
    let world = World::new();
    assert_eq!(format!("{:?}", world.lock("job")), r#"SimpleLock("job")"#);
    assert_eq!(format!("{:?}", RwLock::new("pages", &world.client).unwrap()), r#"RwLock("pages")"#);
    let pool = Semaphore::new("pool", 2, &world.client).unwrap();
    assert!(format!("{pool:?}").contains(r#""pool", permits: 2"#), "{pool:?}");
}

#[tokio::test(start_paused = true)]
async fn label_of_a_lock_replaces_the_clients() {
    let world = World::new();
    let lock = world.lock("job");
    assert!(!lock.is_locked().await.unwrap());
    let guard = lock.lock_with(options().label("import\nof today")).await.unwrap();
    let holders = lock.holders().await.unwrap();
    assert_eq!((holders[0].owner.label(), holders[0].token), (Some("importof today"), guard.token()));
    assert!(lock.is_locked().await.unwrap());
    guard.unlock().await.unwrap();
    assert!(!lock.is_locked().await.unwrap());
    tokio::time::sleep(Duration::from_millis(1)).await;
}
