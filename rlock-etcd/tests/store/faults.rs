//! Faults that only etcd has, and what becomes of locks in them.

use std::time::Duration;

use crate::support::{SOON, Server};
use futures_util::future::join_all;
use rlock_core::{Client, Guard, LockOptions, LossReason, SimpleLock};
use rlock_testkit::wait::{eventually, within};

const TTL: Duration = Duration::from_secs(60);
const AT_ONCE: Duration = Duration::from_secs(2);

async fn lock(client: &Client, name: &str) -> Guard {
    let lock = SimpleLock::new(name, client).unwrap();
    within(SOON, "a lock", lock.lock_with(LockOptions::new().ttl(TTL))).await.unwrap()
}

#[tokio::test]
async fn the_holder_is_told_at_once_that_its_key_was_deleted() {
    let server = Server::start();
    let client = server.locks_in("n").await;
    let (old, mut guards) = (lock(&client, "old").await, Vec::new());
    tokio::time::sleep(Duration::from_secs(1)).await;
    for number in 0..20 {
        guards.push(lock(&client, &format!("new {number}")).await);
    }
    let new = lock(&client, "new").await;
    assert_eq!(server.delete("n/new"), 21);
    assert_eq!(server.delete("n/old/"), 1);
    let all = guards.iter().chain([&new, &old]);
    for reason in within(AT_ONCE, "the losses", join_all(all.map(|guard| guard.lost()))).await {
        // etcd does not say who has deleted a key.
        assert!(matches!(reason, LossReason::Gone | LossReason::Broken), "{reason}");
    }
    drop((old, new, guards));
    lock(&client, "old").await.unlock().await.unwrap();
}

#[tokio::test]
async fn a_waiter_whose_key_was_deleted_queues_again_and_is_served() {
    let server = Server::start();
    let (holder, other) = (server.locks_in("n").await, server.locks_in("n").await);
    let guard = lock(&holder, "a").await;
    let held = server.keys("n/a/");
    let waiter = tokio::spawn(async move { lock(&other, "a").await });
    let waits = async || server.keys("n/a/").len() == 2;
    eventually(SOON, "the waiter", waits).await;

    let waiting = server.keys("n/a/").into_iter().find(|key| !held.contains(key)).unwrap();
    assert_eq!(server.delete(&waiting), 1);
    eventually(SOON, "the waiter again", waits).await;
    assert!(guard.is_held());
    guard.unlock().await.unwrap();
    within(SOON, "the hand-over", waiter).await.unwrap().unlock().await.unwrap();
    assert_eq!(server.keys("n/"), ["n/"]);
}
