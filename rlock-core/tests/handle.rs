//! Locks that move from one client to another, on virtual time.

mod support;

use std::task::Context;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use rlock_core::{AdoptError, Client, Guard, LockError, LockHandle, LockOptions, LossReason, RwLock, SimpleLock};
use tokio::runtime::Handle;
use tokio::time::Instant;

use support::{Fate, STEP, TTL, Verb, World, broken_waker, dropped_after, until_idle};

fn mutex(client: &Client) -> SimpleLock {
    SimpleLock::new("job", client).unwrap()
}

#[tokio::test(start_paused = true)]
async fn handle_keeps_the_lock_and_no_client() {
    let world = World::new();
    let guard = mutex(&world.client).lock().await.unwrap();
    let (token, lost) = (guard.token(), guard.lost());
    let handle = guard.into_handle().unwrap();
    assert_eq!((handle.token(), world.client.open_leases()), (token, 0));
    let other = world.other_client();
    assert!(mutex(&other).try_lock().await.unwrap().is_none());
    let adopted = other.adopt(&handle.to_string().parse::<LockHandle>().unwrap()).await.unwrap();
    assert_eq!(adopted.token(), token);
    tokio::time::sleep(TTL * 5).await;
    assert!(adopted.is_held());
    adopted.unlock().await.unwrap();
    assert!(mutex(&world.client).try_lock().await.unwrap().is_some());
    drop(lost);
}

#[tokio::test(start_paused = true)]
async fn unadopted_handle_ends_with_its_ttl() {
    let world = World::new();
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    tokio::time::sleep(TTL + Duration::from_millis(1)).await;
    until_idle().await;
    assert!(
        matches!(world.client.adopt(&handle).await, Err(AdoptError::Lost(lost)) if lost.reason == LossReason::Gone)
    );
    let _next = mutex(&world.client).try_lock().await.unwrap().expect("it is free");
    assert!(
        matches!(world.client.adopt(&handle).await, Err(AdoptError::Lost(lost)) if lost.reason == LossReason::TakenOver)
    );
}

#[tokio::test(start_paused = true)]
async fn adopted_share_is_the_same() {
    let world = World::new();
    let lock = RwLock::new("job", &world.client).unwrap();
    let handle = lock.read().await.unwrap().into_handle().unwrap();
    let reader = world.other_client().adopt(&handle).await.unwrap();
    assert!(lock.try_write_with(LockOptions::new()).await.unwrap().is_none());
    assert!(lock.try_read_with(LockOptions::new()).await.unwrap().is_some());
    reader.unlock().await.unwrap();
    until_idle().await;
    assert!(lock.try_write_with(LockOptions::new()).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn lost_lock_has_no_handle() {
    let world = World::new();
    let guard = mutex(&world.client).lock_with(LockOptions::new().watchdog(false)).await.unwrap();
    tokio::time::sleep(TTL).await;
    assert_eq!(guard.into_handle().unwrap_err().reason, LossReason::Expired);
}

#[tokio::test(start_paused = true)]
async fn adoption_dropped_at_any_await_keeps_the_lock() {
    let world = World::new();
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    for verb in [Verb::Extend, Verb::Acquire] {
        world.script.decide(verb, Fate::AnsweredLate(STEP * 2));
    }
    let mut polls = 0;
    let adopted = loop {
        if let Some(adopted) = dropped_after(polls, world.client.adopt(&handle)).await {
            break adopted.unwrap();
        }
        tokio::time::sleep(STEP * 10).await; // the answers under way
        assert_eq!(world.client.open_leases(), 0, "after {polls} polls");
        let holders = world.client.inspect("job").await.unwrap().holders;
        let tokens: Vec<_> = holders.iter().map(|holder| holder.token).collect();
        assert_eq!(tokens, [handle.token()], "after {polls} polls");
        polls += 1;
        assert!(polls < 100, "it never ends");
    };
    assert!(polls > 4, "the answers to two requests were awaited: {polls}");
    assert!(world.script.sizes(Verb::Release).is_empty());
    adopted.unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn failed_adoption_leaves_the_lock_to_the_store() {
    let world = World::new();
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    for fate in [Fate::Hangs, Fate::Failed, Fate::AnswerLost] {
        world.script.decide(Verb::Acquire, fate);
        let failed = world.client.adopt(&handle).await;
        assert!(matches!(failed, Err(AdoptError::Lock(LockError::Unavailable { .. }))), "{fate:?}: {failed:?}");
        world.script.decide(Verb::Acquire, Fate::Answered);
        tokio::time::sleep(TTL / 2).await; // the client gives up the call
        assert_eq!(world.client.open_leases(), 0, "{fate:?}");
        assert!(!world.client.inspect("job").await.unwrap().is_free(), "{fate:?}");
    }
    world.client.adopt(&handle).await.unwrap().unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn adoption_that_comes_too_late_is_forgotten() {
    let world = World::new();
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    world.script.decide(Verb::Acquire, Fate::AnsweredLate(TTL));
    assert!(world.client.adopt(&handle).await.is_err());
    tokio::time::sleep(TTL).await;
    until_idle().await;
    assert_eq!(world.client.open_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn adoption_after_a_hung_one_can_be_repeated() {
    let world = World::new();
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    world.script.decide(Verb::Acquire, Fate::Hangs);
    assert!(world.client.adopt(&handle).await.is_err());
    world.script.decide(Verb::Acquire, Fate::Answered);
    world.client.adopt(&handle).await.unwrap().unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn adoption_awaits_the_answer_to_a_dropped_one() {
    let world = World::new();
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    world.script.decide(Verb::Acquire, Fate::Delayed(Duration::from_secs(1)));
    for polls in 1..5 {
        drop(dropped_after(polls, world.client.adopt(&handle)).await);
    }
    let (one, other) = tokio::join!(world.client.adopt(&handle), world.client.adopt(&handle));
    let (adopted, refused): (Vec<_>, Vec<_>) = [one, other].into_iter().partition(Result::is_ok);
    assert_eq!((adopted.len(), refused.len()), (1, 1), "{refused:?}");
    for guard in adopted {
        guard.unwrap().unlock().await.unwrap();
    }
    assert_eq!(world.client.open_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn handle_is_adopted_once_by_a_client() {
    let world = World::new();
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    let adopted = world.client.adopt(&handle).await.unwrap();
    let again = world.client.adopt(&handle).await;
    assert!(matches!(again, Err(AdoptError::Lock(LockError::Rejected { .. }))), "{again:?}");
    tokio::time::sleep(TTL * 3).await;
    assert!(adopted.is_held());
    adopted.unlock().await.unwrap();
    assert_eq!(world.client.open_leases(), 0);
}

/// The claim is answered, and its future is not polled until the client has ended.
#[tokio::test(start_paused = true)]
async fn shutdown_leaves_a_lock_that_is_being_adopted() {
    let world = World::new();
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    world.script.decide(Verb::Acquire, Fate::AnsweredLate(Duration::from_secs(1)));
    let mut adopting = std::pin::pin!(world.client.adopt(&handle));
    assert!(futures_util::poll!(adopting.as_mut()).is_pending());
    until_idle().await;
    assert!(futures_util::poll!(adopting.as_mut()).is_pending());
    tokio::time::sleep(Duration::from_secs(2)).await;
    until_idle().await;
    world.client.shutdown(TTL).await.unwrap();
    let adopted = adopting.await;
    assert!(matches!(adopted, Err(AdoptError::Lock(LockError::Closed { .. }))), "{adopted:?}");
    assert!(!world.other_client().inspect("job").await.unwrap().is_free(), "another client may adopt it");
}

#[tokio::test(start_paused = true)]
async fn lease_that_an_adoption_made_anew_is_released() {
    for is_shut_down in [true, false] {
        let world = World::new();
        let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
        world.script.decide(Verb::Acquire, Fate::Delayed(Duration::from_secs(1)));
        {
            let mut adopting = std::pin::pin!(world.client.adopt(&handle));
            for _ in 0..2 {
                assert!(futures_util::poll!(adopting.as_mut()).is_pending());
                until_idle().await;
            }
            world.other_client().break_leases("job").await.unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
            if is_shut_down {
                world.client.shutdown(TTL).await.unwrap();
            }
        }
        until_idle().await;
        assert!(world.other_client().inspect("job").await.unwrap().is_free(), "{is_shut_down}");
    }
}

/// The claim reaches the store after the lock was broken, and after the user or the client has left.
#[tokio::test(start_paused = true)]
async fn abandoned_adoption_releases_a_new_lease() {
    for is_shut_down in [true, false] {
        let world = World::new();
        let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
        world.script.decide(Verb::Acquire, Fate::Delayed(Duration::from_secs(1)));
        let mut adopting = Box::pin(world.client.adopt(&handle));
        for _ in 0..2 {
            assert!(futures_util::poll!(adopting.as_mut()).is_pending());
            until_idle().await;
        }
        world.other_client().break_leases("job").await.unwrap();
        if is_shut_down {
            world.client.shutdown(TTL).await.unwrap();
        } else {
            drop(adopting);
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        until_idle().await;
        assert!(world.other_client().inspect("job").await.unwrap().is_free(), "{is_shut_down}");
        assert_eq!(world.client.open_leases(), 0, "{is_shut_down}");
    }
}

type Adoption<'a> = LocalBoxFuture<'a, Result<Guard, AdoptError>>;

/// Drops an adoption whose claim gets no answer for some seconds.
async fn leave_an_adoption(world: &World, handle: &LockHandle) {
    world.script.decide(Verb::Acquire, Fate::Hangs);
    assert!(dropped_after(5, world.client.adopt(handle)).await.is_none());
    world.script.decide(Verb::Acquire, Fate::Answered);
}

/// An adoption that waits for the answer to a dropped one.
async fn waiting_adoption<'a>(world: &'a World, handle: &'a LockHandle) -> Adoption<'a> {
    let mut waiting = world.client.adopt(handle).boxed_local();
    for _ in 0..3 {
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        until_idle().await;
    }
    waiting
}

/// The same, with a waker that panics.
async fn broken_wait<'a>(world: &'a World, handle: &'a LockHandle) -> Adoption<'a> {
    leave_an_adoption(world, handle).await;
    let mut waiting = waiting_adoption(world, handle).await;
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&broken_waker())).is_pending());
    waiting
}

#[tokio::test(start_paused = true)]
async fn broken_waker_of_an_adoption_ends_no_client() {
    let world = World::with(|can| can.queue = false);
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    let lock = world.lock("held");
    let held = lock.lock().await.unwrap();
    let _waiting = broken_wait(&world, &handle).await;
    let timed_out = tokio::spawn(async move { lock.lock_with(LockOptions::new().wait(STEP * 40)).await });
    tokio::time::sleep(STEP * 100).await;
    assert!(held.is_held());
    assert!(matches!(timed_out.now_or_never(), Some(Ok(Err(LockError::TimedOut { .. })))));
}

#[tokio::test(start_paused = true)]
async fn broken_waker_of_an_adoption_strands_no_unlock() {
    let world = World::new();
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    let other = world.lock("other").lock().await.unwrap();
    let _waiting = broken_wait(&world, &handle).await;
    world.script.decide(Verb::Release, Fate::AnsweredLate(STEP));
    let unlocking = tokio::spawn(other.unlock());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(matches!(unlocking.now_or_never(), Some(Ok(Ok(())))));
}

#[tokio::test(start_paused = true)]
async fn waiting_adoption_keeps_the_lock_alive() {
    const SHORT: Duration = Duration::from_secs(3);
    let world = World::new();
    let guard = mutex(&world.client).lock_with(LockOptions::new().ttl(SHORT)).await.unwrap();
    let handle = guard.into_handle().unwrap();
    leave_an_adoption(&world, &handle).await;
    let since = Instant::now();
    let adopted = world.client.adopt(&handle).await.unwrap();
    assert!(since.elapsed() > SHORT, "it did not wait");
    tokio::time::sleep(SHORT * 2).await;
    assert!(adopted.is_held());
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_a_waiting_adoption() {
    let world = World::new();
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    leave_an_adoption(&world, &handle).await;
    let waiting = waiting_adoption(&world, &handle).await;
    assert!(world.client.shutdown(STEP).await.is_err(), "the dropped adoption has no answer");
    let ended = tokio::time::timeout(STEP, waiting).await.expect("it waits no longer");
    assert!(matches!(ended, Err(AdoptError::Lock(LockError::Closed { .. }))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn failed_extension_ends_no_waiting_adoption() {
    for fate in [Fate::Failed, Fate::Hangs] {
        let world = World::new();
        let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
        leave_an_adoption(&world, &handle).await;
        let mut waiting = waiting_adoption(&world, &handle).await;
        world.script.decide(Verb::Extend, fate);
        let early = tokio::time::timeout(TTL / 3 + STEP, waiting.as_mut()).await;
        assert!(early.is_err(), "{fate:?}: {early:?}");
        assert!(world.script.calls().len() > 2, "{fate:?}: it was not extended again");
        world.script.decide(Verb::Extend, Fate::Answered);
        let adopted = tokio::time::timeout(TTL / 2, waiting).await.expect("the dropped adoption is removed");
        adopted.unwrap().unlock().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_adoption_ends_with_the_ttl() {
    const SHORT: Duration = Duration::from_secs(3);
    let world = World::new();
    let guard = mutex(&world.client).lock_with(LockOptions::new().ttl(SHORT)).await.unwrap();
    let handle = guard.into_handle().unwrap();
    leave_an_adoption(&world, &handle).await;
    let waiting = waiting_adoption(&world, &handle).await;
    world.script.decide(Verb::Extend, Fate::Failed);
    let since = Instant::now();
    let failed = waiting.await;
    assert!(matches!(failed, Err(AdoptError::Lock(LockError::Unavailable { .. }))), "{failed:?}");
    assert!(since.elapsed() >= SHORT - STEP * 10, "it gave up too early");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_an_adoption_with_a_hung_extension() {
    let world = World::new();
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    leave_an_adoption(&world, &handle).await;
    let mut waiting = waiting_adoption(&world, &handle).await;
    world.script.decide(Verb::Extend, Fate::Hangs);
    assert!(tokio::time::timeout(TTL / 3 + STEP, waiting.as_mut()).await.is_err());
    assert!(world.client.shutdown(STEP).await.is_err(), "the dropped adoption has no answer");
    let ended = tokio::time::timeout(STEP, waiting).await.expect("it waits no longer");
    assert!(matches!(ended, Err(AdoptError::Lock(LockError::Closed { .. }))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn dropped_adoption_leaves_no_waiting_task() {
    let world = World::new();
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    leave_an_adoption(&world, &handle).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..1_000 {
        drop(waiting_adoption(&world, &handle).await);
    }
    until_idle().await;
    assert_eq!(tasks(), before);
}

/// Both wait for the same answer. The second finds the lease of the first, which is dropped by then.
#[tokio::test(start_paused = true)]
async fn adoption_waits_for_one_that_was_dropped_meanwhile() {
    let world = World::new();
    let handle = mutex(&world.client).lock().await.unwrap().into_handle().unwrap();
    leave_an_adoption(&world, &handle).await;
    let mut first = waiting_adoption(&world, &handle).await;
    let second = waiting_adoption(&world, &handle).await;
    tokio::time::sleep(TTL * 2 / 3).await; // the client gives up the call
    world.script.decide(Verb::Acquire, Fate::Hangs);
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    until_idle().await;
    drop(first);
    assert_eq!(world.client.open_leases(), 1, "the claim of the first is under way");
    world.script.decide(Verb::Acquire, Fate::Answered);
    second.await.unwrap().unlock().await.unwrap();
}
