//! A shutdown that waits for the holders, on virtual time.

mod support;

use std::time::Duration;

use futures_util::StreamExt as _;
use rlock_core::{LockError, LossReason, SimpleLock};
use tokio::time::timeout;

use support::{Fate, STEP, TTL, Verb, World, dropped_after, options, until_idle};

const LONG: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn guards_are_waited_for_and_stay_held() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let working = async {
        until_idle().await;
        assert!(matches!(world.lock("other").lock().await, Err(LockError::Closed { .. })), "new locks are refused");
        tokio::time::sleep(TTL * 5).await;
        assert!(guard.is_held(), "it is renewed meanwhile");
        guard.unlock().await.unwrap();
    };
    let begun = tokio::time::Instant::now();
    let (drained, ()) = tokio::join!(world.client.drain(LONG, TTL), working);
    drained.unwrap();
    assert!(begun.elapsed() < LONG / 2, "it ends with the last guard");
}

#[tokio::test(start_paused = true)]
async fn waiters_end_at_once() {
    let world = World::new();
    let held = world.lock("job").lock_with(options()).await.unwrap();
    let waiting = world.lock("job");
    let draining = async {
        until_idle().await;
        world.client.drain(LONG, TTL).await
    };
    let begun = tokio::time::Instant::now();
    let ending = async {
        let waited = waiting.lock().await;
        assert!(begun.elapsed() < TTL, "it does not wait for the guards");
        assert!(matches!(waited, Err(LockError::Closed { .. })), "{waited:?}");
        drop(held);
    };
    let ((), drained) = tokio::join!(ending, draining);
    drained.unwrap();
}

#[tokio::test(start_paused = true)]
async fn watchers_go_on_until_it_ends() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let mut states = world.lock("watched").watch();
    assert!(states.next().await.expect("the client lives").unwrap().is_free());
    let working = async {
        until_idle().await;
        let watched = SimpleLock::new("watched", &world.other_client()).unwrap().lock().await.unwrap();
        let state = timeout(TTL, states.next()).await.expect("a change is seen in time");
        assert_eq!(state.expect("the client drains").unwrap().holders[0].token, watched.token());
        guard.unlock().await.unwrap();
    };
    let (drained, ()) = tokio::join!(world.client.drain(LONG, TTL), working);
    drained.unwrap();
    while let Some(state) = timeout(TTL, states.next()).await.expect("the stream ends") {
        state.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_too_long_is_given_back() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    world.client.drain(TTL, TTL).await.unwrap();
    assert_eq!(guard.loss(), Some(LossReason::Shutdown));
    assert!(world.other_client().inspect("job").await.unwrap().is_free());
}

#[tokio::test(start_paused = true)]
async fn dropped_drain_leaves_the_guards() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let drained = timeout(TTL, world.client.drain(LONG, TTL)).await;
    assert!(drained.is_err());
    tokio::time::sleep(TTL * 5).await;
    assert!(guard.is_held());
    assert!(matches!(world.lock("other").lock().await, Err(LockError::Closed { .. })));
}

#[tokio::test(start_paused = true)]
async fn drain_dropped_at_any_await_leaks_nothing() {
    let (mut kept, mut lost) = (0, 0);
    for polls in 0..100 {
        let world = World::new();
        world.script.decide(Verb::Release, Fate::AnsweredLate(STEP * 3));
        let guard = world.lock("job").lock_with(options()).await.unwrap();
        let drained = dropped_after(polls, world.client.drain(STEP * 3, TTL)).await;
        let refused = matches!(world.lock("other").try_lock().await, Err(LockError::Closed { .. }));
        assert_eq!(refused, polls > 0, "after {polls} polls");
        if let Some(reason) = guard.loss() {
            assert_eq!(reason, LossReason::Shutdown);
            lost += 1;
        } else {
            guard.unlock().await.unwrap();
            kept += 1;
        }
        tokio::time::sleep(STEP * 10).await; // the releases under way
        assert_eq!(world.client.open_leases(), 0, "after {polls} polls");
        assert!(world.other_client().inspect("job").await.unwrap().is_free(), "after {polls} polls");
        if let Some(drained) = drained {
            drained.unwrap();
            break;
        }
    }
    assert!(kept > 2 && lost > 2, "it was dropped in both waits: {kept}, {lost}");
}
