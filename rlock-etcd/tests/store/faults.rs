//! Faults that only etcd has, and their effect on locks.

use std::collections::HashSet;
use std::slice;
use std::time::Duration;

use crate::support::{SOON, Server, claim, extension, mutex};
use etcd_client::GetOptions;
use futures_util::future::{join_all, join3};
use rlock_core::{Acquired, Backend as _, Client, Extended, Guard, IfBusy, LockOptions, LossReason, Share, SimpleLock};
use rlock_etcd::EtcdBackend;
use rlock_testkit::wait::{eventually, within};

const TTL: Duration = Duration::from_secs(60);
const AT_ONCE: Duration = Duration::from_secs(2);

async fn lock(client: &Client, name: &str) -> Guard {
    let lock = SimpleLock::new(name, client).unwrap();
    within(SOON, "a lock", lock.lock_with(LockOptions::new().ttl(TTL))).await.unwrap()
}

#[tokio::test]
async fn deleted_key_is_reported_to_its_holder() {
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
        // etcd does not say which client has deleted a key.
        assert!(matches!(reason, LossReason::Gone | LossReason::Broken), "{reason}");
    }
    drop((old, new, guards));
    lock(&client, "old").await.unlock().await.unwrap();
}

#[tokio::test]
async fn waiter_with_a_deleted_key_queues_again() {
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

/// The locks are granted to others only after all holders have learned of their loss.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_losses_precede_new_grants() {
    const LOCKS: usize = 2_000;
    let server = Server::start_with(&[]);
    let config = server.config("n").restart_grace(Duration::from_secs(2)).unwrap();
    let holder = Client::builder().connect(EtcdBackend::connect(config.clone())).await.unwrap();
    let names: Vec<_> = (0..LOCKS).map(|number| format!("r{number}")).collect();
    let mut guards = Vec::new();
    for some in names.chunks(500) {
        guards.extend(join_all(some.iter().map(|name| lock(&holder, name))).await);
    }
    server.restart_empty().await;
    let other = Client::builder().retry_for(SOON).connect(EtcdBackend::connect(config)).await.unwrap();
    let granted = lock(&other, &names[0]).await;
    let held = guards.iter().filter(|guard| guard.is_held()).count();
    assert_eq!(held, 0, "no lost lock may count as held");
    granted.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_locks_never_share_a_lease_of_etcd() {
    let server = Server::start();
    let client = server.client_in("n").await;
    let mut admin = server.admin().await;
    for round in 0..20 {
        let short = |name: &str, id| claim(name, id, Share::EXCLUSIVE, 5_000, IfBusy::Queue);
        let moved = short("moved", round);
        assert!(matches!(client.acquire(slice::from_ref(&moved)).await[0], Ok(Acquired::Held(_))));
        let longer = async |secs| client.extend(&[extension(moved.key.clone(), secs * 1_000)]).await.remove(0);
        let release = async || client.release(&[moved.key.clone().into()]).await.remove(0);
        let (one, other, released) = join3(longer(60), longer(70 + round as u64), release()).await;
        assert!(one.is_ok() && other.is_ok() && released.is_ok(), "{one:?}, {other:?}, {released:?}");

        let names: Vec<_> = (0..4).map(|number| format!("r{number}")).collect();
        let claims: Vec<_> = names.iter().map(|name| short(name, rand::random())).collect();
        assert!(client.acquire(&claims).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
        let found = admin.get("n/r", Some(GetOptions::new().with_prefix())).await.unwrap();
        let leases: HashSet<_> = found.kvs().iter().map(etcd_client::KeyValue::lease).collect();
        assert_eq!(leases.len(), claims.len(), "in round {round}");
        let releases: Vec<_> = claims.into_iter().map(|claim| claim.key.into()).collect();
        assert!(client.release(&releases).await.iter().all(Result::is_ok));
    }
}

/// An etcd lease of a new TTL has to be granted, and does not wait for the revocations.
#[tokio::test(flavor = "multi_thread")]
async fn a_mass_release_holds_up_no_lock() {
    const LOCKS: u128 = 3_000;
    let server = Server::start();
    let client = server.client_in("n").await;
    let claims: Vec<_> = (0..LOCKS).map(|id| mutex(&format!("r{id}"), id)).collect();
    for some in claims.chunks(500) {
        assert!(client.acquire(some).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    }
    let releases: Vec<_> = claims.into_iter().map(|claim| claim.key.into()).collect();
    assert!(client.release(&releases).await.iter().all(Result::is_ok));
    let left = server.leases();
    let other = claim("other", LOCKS, Share::EXCLUSIVE, 60_000, IfBusy::Queue);
    assert!(matches!(client.acquire(&[other]).await[0], Ok(Acquired::Held(_))));
    assert!(left > 1_000 && server.leases() > 500, "the lock came after the leases were revoked");
}

/// The server answers such a keep-alive only once it has revoked the lease, and the later ones on the stream after that.
#[tokio::test]
async fn expired_lease_does_not_block_the_others() {
    const BRIEF: Duration = Duration::from_secs(1);
    let server = Server::start();
    let client = EtcdBackend::connect(server.config("n").timeout(SOON).unwrap()).await.unwrap();
    let streams = || server.metric(r#"grpc_server_started_total{grpc_method="LeaseKeepAlive""#);
    let all_held = |answers: Vec<_>| answers.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_))));
    // Their keep-alives open all eight streams.
    let others: Vec<_> = (0..200).map(|id| mutex(&format!("r{id}"), id)).collect();
    assert!(all_held(client.acquire(&others).await));
    tokio::time::sleep(BRIEF).await;
    let extensions: Vec<_> = others.into_iter().map(|other| extension(other.key, 30_000)).collect();
    assert!(client.extend(&extensions).await.iter().all(|answer| matches!(answer, Ok(Extended::Held(_)))));
    let has_own_stream = async || {
        let (id, before) = (rand::random(), streams());
        let claim = claim(&format!("brief {id}"), id, Share::EXCLUSIVE, 1_000, IfBusy::Queue);
        let is_held = all_held(client.acquire(slice::from_ref(&claim)).await);
        tokio::time::sleep(BRIEF).await;
        let answer = client.extend(&[extension(claim.key, 1_000)]).await.remove(0);
        assert!(!matches!(answer, Ok(Extended::Held(_))), "{answer:?}");
        is_held && streams() == before + 1
    };
    // On a busy machine the server may have revoked the lease first.
    eventually(SOON, "a keep-alive on a separate stream", has_own_stream).await;
}
