//! The watchdog, on virtual time.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rlock_core::{
    ExtensionFailure, InvalidConfig, LockOptions, LossReason, SimpleLock, StartWatchdogError, UnlockError,
    WatchdogConfig,
};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, sleep};

use support::{Fate, INTERVAL, TTL, World, options, until_idle};

/// The maximum time by which an extension may be early, so that it is sent together with others.
const GRID: Duration = Duration::from_millis(70);

fn every(interval: Duration) -> WatchdogConfig {
    WatchdogConfig { interval: Some(interval), ..WatchdogConfig::new() }
}

#[tokio::test(start_paused = true)]
async fn cadence() {
    let world = World::new();
    let taken = Instant::now();
    let guard = world.lock("job").lock_with(options().watchdog_interval(INTERVAL)).await.unwrap();
    sleep(10 * TTL).await;
    assert!(guard.is_held());
    let times = world.script.times("job");
    let first = times[0] - taken;
    assert!(first >= INTERVAL / 2 - GRID && first <= INTERVAL, "the first came after {first:?}");
    assert!((28..=31).contains(&times.len()), "{} extensions in 300 s", times.len());
    for pair in times.windows(2) {
        let pause = pair[1] - pair[0];
        assert!(pause >= INTERVAL - GRID && pause <= INTERVAL + GRID, "{pause:?} between two extensions");
    }
}

#[tokio::test(start_paused = true)]
async fn default_interval_is_a_third() {
    let world = World::new();
    let _guard = world.lock("job").lock_with(options()).await.unwrap();
    sleep(3 * TTL).await;
    let times = world.script.times("job");
    let pause = times[2] - times[1];
    assert!(pause >= TTL / 3 - GRID && pause <= TTL / 3 + GRID, "{pause:?} between two extensions");
}

#[tokio::test(start_paused = true)]
async fn first_extension_after_a_grant() {
    let world = World::new();
    let holder = world.lock("job").lock_with(options()).await.unwrap();
    let waiter = tokio::spawn({
        let lock = world.lock("job");
        async move { lock.lock_with(options()).await.unwrap() }
    });
    sleep(TTL).await;
    let asked = world.script.calls().len();
    holder.unlock().await.unwrap();
    let granted = Instant::now();
    let guard = waiter.await.unwrap();
    until_idle().await;
    let after: Vec<Instant> = world.script.calls()[asked..].iter().map(|call| call.at).collect();
    assert_eq!(after, [granted], "the rest of a waiter's life is made a full one at once");
    assert!(guard.remaining() > TTL - TTL / 50);
}

#[tokio::test(start_paused = true)]
async fn coalesces_due_renewals() {
    let world = World::new();
    let mut guards = Vec::new();
    for number in 0..1000 {
        guards.push(world.lock(&format!("job {number}")).lock_with(options()).await.unwrap());
    }
    sleep(10 * TTL).await;
    assert!(guards.iter().all(|guard| guard.is_held()));
    let calls = world.script.calls();
    let extended: usize = calls.iter().map(|call| call.resources.len()).sum();
    assert!(extended > 25_000, "{extended} extensions");
    // An interval has 150 instants of 67 ms. Extensions sent one by one would be 1,000 calls an interval.
    assert!(calls.len() < 31 * 160, "{} calls", calls.len());
}

#[tokio::test(start_paused = true)]
async fn renewals_are_spread() {
    let world = World::new();
    let mut guards = Vec::new();
    for number in 0..1000 {
        guards.push(world.lock(&format!("job {number}")).lock_with(options()).await.unwrap());
    }
    sleep(10 * TTL).await;
    let largest = world.script.calls().iter().map(|call| call.resources.len()).max().unwrap();
    assert!(largest < 100, "{largest} of 1,000 locks that were taken together are extended together");
}

#[tokio::test(start_paused = true)]
async fn failure_then_success_resets_the_count() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let watchdog =
        guard.start_watchdog(WatchdogConfig { extend_by: Some(20 * TTL), max_failures: 5, ..every(INTERVAL) }).unwrap();
    sleep(2 * INTERVAL).await;
    let before = watchdog.status();
    assert!(before.extend_count >= 1 && before.failure_count == 0, "{before:?}");

    world.script.set(Fate::Failed);
    sleep(3 * INTERVAL).await;
    let failing = watchdog.status();
    assert!((2..=3).contains(&failing.failure_count), "{failing:?}");
    assert!(matches!(failing.last_error, Some(ExtensionFailure::Backend(_))), "{failing:?}");

    world.script.set(Fate::Answered);
    sleep(INTERVAL).await;
    let after = watchdog.status();
    assert_eq!(after.failure_count, 0);
    assert!(after.last_error.is_none() && after.extend_count > before.extend_count, "{after:?}");
    assert!(after.is_running && guard.is_held());
}

#[tokio::test(start_paused = true)]
async fn failed_tries_are_repeated_within_the_interval() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let watchdog = guard.watchdog().unwrap();
    world.script.set(Fate::AnswerLost);
    while world.script.calls().is_empty() {
        sleep(GRID).await;
    }
    sleep(INTERVAL / 2).await;
    assert!(world.script.times("job").len() >= 3, "{:?}", world.script.times("job"));
    world.script.set(Fate::Answered);
    sleep(INTERVAL / 3).await;
    let status = watchdog.status();
    assert!(status.extend_count >= 1 && status.failure_count == 0, "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn max_failures_ends_it() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options().watchdog(false).ttl(10 * TTL)).await.unwrap();
    let (sender, mut failures) = unbounded_channel();
    let config = WatchdogConfig { max_failures: 2, ..every(INTERVAL) };
    let config = config.on_failure(move |failure| drop(sender.send(failure.to_string())));
    let watchdog = guard.start_watchdog(config).unwrap();
    world.script.set(Fate::Failed);
    assert_eq!(guard.lost().await, LossReason::GaveUp);
    assert!(!watchdog.status().is_running);
    assert!(failures.recv().await.unwrap().contains("failed 1 of at most 2"));
    assert!(failures.recv().await.unwrap().contains("failed 2 of at most 2"));
    let sent = world.script.calls().len();
    sleep(TTL).await;
    assert_eq!(world.script.calls().len(), sent, "it went on after it had given up");
    assert!(matches!(guard.unlock().await, Err(UnlockError::Lost(lost)) if lost.reason == LossReason::GaveUp));
}

#[tokio::test(start_paused = true)]
async fn hung_renewal_does_not_block_others() {
    let world = World::new();
    world.script.hang("stuck");
    let stuck = world.lock("stuck").lock_with(options()).await.unwrap();
    sleep(INTERVAL).await;
    let guard = world.lock("job").lock_with(options().watchdog_interval(INTERVAL / 3)).await.unwrap();
    assert_eq!(stuck.lost().await, LossReason::Expired);
    sleep(5 * TTL).await;
    assert!(guard.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_hung_renewal_does_not_delay_the_loss() {
    let world = World::new();
    let taken = Instant::now();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    world.script.set(Fate::Hangs);
    assert_eq!(guard.lost().await, LossReason::Expired);
    let held = taken.elapsed();
    assert!(held <= TTL - TTL / 100 + Duration::from_millis(1), "signalled after {held:?}");
    assert!(held >= TTL - TTL / 100, "signalled after {held:?}");
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_loses_nothing() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    for fate in [Fate::Failed, Fate::Hangs, Fate::Panics] {
        sleep(INTERVAL).await;
        world.script.set(fate);
        sleep(TTL / 2).await;
        world.script.set(Fate::Answered);
        sleep(INTERVAL).await;
        assert!(guard.is_held(), "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn callback_panic_is_contained() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let other = world.lock("other").lock_with(options()).await.unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let watchdog = guard
        .start_watchdog(every(INTERVAL).on_success(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            panic!("the callback panics");
        }))
        .unwrap();
    sleep(5 * TTL).await;
    assert!(guard.is_held() && other.is_held());
    let status = watchdog.status();
    assert_eq!(u64::from(calls.load(Ordering::SeqCst)), status.extend_count);
    assert!(status.is_running && status.extend_count >= 14, "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn stop_is_immediate() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let watchdog = guard.watchdog().unwrap();
    sleep(INTERVAL).await;
    let sent = world.script.calls().len();
    watchdog.stop();
    assert!(!watchdog.status().is_running && watchdog.status().next_extend_time.is_none());
    assert_eq!(guard.lost().await, LossReason::Expired);
    assert_eq!(world.script.calls().len(), sent);
    watchdog.stop();
}

#[tokio::test(start_paused = true)]
async fn unlock_leaves_no_renewal() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let watchdog = guard.watchdog().unwrap();
    sleep(2 * INTERVAL).await;
    guard.unlock().await.unwrap();
    let sent = world.script.calls().len();
    assert!(!watchdog.status().is_running);
    sleep(10 * TTL).await;
    assert_eq!(world.script.calls().len(), sent);
}

#[tokio::test(start_paused = true)]
async fn a_second_watchdog_takes_over() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let first = guard.watchdog().unwrap();
    let second = guard.start_watchdog(every(INTERVAL / 5)).unwrap();
    assert!(!first.status().is_running && second.status().is_running);
    first.stop();
    sleep(2 * TTL).await;
    assert!(second.status().extend_count >= 25, "{:?}", second.status());
    second.stop();
    assert_eq!(guard.lost().await, LossReason::Expired);
}

#[tokio::test(start_paused = true)]
async fn lock_without_watchdog_ends_with_its_ttl() {
    let world = World::new();
    let taken = Instant::now();
    let guard = world.lock("job").lock_with(options().watchdog(false)).await.unwrap();
    sleep(TTL / 2).await;
    guard.extend(TTL).await.unwrap();
    assert_eq!(guard.lost().await, LossReason::Expired);
    let held = taken.elapsed();
    assert!(held > TTL && held <= TTL + TTL / 2, "{held:?}");
    assert!(guard.extend(TTL).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn break_is_reported_at_once() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let broken = Instant::now();
    assert_eq!(world.other_client().break_leases(guard.resource()).await.unwrap(), 1);
    assert_eq!(guard.lost().await, LossReason::Broken);
    assert_eq!(broken.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn run_stops_the_work() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    world.script.set(Fate::Hangs);
    let steps = AtomicU32::new(0);
    let work = async {
        loop {
            sleep(Duration::from_secs(1)).await;
            steps.fetch_add(1, Ordering::SeqCst);
        }
    };
    let lost = guard.run::<()>(work).await.unwrap_err();
    assert_eq!(lost.reason, LossReason::Expired);
    assert_eq!(steps.load(Ordering::SeqCst), 29);

    world.script.set(Fate::Answered);
    let guard = world.lock("other").lock_with(options()).await.unwrap();
    assert_eq!(guard.run(async { 7 }).await, Ok(7));
    let other = world.lock("other");
    assert!(world.client.inspect(other.resource()).await.unwrap().is_free());

    let guard = other.lock_with(options()).await.unwrap();
    world.script.set(Fate::Failed);
    let broken = async { world.other_client().break_leases(other.resource()).await.unwrap() };
    assert_eq!(guard.run(broken).await.unwrap_err().reason, LossReason::Gone, "the release shows it");
}

#[tokio::test(start_paused = true)]
async fn invalid_configs_are_refused() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let refused = |config: WatchdogConfig| match guard.start_watchdog(config) {
        Err(StartWatchdogError::InvalidConfig(error)) => error,
        other => panic!("{other:?}"),
    };
    for interval in [TTL, 2 * TTL] {
        assert_eq!(refused(every(interval)), InvalidConfig::IntervalTooLong { interval, extend_by: TTL });
    }
    assert_eq!(refused(every(Duration::ZERO)), InvalidConfig::IntervalTooShort { interval: Duration::ZERO });
    let zero = WatchdogConfig { extend_by: Some(Duration::ZERO), ..WatchdogConfig::new() };
    assert!(matches!(refused(zero), InvalidConfig::Ttl(_)));
    let never = WatchdogConfig { max_failures: 0, ..WatchdogConfig::new() };
    assert_eq!(refused(never), InvalidConfig::NoFailureAllowed);
    assert!(guard.watchdog().unwrap().status().is_running, "the old one goes on");

    for wrong in [
        LockOptions::new().ttl(Duration::ZERO),
        LockOptions::new().ttl(TTL).watchdog_interval(TTL),
        LockOptions::new().watchdog(false).watchdog_interval(INTERVAL),
    ] {
        assert!(world.lock("other").lock_with(wrong).await.is_err());
    }
    assert!(world.lock("other").try_lock_with(options().wait(TTL)).await.is_err());

    world.script.set(Fate::Hangs);
    guard.lost().await;
    assert!(matches!(guard.start_watchdog(WatchdogConfig::new()), Err(StartWatchdogError::Lost(_))));
}

#[tokio::test(start_paused = true)]
async fn no_leak() {
    let world = World::new();
    let lock = SimpleLock::new("job", &world.client).unwrap();
    for _ in 0..100_000 {
        lock.lock().await.unwrap().unlock().await.unwrap();
    }
    assert_eq!(world.client.open_leases(), 0);
    assert_eq!(world.store.resources(), 0);
    assert!(format!("{:?}", world.client).contains("scheduled: 0"), "{:?}", world.client);
    sleep(10 * TTL).await;
    assert!(world.script.calls().is_empty());
}
