//! Promises 4 and 5: every await is cancel safe, and dropping a guard releases the lock.

use std::future::Future;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::poll;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rlock_core::{Client, LockError, LossReason};
use tokio::runtime::Builder;

use crate::chance::{chance, up_to};
use crate::locking::{lock, lock_in_background, long, mutex, soon, try_lock, unlock};
use crate::peer::SOON;
use crate::wait::{eventually, linger, within};
use crate::{Network, Stage};

/// A `lock()` that is dropped at any of its polls leaves neither a lease nor an entry in the queue, in three hundred
/// tries.
pub async fn dropped_acquire_leaves_nothing(stage: &Stage) {
    let (client, other) = (stage.client().await, stage.client().await);
    let mut chance = chance();
    for _ in 0..300 {
        let blocker = if chance.random_bool(0.5) { Some(lock(&other, "x").await) } else { None };
        let polls = chance.random_range(0..6);
        let lock = mutex(&client, "x");
        drop(poll_some(lock.lock_with(long()), polls, &mut chance).await);
        if let Some(guard) = blocker {
            unlock(guard).await;
        }
    }
    gives_all_back(&client).await;
    stage.peer().await.sees_free("x").await;
}

/// A `lock()` that is dropped while it waits leaves the queue, and does not affect the holder.
pub async fn dropped_wait_leaves_the_queue(stage: &Stage) {
    let (holder, waiter) = (stage.client().await, stage.client().await);
    let guard = lock(&holder, "x").await;
    let waiting = lock_in_background(&waiter, "x");
    stage.sees_waiting(1, "x").await;
    waiting.abort();
    gives_all_back(&waiter).await;
    let snapshot = stage.peer().await.inspect("x").await;
    assert_eq!((snapshot.holders.len(), snapshot.queue.len()), (1, 0));
    assert!(guard.is_held());
}

/// An `unlock()` that is dropped at any of its polls releases the lock.
pub async fn dropped_release_is_safe(stage: &Stage) {
    let (mut holder, mut other) = (stage.client().await, stage.client().await);
    let mut chance = chance();
    for _ in 0..100 {
        let guard = lock(&holder, "x").await;
        let polls = chance.random_range(0..4);
        poll_some(guard.unlock(), polls, &mut chance).await;
        std::mem::swap(&mut holder, &mut other);
    }
    stage.peer().await.sees_free("x").await;
}

/// An `extend()` that is dropped at any of its polls leaves the lock held.
pub async fn dropped_extend_is_safe(stage: &Stage) {
    let (client, peer) = (stage.client().await, stage.peer().await);
    let mut chance = chance();
    let guard = lock(&client, "x").await;
    for _ in 0..100 {
        let polls = chance.random_range(0..4);
        poll_some(guard.extend(SOON), polls, &mut chance).await;
    }
    soon("an extension", guard.extend(SOON)).await;
    assert!(guard.is_held());
    assert_eq!(peer.inspect("x").await.holders[0].token, guard.token());
    unlock(guard).await;
    gives_all_back(&client).await;
    assert!(peer.inspect("x").await.is_free());
}

/// An adoption that is dropped at any of its polls leaves the lock to the next one.
pub async fn dropped_adoption_is_safe(stage: &Stage) {
    let (holder, client, peer) = (stage.client().await, stage.client().await, stage.peer().await);
    let mut chance = chance();
    let mut handle = lock(&holder, "x").await.into_handle().expect("it is held");
    for _ in 0..100 {
        let polls = chance.random_range(0..8);
        let adopted = poll_some(client.adopt(&handle), polls, &mut chance).await;
        if let Some(adopted) = adopted {
            let guard = adopted.expect("the lock is still there");
            handle = guard.into_handle().expect("it is held");
        }
    }
    let guard = soon("an adoption", client.adopt(&handle)).await;
    assert!(guard.is_held());
    let tokens: Vec<_> = peer.inspect("x").await.holders.iter().map(|holder| holder.token).collect();
    assert_eq!(tokens, [handle.token()]);
    unlock(guard).await;
    gives_all_back(&client).await;
}

/// Replies to cancelled requests are not taken for the replies to other requests on the same connection.
pub async fn connection_comes_back_clean(stage: &Stage, network: &Network) {
    const LOCKS: usize = 50;
    let (behind, proxy) = network.proxied().await;
    let (client, peer) = (behind.client().await, stage.peer().await);
    let mut chance = chance();
    proxy.slow(Duration::from_millis(5));
    let dropped = (0..LOCKS).map(|number| {
        let wait = up_to(Duration::from_millis(30), &mut chance);
        let lock = mutex(&client, &format!("dropped/{number}"));
        async move { drop(tokio::time::timeout(wait, lock.lock_with(long())).await) }
    });
    join_all(dropped.collect::<Vec<_>>()).await;

    let names: Vec<String> = (0..LOCKS).map(|number| number.to_string()).collect();
    let guards = join_all(names.iter().map(|name| lock(&client, name))).await;
    proxy.heal();
    for guard in &guards {
        let tokens: Vec<_> =
            peer.inspect(guard.resource().as_str()).await.holders.iter().map(|holder| holder.token).collect();
        assert_eq!(tokens, [guard.token()], "{:?} got the answer for another lock", guard.resource());
    }
    join_all(guards.iter().map(|guard| async { soon("an extension", guard.extend(SOON)).await })).await;
    join_all(guards.into_iter().map(unlock)).await;
    gives_all_back(&client).await;
    assert_eq!(peer.list("", LOCKS).await, []);
}

/// Dropping a guard releases its lock.
pub async fn dropped_guard_frees(stage: &Stage) {
    let (holder, other) = (stage.client().await, stage.client().await);
    drop(lock(&holder, "x").await);
    unlock(lock(&other, "x").await).await;
    gives_all_back(&holder).await;
}

/// Dropping a guard on a thread without a runtime releases its lock.
pub async fn guard_dropped_outside_a_runtime(stage: &Stage) {
    let (holder, other) = (stage.client().await, stage.client().await);
    let guard = lock(&holder, "x").await;
    thread::spawn(move || drop(guard)).join().expect("dropping does not panic");
    unlock(lock(&other, "x").await).await;
}

/// Dropping a guard on a runtime that ends at once releases its lock.
pub async fn guard_dropped_on_another_runtime(stage: &Stage) {
    let (holder, other) = (stage.client().await, stage.client().await);
    let guard = lock(&holder, "x").await;
    let drop_there = move || {
        let runtime = Builder::new_current_thread().build().expect("the system can start a runtime");
        runtime.block_on(async move { drop(guard) });
    };
    thread::spawn(drop_there).join().expect("dropping does not panic");
    unlock(lock(&other, "x").await).await;
}

/// A shutdown releases all held locks, ends all waits, notifies both, and refuses later requests.
pub async fn shutdown_gives_back_everything(stage: &Stage) {
    let (client, other, peer) = (stage.client().await, stage.client().await, stage.peer().await);
    let names: Vec<String> = (0..20).map(|number| format!("job/{number}")).collect();
    let guards = join_all(names.iter().map(|name| lock(&client, name))).await;
    let blocker = lock(&other, "x").await;
    let waiters: Vec<_> = (0..5).map(|_| lock_in_background(&client, "x")).collect();
    stage.sees_waiting(5, "x").await;

    soon("a shutdown", client.shutdown(SOON)).await;
    assert_eq!(client.open_leases(), 0);
    assert_eq!(peer.list("", 100).await.len(), 1, "only the other client's lock is left");
    assert_eq!(peer.inspect("x").await.queue.len(), 0);
    assert!(guards.iter().all(|guard| guard.loss() == Some(LossReason::Shutdown)), "{guards:?}");
    for waiter in waiters {
        let answer = within(SOON, "the end of a wait", waiter).await.expect("the waiting task does not panic");
        assert!(matches!(answer, Err(LockError::Closed { .. })), "{answer:?}");
    }
    let late = within(SOON, "a late lock", mutex(&client, "late").lock_with(long())).await;
    assert!(matches!(late, Err(LockError::Closed { .. })), "{late:?}");
    assert!(blocker.is_held());
    assert!(try_lock(&other, &names[0]).await.is_some());
}

/// Polls `future` at most `polls` times with short pauses between, and drops it if it is not ready by then.
async fn poll_some<F: Future>(future: F, polls: usize, chance: &mut StdRng) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let std::task::Poll::Ready(output) = poll!(future.as_mut()) {
            return Some(output);
        }
        linger(up_to(Duration::from_micros(500), chance)).await;
    }
    None
}

async fn gives_all_back(client: &Client) {
    eventually(SOON, "everything to be given back", async || client.open_leases() == 0).await;
}
