//! Watching a lock, and what a wait and a log say about its holder, on virtual time.

mod support;

use std::time::Duration;

use futures_util::{Stream, StreamExt as _, poll};
use rlock_core::{BackendError, LockError, QueuePlace, Semaphore, SimpleLock, Snapshot};
use support::{Fate, Log, TTL, World, options, until_idle, until_reported};

/// The next state: the number of holders and of waiters.
async fn next(changes: &mut (impl Stream<Item = Result<Snapshot, BackendError>> + Unpin)) -> (usize, usize) {
    let change = tokio::time::timeout(TTL, changes.next()).await.expect("a change is seen in time");
    let snapshot = change.expect("the client lives").expect("the store answers");
    (snapshot.holders.len(), snapshot.queue.len())
}

#[tokio::test(start_paused = true)]
async fn watcher_sees_each_change_once() {
    let world = World::new();
    let watched = Semaphore::new("job", 2, &world.other_client()).unwrap();
    let used = Semaphore::new("job", 2, &world.client).unwrap();
    let mut changes = watched.watch();
    assert_eq!(next(&mut changes).await, (0, 0));
    let first = used.acquire().await.unwrap();
    assert_eq!(next(&mut changes).await, (1, 0));
    let second = used.acquire().await.unwrap();
    assert_eq!(next(&mut changes).await, (2, 0));
    let mut third = Box::pin(used.acquire());
    assert!(poll!(&mut third).is_pending());
    assert_eq!(next(&mut changes).await, (2, 1));
    tokio::time::sleep(TTL * 3).await;
    assert!(poll!(changes.next()).is_pending(), "nothing has changed");
    first.unlock().await.unwrap();
    third.await.unwrap().unlock().await.unwrap();
    second.unlock().await.unwrap();
    while next(&mut changes).await != (0, 0) {}
}

#[tokio::test(start_paused = true)]
async fn watcher_reports_a_silent_store_once() {
    let world = World::new();
    let lock = world.lock("job");
    let mut changes = lock.watch();
    assert_eq!(next(&mut changes).await, (0, 0));
    world.script.look_away(Fate::Hangs);
    assert!(changes.next().await.unwrap().is_err());
    tokio::time::sleep(TTL).await;
    assert!(poll!(changes.next()).is_pending(), "it says so once");
    world.script.look_away(Fate::Answered);
    assert_eq!(next(&mut changes).await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn watcher_ends_with_the_last_handle() {
    let world = World::new();
    let client = world.other_client();
    let mut changes = Semaphore::new("job", 2, &client).unwrap().watch();
    assert_eq!(next(&mut changes).await, (0, 0));
    drop(client);
    let end = tokio::time::timeout(TTL, changes.next()).await.expect("it is no handle of the client");
    assert!(end.is_none(), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn waiter_knows_its_place() {
    let world = World::new();
    let lock = world.lock("job");
    let guard = lock.lock_with(options()).await.unwrap();
    let (first, second) = (QueuePlace::new(), QueuePlace::new());
    let mut waits = [&first, &second].map(|place| Box::pin(lock.lock_with(options().queue_place(place))));
    for wait in &mut waits {
        assert!(poll!(wait).is_pending());
        until_idle().await;
    }
    let beside = world.lock("other").lock_with(options().queue_place(&second)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    beside.unlock().await.unwrap();
    assert_eq!((first.ahead(), second.ahead()), (Some(0), Some(1)));
    guard.unlock().await.unwrap();
    let [first_wait, mut second_wait] = waits;
    let guard = first_wait.await.unwrap();
    assert_eq!(first.ahead(), None);
    let renewed = tokio::time::timeout(TTL / 2, async {
        while second.ahead() != Some(0) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(poll!(&mut second_wait).is_pending());
        }
    });
    renewed.await.expect("it renews its place");
    drop(second_wait);
    until_idle().await;
    assert_eq!(second.ahead(), None);
    guard.unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn names_are_plain_text() {
    let world = World::new();
    let guard = world.lock("job").lock().await.unwrap();
    assert_eq!(world.client.inspect("job").await.unwrap().holders[0].token, guard.token());
    assert_eq!(world.client.break_leases(String::from("job")).await.unwrap(), 1);
    assert!(world.client.inspect(guard.resource()).await.unwrap().is_free());
    for refused in [world.client.inspect("").await.unwrap_err(), world.client.break_leases("a\nb").await.unwrap_err()] {
        assert!(matches!(refused, BackendError::Rejected(_)), "{refused:?}");
        assert!(refused.to_string().contains("a resource name cannot"), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn timeout_says_how_long_this_client_held() {
    let world = World::new();
    let other = SimpleLock::new("job", &world.other_client()).unwrap();
    let guard = world.lock("job").lock().await.unwrap();
    let wait = || options().wait(TTL);
    let own = world.lock("job").lock_with(wait()).await.unwrap_err();
    assert!(matches!(own, LockError::TimedOut { held_here: Some(held), .. } if held >= TTL), "{own:?}");
    assert!(own.to_string().contains("for 30s; locks are not reentrant"), "{own}");
    let others = other.lock_with(wait()).await.unwrap_err();
    assert!(others.to_string().contains("others hold it; `holders` of the lock"), "{others}");
    guard.unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn logs_name_the_token_and_the_times() {
    let world = World::new();
    let log = Log::default();
    let _logging = tracing::subscriber::set_default(log.subscriber());
    let held = SimpleLock::new("job", &world.other_client()).unwrap().lock().await.unwrap();
    let freeing = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        held.unlock().await.unwrap();
    };
    let job = world.lock("job");
    let (guard, ()) = tokio::join!(job.lock_with(options()), freeing);
    let guard = guard.unwrap();
    let token = guard.token();
    until_reported().await;
    let acquired = format!("token={token} waited_for=7");
    assert!(log.lines().iter().any(|line| line.contains("acquired") && line.contains(&acquired)), "{:?}", log.lines());
    tokio::time::sleep(Duration::from_secs(5)).await;
    guard.unlock().await.unwrap();
    until_reported().await;
    let released = format!("token={token} held_for=5");
    assert!(log.lines().iter().any(|line| line.contains("releasing") && line.contains(&released)), "{:?}", log.lines());
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let token = guard.token();
    world.client.break_leases(guard.resource()).await.unwrap();
    guard.lost().await;
    until_reported().await;
    let lost = format!("token={token} held_for=");
    assert!(log.lines().iter().any(|line| line.contains("lost the lock") && line.contains(&lost)), "{:?}", log.lines());
}
