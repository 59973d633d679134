//! Several locks as one, on virtual time.

mod support;

use std::time::Duration;

use futures_util::poll;
use rlock_core::{
    Client, InvalidConfig, LockError, LockOptions, LockSet, LockSetGuard, LossReason, RwLock, Semaphore, SimpleLock,
    UnlockError,
};
use tokio::time::timeout;

use support::{Fate, INTERVAL, STEP, TTL, Verb, World, dropped_after, options, until_idle};

fn set(client: &Client, names: &[&str]) -> LockSet {
    names.iter().fold(LockSet::new(client), |set, name| set.mutex(name).unwrap())
}

fn mutex(client: &Client, name: &str) -> SimpleLock {
    SimpleLock::new(name, client).unwrap()
}

async fn is_free(client: &Client, resource: &str) -> bool {
    client.inspect(resource).await.unwrap().is_free()
}

#[tokio::test(start_paused = true)]
async fn all_kinds_are_held_together() {
    let world = World::new();
    let other = world.other_client();
    let set = LockSet::new(&world.client).permits("pool", 2, 3).unwrap().write("page").unwrap();
    let guard = set.read("rates").unwrap().mutex("job").unwrap().lock().await.unwrap();
    assert!(mutex(&other, "job").try_lock().await.unwrap().is_none());
    assert!(RwLock::new("page", &other).unwrap().try_read().await.unwrap().is_none());
    assert!(RwLock::new("rates", &other).unwrap().try_read().await.unwrap().is_some());
    assert!(RwLock::new("rates", &other).unwrap().try_write().await.unwrap().is_none());
    let pool = Semaphore::new("pool", 3, &other).unwrap();
    let last = pool.try_acquire().await.unwrap();
    assert!(last.is_some() && pool.try_acquire().await.unwrap().is_none());
    let names: Vec<_> = guard.tokens().map(|(resource, _)| resource.as_str()).collect();
    assert_eq!(names, ["pool", "page", "rates", "job"], "in the order in which they were added");
    assert_eq!(guard.token("job"), Some(guard.guards()[3].token()));
    assert_eq!(guard.token("other"), None);
    guard.unlock().await.unwrap();
    drop(last);
    until_idle().await;
    for resource in ["pool", "page", "rates", "job"] {
        assert!(is_free(&other, resource).await, "{resource}");
    }
}

#[tokio::test(start_paused = true)]
async fn free_locks_take_one_request_and_one_release() {
    let world = World::new();
    let set = set(&world.client, &["c", "a", "b"]);
    for round in 1..=3 {
        let guard = set.lock().await.unwrap();
        guard.unlock().await.unwrap();
        assert_eq!(world.script.sizes(Verb::Acquire), vec![3; round]);
        assert_eq!(world.script.sizes(Verb::Release), vec![3; round]);
    }
    drop(set.lock().await.unwrap());
    until_idle().await;
    assert_eq!(world.script.sizes(Verb::Release), [3; 4], "a dropped guard");
}

#[tokio::test(start_paused = true)]
async fn locks_taken_one_by_one_are_held_as_a_set() {
    let world = World::new();
    let mut guards = Vec::new();
    for name in ["a", "b", "c"] {
        guards.push(mutex(&world.client, name).lock_with(options()).await.unwrap());
    }
    let guard = LockSetGuard::from(guards);
    let lost = guard.lost();
    world.other_client().break_leases("b").await.unwrap();
    assert_eq!(timeout(TTL, lost).await.expect("the loss of any lock resolves it").resource.as_str(), "b");
    guard.unlock().await.unwrap_err();
    assert_eq!(world.script.sizes(Verb::Release), [2], "those that are left");
}

#[tokio::test(start_paused = true)]
async fn opposite_orders_do_not_deadlock() {
    let world = World::new();
    let (one, other) = (world.client.clone(), world.other_client());
    let many = async |set: LockSet| {
        for _ in 0..100 {
            let guard = set.lock().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            guard.unlock().await.unwrap();
        }
    };
    let all = async {
        tokio::join!(
            many(set(&one, &["a", "b", "c"])),
            many(set(&other, &["c", "b", "a"])),
            many(set(&one, &["b", "a"]))
        )
    };
    timeout(Duration::from_secs(60), all).await.expect("none waits for ever");
}

#[tokio::test(start_paused = true)]
async fn waiting_holds_only_what_comes_before() {
    let world = World::new();
    let other = world.other_client();
    let held = mutex(&other, "b").lock().await.unwrap();
    let set = set(&world.client, &["c", "b", "a"]);
    let mut locking = Box::pin(set.lock());
    for _ in 0..3 {
        assert!(poll!(&mut locking).is_pending());
        until_idle().await;
    }
    assert!(!is_free(&other, "a").await);
    assert!(is_free(&other, "c").await);
    held.unlock().await.unwrap();
    assert_eq!(locking.await.unwrap().guards().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn try_is_all_or_nothing() {
    let world = World::new();
    let other = world.other_client();
    let held = mutex(&other, "b").lock().await.unwrap();
    let set = set(&world.client, &["a", "b", "c"]);
    assert!(set.try_lock().await.unwrap().is_none());
    until_idle().await;
    assert!(is_free(&other, "a").await && is_free(&other, "c").await);
    held.unlock().await.unwrap();
    assert_eq!(set.try_run(async { 7 }).await.unwrap(), Some(7));
    let work = async { mutex(&other, "c").snapshot().await.unwrap().holders[0].owner.label().map(str::to_owned) };
    let seen = set.try_run_with(options().label("batch"), work).await.unwrap();
    assert_eq!(seen.expect("the locks are free").as_deref(), Some("batch"));
    assert!(matches!(
        set.try_lock_with(options().wait(TTL)).await,
        Err(LockError::InvalidConfig(InvalidConfig::TryWithWait { .. }))
    ));
}

#[tokio::test(start_paused = true)]
async fn incomplete_set_leaves_no_rest() {
    let world = World::new();
    let other = world.other_client();
    let held = mutex(&other, "b").lock().await.unwrap();
    let set = set(&world.client, &["a", "b", "c"]);
    let resting = || options().hold_at_least(TTL);
    let are_free = async || {
        until_idle().await;
        is_free(&other, "a").await && is_free(&other, "c").await
    };
    assert!(set.try_lock_with(resting()).await.unwrap().is_none());
    assert!(are_free().await, "after a try");
    let timed_out = set.lock_with(resting().wait(INTERVAL)).await.unwrap_err();
    assert!(timed_out.is_timeout() && are_free().await, "after a timeout: {timed_out}");
    assert!(dropped_after(5, set.lock_with(resting())).await.is_none());
    assert!(are_free().await, "after a dropped wait");
    held.unlock().await.unwrap();
    set.lock_with(resting()).await.unwrap().unlock().await.unwrap();
    assert!(!is_free(&other, "a").await && !is_free(&other, "c").await, "they were held together, and rest");
}

#[tokio::test(start_paused = true)]
async fn wait_is_for_all_together() {
    let world = World::new();
    let other = world.other_client();
    let (first, _second) = (mutex(&other, "a").lock().await.unwrap(), mutex(&other, "b").lock().await.unwrap());
    let wait = Duration::from_secs(10);
    let begun = tokio::time::Instant::now();
    let set = set(&world.client, &["a", "b"]);
    let freeing = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        drop(first);
    };
    let (locked, ()) = tokio::join!(set.lock_with(options().wait(wait)), freeing);
    let Err(LockError::TimedOut { resource, wait: waited, .. }) = locked else { panic!("{locked:?}") };
    assert_eq!((resource.as_str(), waited, begun.elapsed()), ("b", wait, wait));
    until_idle().await;
    assert!(is_free(&other, "a").await);
}

#[tokio::test(start_paused = true)]
async fn dropped_wait_leaves_nothing() {
    let world = World::new();
    let other = world.other_client();
    let held = mutex(&other, "b").lock().await.unwrap();
    let set = set(&world.client, &["a", "b"]);
    for polls in 1..6 {
        let mut locking = Box::pin(set.lock());
        for _ in 0..polls {
            assert!(poll!(&mut locking).is_pending());
            until_idle().await;
        }
        drop(locking);
        until_idle().await;
        assert!(is_free(&other, "a").await, "after {polls} polls");
        assert_eq!(other.inspect("b").await.unwrap().queue, [], "after {polls} polls");
    }
    held.unlock().await.unwrap();
    assert_eq!(world.client.open_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn set_dropped_at_any_await_holds_nothing() {
    let world = World::new();
    for verb in [Verb::Acquire, Verb::Extend, Verb::Release] {
        world.script.decide(verb, Fate::AnsweredLate(STEP * 2));
    }
    let (other, set) = (world.other_client(), set(&world.client, &["a", "b"]));
    let mut polls = 0;
    loop {
        let held = mutex(&other, "b").lock().await.unwrap();
        let freeing = async {
            tokio::time::sleep(STEP * 8).await;
            drop(held);
        };
        // Without a watchdog, the set extends its locks at the end.
        let locking = dropped_after(polls, set.lock_with(options().watchdog(false)));
        let (locked, ()) = tokio::join!(locking, freeing);
        let is_over = locked.is_some();
        if let Some(guard) = locked {
            guard.unwrap().unlock().await.unwrap();
        }
        tokio::time::sleep(STEP * 20).await; // the requests under way
        assert_eq!(world.client.open_leases(), 0, "after {polls} polls");
        assert!(is_free(&other, "a").await && is_free(&other, "b").await, "after {polls} polls");
        if is_over {
            break;
        }
        polls += 1;
        assert!(polls < 100, "it never ends");
    }
    assert!(polls > 8, "both claims and the extensions were awaited: {polls}");
}

#[tokio::test(start_paused = true)]
async fn locks_without_a_watchdog_outlive_the_wait() {
    let world = World::new();
    let other = world.other_client();
    let held = mutex(&other, "b").lock().await.unwrap();
    let set = set(&world.client, &["a", "b"]);
    let freeing = async {
        tokio::time::sleep(TTL * 3).await;
        assert!(!is_free(&other, "a").await, "the set renews it while it waits");
        drop(held);
    };
    let (guard, ()) = tokio::join!(set.lock_with(options().watchdog(false)), freeing);
    let guard = guard.unwrap();
    assert!(guard.remaining() > TTL * 9 / 10, "{:?}", guard.remaining());
    assert!(guard.guards().iter().all(|guard| guard.watchdog().is_none()));
    tokio::time::sleep(TTL).await;
    assert!(!guard.is_held(), "nothing renews it any more");
}

#[tokio::test(start_paused = true)]
async fn lock_lost_during_the_wait_is_taken_again() {
    let world = World::new();
    let other = world.other_client();
    let held = mutex(&other, "b").lock().await.unwrap();
    let set = set(&world.client, &["a", "b"]);
    let breaking = async {
        tokio::time::sleep(INTERVAL).await;
        other.break_leases("a").await.unwrap();
        tokio::time::sleep(INTERVAL).await;
        drop(held);
    };
    let (guard, ()) = tokio::join!(set.lock(), breaking);
    let guard = guard.unwrap();
    assert!(guard.is_held());
    assert!(!is_free(&other, "a").await && !is_free(&other, "b").await);
}

#[tokio::test(start_paused = true)]
async fn first_loss_is_that_of_the_set() {
    let world = World::new();
    let other = world.other_client();
    let guard = set(&world.client, &["a", "b"]).lock_with(options()).await.unwrap();
    let (lost, ended, token) = (guard.lost(), guard.ended(), guard.cancellation_token());
    other.break_leases("b").await.unwrap();
    let lost = timeout(TTL, lost).await.expect("the loss of any lock resolves it");
    assert_eq!((lost.resource.as_str(), lost.reason), ("b", LossReason::Broken));
    let ended = timeout(TTL, ended).await.expect("the loss of any lock resolves it");
    assert_eq!(ended, rlock_core::End::Lost(LossReason::Broken));
    token.cancelled().await;
    assert_eq!(guard.check(), Err(lost.clone()));
    assert!(!guard.is_held());
    assert_eq!(guard.remaining(), Duration::ZERO);
    assert!(matches!(guard.unlock().await, Err(UnlockError::Lost(loss)) if loss == lost));
    assert!(is_free(&other, "a").await, "the other was released all the same");
}

#[tokio::test(start_paused = true)]
async fn work_of_a_set_is_dropped_on_loss() {
    let world = World::new();
    let other = world.other_client();
    let guard = set(&world.client, &["a", "b"]).lock().await.unwrap();
    let breaking = async {
        until_idle().await;
        other.break_leases("a").await.unwrap();
        std::future::pending::<()>().await;
    };
    let run = timeout(TTL, guard.run(breaking)).await.expect("the loss ends the run");
    assert_eq!(run.unwrap_err().resource.as_str(), "a");
    until_idle().await;
    assert!(is_free(&other, "b").await);
}

#[tokio::test(start_paused = true)]
async fn release_of_a_set_cancels_nothing() {
    let world = World::new();
    let guard = set(&world.client, &["a", "b"]).lock().await.unwrap();
    let (token, ended) = (guard.cancellation_token(), guard.ended());
    guard.unlock().await.unwrap();
    assert_eq!(ended.await, rlock_core::End::Released);
    until_idle().await;
    assert!(!token.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn loss_after_a_partial_release_cancels() {
    let world = World::new();
    let guard = set(&world.client, &["a", "b"]).lock_with(options()).await.unwrap();
    let token = guard.cancellation_token();
    guard.guards()[0].release().await.unwrap();
    until_idle().await;
    assert!(!token.is_cancelled());
    world.other_client().break_leases("b").await.unwrap();
    timeout(TTL, token.cancelled()).await.expect("the loss of the other lock cancels it");
}

#[tokio::test(start_paused = true)]
async fn all_are_renewed_and_extended() {
    let world = World::new();
    let guard = set(&world.client, &["a", "b"]).lock_with(options()).await.unwrap();
    tokio::time::sleep(TTL * 5).await;
    assert!(guard.is_held());
    assert!(guard.extend(TTL * 4).await.unwrap() > TTL * 3);
}

#[tokio::test(start_paused = true)]
async fn name_can_be_added_once() {
    let world = World::new();
    let twice = set(&world.client, &["a"]).read("a");
    assert!(matches!(twice, Err(InvalidConfig::NameTwice { resource }) if resource.as_str() == "a"));
    assert!(matches!(LockSet::new(&world.client).permits("a", 3, 2), Err(InvalidConfig::Share(_))));
    let guard = LockSet::new(&world.client).lock().await.unwrap();
    assert!(guard.is_held() && guard.remaining() == Duration::MAX);
    assert!(poll!(Box::pin(guard.lost())).is_pending());
    guard.unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn failure_gives_back_what_was_taken() {
    let world = World::new();
    let other = world.other_client();
    let held = mutex(&other, "b").lock().await.unwrap();
    let set = set(&world.client, &["a", "b"]);
    let failing = async {
        until_idle().await;
        tokio::time::sleep(INTERVAL).await;
        world.script.decide(Verb::Acquire, Fate::Failed);
        world.script.decide(Verb::Extend, Fate::Failed);
        tokio::time::sleep(TTL * 2).await;
        world.script.decide(Verb::Extend, Fate::Answered);
    };
    let (locked, ()) = tokio::join!(set.lock_with(LockOptions::new().ttl(TTL)), failing);
    assert!(matches!(locked, Err(LockError::Unavailable { .. })), "{locked:?}");
    held.unlock().await.unwrap();
    until_idle().await;
    assert!(is_free(&other, "a").await && is_free(&other, "b").await);
}

#[tokio::test(start_paused = true)]
async fn hold_limit_of_a_set_is_refused() {
    let world = World::new();
    let set = set(&world.client, &["a", "b"]);
    let limited = || options().hold_at_most(TTL);
    for refused in [set.lock_with(limited()).await.map(drop), set.try_lock_with(limited()).await.map(drop)] {
        assert!(matches!(refused, Err(LockError::InvalidConfig(InvalidConfig::HoldLimitOfSet))), "{refused:?}");
    }
    assert!(world.script.sizes(Verb::Acquire).is_empty(), "no claim was sent");
}

#[tokio::test(start_paused = true)]
async fn guards_of_a_set_are_released_alone() {
    let world = World::new();
    let other = world.other_client();
    let mut guards = set(&world.client, &["b", "a"]).lock().await.unwrap().into_guards();
    let last = guards.pop().expect("there are two");
    assert_eq!(last.resource().as_str(), "a", "in the order in which they were added");
    last.unlock().await.unwrap();
    assert!(is_free(&other, "a").await && guards[0].is_held());
    drop(guards);
    until_idle().await;
    assert!(is_free(&other, "b").await);
}
