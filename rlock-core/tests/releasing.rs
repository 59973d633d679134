//! Releases by reference, for guards that several tasks share, and releases without a rest, on virtual time.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use rlock_core::{End, ExtendError, LockSet, LossReason, Lost, StartWatchdogError, UnlockError, WatchdogConfig};
use tokio::time::{Instant, sleep, timeout};

use support::{Fate, TTL, Verb, World, options, until_idle};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn shared_guard_is_released_once() {
    let world = World::new();
    let guard = Arc::new(world.lock("job").lock_with(options()).await.unwrap());
    world.script.decide(Verb::Release, Fate::AnsweredLate(SECOND));
    let begun = Instant::now();
    let releases: Vec<_> = (0..3)
        .map(|_| {
            let guard = guard.clone();
            tokio::spawn(async move { timeout(TTL, guard.release()).await }) // the timeout polls it once more
        })
        .collect();
    for release in releases {
        release.await.unwrap().expect("it is confirmed").unwrap();
    }
    assert!(begun.elapsed() < TTL, "each call is woken by the answer");
    guard.release().await.unwrap();
    drop(guard);
    until_idle().await;
    assert_eq!(world.script.sizes(Verb::Release), [1]);
    assert_eq!(world.client.open_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn unpolled_release_blocks_no_other() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    world.script.decide(Verb::Release, Fate::AnsweredLate(SECOND));
    let mut unpolled = Box::pin(guard.release());
    assert!(poll!(&mut unpolled).is_pending());
    timeout(TTL, guard.release()).await.expect("it waits for the store alone").unwrap();
    timeout(TTL, unpolled).await.expect("it knows the outcome").unwrap();
    assert_eq!(world.script.sizes(Verb::Release), [1]);
}

#[tokio::test(start_paused = true)]
async fn released_guard_is_not_held() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let (lost, ended, token) = (guard.lost(), guard.ended(), guard.cancellation_token());
    guard.release().await.unwrap();
    assert!(!guard.is_held() && guard.remaining().is_zero() && guard.watchdog().is_none());
    assert_eq!(guard.check().unwrap_err().reason, LossReason::Released);
    assert_eq!(ended.await, End::Released);

    let extended = guard.extend(TTL).await.unwrap_err();
    assert!(matches!(&extended, ExtendError::Lost(lost) if lost.reason == LossReason::Released), "{extended}");
    let started = guard.start_watchdog(WatchdogConfig::new()).unwrap_err();
    assert!(matches!(&started, StartWatchdogError::Lost(lost) if lost.reason == LossReason::Released), "{started}");

    assert_eq!(guard.loss(), None, "a release is no loss");
    assert!(poll!(Box::pin(lost)).is_pending() && !token.is_cancelled());
    let ran: Result<(), Lost> = guard.run(async { unreachable!("it is not polled") }).await;
    assert_eq!(ran.unwrap_err().reason, LossReason::Released);
}

#[tokio::test(start_paused = true)]
async fn release_wakes_who_waits_for_the_end() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let waiting = tokio::spawn(guard.ended());
    until_idle().await;
    guard.release().await.unwrap();
    let ended = timeout(TTL, waiting).await.expect("the release wakes it");
    assert_eq!(ended.unwrap(), End::Released);
}

#[tokio::test(start_paused = true)]
async fn lock_given_back_does_not_rest() {
    let world = World::new();
    let lock = world.lock("job");
    let resting = || options().hold_at_least(TTL);
    lock.lock_with(resting()).await.unwrap().give_back();
    until_idle().await;
    assert!(lock.snapshot().await.unwrap().is_free());
    assert_eq!(world.script.sizes(Verb::Release), [1], "the drop releases nothing more");
    drop(lock.lock_with(resting()).await.unwrap());
    until_idle().await;
    assert!(!lock.snapshot().await.unwrap().is_free(), "a dropped guard leaves the rest");
}

#[tokio::test(start_paused = true)]
async fn released_guard_has_no_handle() {
    let world = World::new();
    let guard = world.lock("job").lock().await.unwrap();
    guard.release().await.unwrap();
    assert_eq!(guard.into_handle().unwrap_err().reason, LossReason::Released);
}

#[tokio::test(start_paused = true)]
async fn release_of_a_lost_lock_reports_the_loss() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options().watchdog(false)).await.unwrap();
    sleep(TTL).await;
    for _ in 0..2 {
        let refused = guard.release().await.unwrap_err();
        assert!(matches!(&refused, UnlockError::Lost(lost) if lost.reason == LossReason::Expired), "{refused}");
    }
    assert_eq!(guard.check().unwrap_err().reason, LossReason::Expired);
}

#[tokio::test(start_paused = true)]
async fn dropped_release_takes_effect() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    world.script.decide(Verb::Release, Fate::AnsweredLate(SECOND));
    let mut release = Box::pin(guard.release());
    assert!(poll!(&mut release).is_pending());
    drop(release);
    assert!(!guard.is_held());
    guard.release().await.unwrap();
    assert_eq!(world.script.sizes(Verb::Release), [1]);
}

#[tokio::test(start_paused = true)]
async fn shared_set_is_released_together() {
    let world = World::new();
    let set = LockSet::new(&world.client).mutex("a").unwrap().mutex("b").unwrap();
    let guard = Arc::new(set.lock().await.unwrap());
    let shared = guard.clone();
    let (one, two) = tokio::join!(guard.release(), shared.release());
    one.unwrap();
    two.unwrap();
    assert_eq!(world.script.sizes(Verb::Release), [2], "one request for both");
    assert!(!guard.is_held());
    assert!(set.try_lock().await.unwrap().is_some());
}
