//! Sets of locks that lose a lock or cannot extend it while they wait, on virtual time.

mod support;

use std::time::Duration;

use futures_util::poll;
use rlock_core::{Client, Guard, LockError, LockSet, SimpleLock};
use tokio::time::timeout;

use support::{Fate, INTERVAL, STEP, TTL, Verb, World, dropped_after, options, until_idle};

fn set(client: &Client, names: &[&str]) -> LockSet {
    names.iter().fold(LockSet::new(client), |set, name| set.mutex(name).unwrap())
}

fn mutex(client: &Client, name: &str) -> SimpleLock {
    SimpleLock::new(name, client).unwrap()
}

/// Releases a lock after a second, so that a set waits for it and extends its locks at the end.
async fn free_after_a_second(held: Guard) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn set_that_cannot_extend_fails() {
    let world = World::new();
    let held = mutex(&world.other_client(), "b").lock().await.unwrap();
    world.script.set(Fate::Failed);
    world.script.decide(Verb::Release, Fate::Delayed(STEP));
    let set = set(&world.client, &["a", "b"]);
    let locking = timeout(TTL * 100, set.lock_with(options().watchdog(false)));
    let (locked, ()) = tokio::join!(locking, free_after_a_second(held));
    let failed = locked.expect("it ends").unwrap_err();
    assert!(matches!(&failed, LockError::Unavailable { .. }), "{failed}");
    tokio::time::sleep(STEP * 10).await;
    assert_eq!(world.client.open_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn set_whose_lock_is_lost_keeps_its_wait() {
    let world = World::new();
    let other = world.other_client();
    let held = mutex(&other, "b").lock().await.unwrap();
    let (set, wait) = (set(&world.client, &["a", "b"]), INTERVAL);
    let mut locking = Box::pin(set.lock_with(options().wait(wait)));
    for _ in 0..3 {
        assert!(poll!(&mut locking).is_pending());
        until_idle().await;
    }
    other.break_leases("a").await.unwrap();
    drop(held);
    tokio::time::sleep(wait * 2).await;
    let locked = locking.await;
    let Err(LockError::TimedOut { resource, wait: waited, .. }) = locked else { panic!("{locked:?}") };
    assert_eq!((resource.as_str(), waited), ("a", wait));
    until_idle().await;
    assert!(other.inspect("b").await.unwrap().is_free());
}

#[tokio::test(start_paused = true)]
async fn set_pauses_before_it_locks_again() {
    let world = World::new();
    let other = world.other_client();
    let held = mutex(&other, "b").lock().await.unwrap();
    world.script.decide(Verb::Release, Fate::Delayed(STEP * 4));
    let set = set(&world.client, &["a", "b"]);
    let breaking = async {
        loop {
            tokio::time::sleep(STEP).await;
            other.break_leases("a").await.unwrap();
        }
    };
    let locking = async {
        let (locked, ()) = tokio::join!(set.lock_with(options()), free_after_a_second(held));
        drop(locked.unwrap());
    };
    tokio::select! {
        () = locking => {}
        () = breaking => {}
        () = tokio::time::sleep(TTL) => panic!("{} claims", world.script.sizes(Verb::Acquire).len()),
    }
}

#[tokio::test(start_paused = true)]
async fn set_dropped_in_its_pause_holds_nothing() {
    let mut polls = 0;
    loop {
        let world = World::new();
        let other = world.other_client();
        let held = mutex(&other, "b").lock().await.unwrap();
        let set = set(&world.client, &["a", "b"]);
        let disturbing = async {
            tokio::time::sleep(STEP * 3).await;
            other.break_leases("a").await.unwrap();
            tokio::time::sleep(STEP * 2).await;
            drop(held);
        };
        let (locked, ()) = tokio::join!(dropped_after(polls, set.lock_with(options())), disturbing);
        let has_locked = locked.is_some_and(|guard| guard.unwrap().is_held());
        tokio::time::sleep(STEP * 20).await; // the requests under way
        assert_eq!(world.client.open_leases(), 0, "after {polls} polls");
        for name in ["a", "b"] {
            assert!(other.inspect(name).await.unwrap().is_free(), "{name} after {polls} polls");
        }
        if has_locked {
            break;
        }
        polls += 1;
        assert!(polls < 100, "it never ends");
    }
    assert!(polls > 9, "the pause, of 5 ms at least, was awaited: {polls}");
}
