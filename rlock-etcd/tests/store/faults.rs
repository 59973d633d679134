//! Faults that only etcd has, and their effect on locks.

use std::slice;
use std::time::Duration;

use crate::support::{SOON, Server, claim, config_at, extension, mutex};
use futures_util::future::{join, join_all};
use rlock_core::{Acquired, Backend as _, Client, Extended, Guard, IfBusy, LockOptions, LossReason, Share, SimpleLock};
use rlock_etcd::EtcdBackend;
use rlock_testkit::faults::{Proxy, Way};
use rlock_testkit::wait::{eventually, within};

const TTL: Duration = Duration::from_secs(60);
/// Half of the time until the next renewal, which would find out a loss too.
const AT_ONCE: Duration = Duration::from_secs(10);

async fn lock(client: &Client, name: &str) -> Guard {
    let lock = SimpleLock::new(name, client).unwrap();
    within(SOON, "a lock", lock.lock_with(LockOptions::new().ttl(TTL))).await.unwrap()
}

#[tokio::test]
async fn deleted_key_is_reported_to_its_holder() {
    let server = Server::start();
    let client = server.locks_in("n").await;
    let (old, mut guards) = (lock(&client, "old").await, Vec::new());
    // One watch opens the stream.
    let is_watched = async || server.metric("etcd_debugging_mvcc_watcher_total") == 2;
    eventually(SOON, "the watch", is_watched).await;
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

/// The client connects again, and begins another epoch.
#[tokio::test]
async fn tokens_grow_after_the_epoch_was_deleted() {
    let server = Server::start();
    let client = server.locks_in("n").await;
    let guard = lock(&client, "a").await;
    let token = guard.token();
    guard.unlock().await.unwrap();
    assert_eq!(server.delete("n/"), 1);
    let guard = lock(&client, "a").await;
    assert!(guard.token() > token);
    assert_eq!(server.keys("n/"), ["n/", "n/a/00000001/x0"]);
}

#[tokio::test]
async fn key_of_a_served_waiter_is_watched() {
    let server = Server::start();
    let (holder, other) = (server.locks_in("n").await, server.locks_in("n").await);
    let guard = lock(&holder, "a").await;
    let waiting = other.clone();
    let waiter = tokio::spawn(async move { lock(&waiting, "a").await });
    eventually(SOON, "the waiter", async || server.keys("n/a/").len() == 2).await;
    let revision = server.revision();
    guard.unlock().await.unwrap();
    let guard = within(SOON, "the hand-over", waiter).await.unwrap();
    // The first write is the release.
    eventually(SOON, "the note of the grant", async || server.revision() >= revision + 2).await;
    assert_eq!(server.delete("n/a/"), 1);
    within(AT_ONCE, "the loss", guard.lost()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_is_watched_again_after_a_reconnect() {
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let client = Client::builder().retry_for(SOON).connect(EtcdBackend::connect(config_at(proxy.url(), "n")));
    let client = client.await.unwrap();
    let guard = lock(&client, "a").await;
    let streams = || server.metric(r#"grpc_server_started_total{grpc_method="Watch""#);
    // One watch opens the stream.
    let is_watched = || server.metric("etcd_debugging_mvcc_watcher_total") == 2;
    eventually(SOON, "the watch", async || is_watched()).await;
    proxy.reset();
    eventually(SOON, "the watch on another stream", async || streams() >= 2 && is_watched()).await;
    assert_eq!(server.delete("n/a/"), 1);
    within(AT_ONCE, "the loss", guard.lost()).await;
}

/// The locks are granted to others only after all holders have learned of their loss.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_losses_precede_new_grants() {
    const LOCKS: usize = 2_000;
    let server = Server::start();
    let config = server.config("n").restart_grace(Duration::from_secs(4)).unwrap();
    // The grace of a new namespace comes first.
    let connect =
        async || Client::builder().retry_for(SOON).connect(EtcdBackend::connect(config.clone())).await.unwrap();
    let holder = connect().await;
    let names: Vec<_> = (0..LOCKS).map(|number| format!("r{number}")).collect();
    let mut guards = Vec::new();
    for some in names.chunks(500) {
        guards.extend(join_all(some.iter().map(|name| lock(&holder, name))).await);
    }
    server.restart_empty().await;
    let other = connect().await;
    let granted = lock(&other, &names[0]).await;
    let held = guards.iter().filter(|guard| guard.is_held()).count();
    assert_eq!(held, 0, "no lost lock may count as held");
    granted.unlock().await.unwrap();
}

/// An etcd lease of a new TTL has to be granted, and does not wait for the revocations.
#[tokio::test(flavor = "multi_thread")]
async fn a_mass_release_holds_up_no_lock() {
    const LOCKS: u128 = 3_000;
    const LATENCY: Duration = Duration::from_millis(100);
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let client = EtcdBackend::connect(config_at(proxy.url(), "n").timeout(SOON).unwrap()).await.unwrap();
    let claims: Vec<_> = (0..LOCKS).map(|id| mutex(&format!("r{id}"), id)).collect();
    for some in claims.chunks(500) {
        assert!(client.acquire(some).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    }
    let releases: Vec<_> = claims.into_iter().map(|claim| claim.key.into()).collect();
    assert!(client.release(&releases).await.iter().all(Result::is_ok));
    // From now on the revocations need fifteen seconds, and the lock needs half a second.
    proxy.slow(LATENCY);
    let left = server.leases();
    let other = claim("other", LOCKS, Share::EXCLUSIVE, 60_000, IfBusy::Queue);
    assert!(matches!(client.acquire(&[other]).await[0], Ok(Acquired::Held(_))));
    assert!(left > 1_000 && server.leases() > 500, "the lock came after the leases were revoked");
}

/// The history is compacted between the grant and its answer, so the server cancels the watch that begins at the grant.
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_watch_is_opened_again() {
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let client = Client::builder().retry_for(SOON).connect(EtcdBackend::connect(config_at(proxy.url(), "n")));
    let client = client.await.unwrap();
    lock(&client, "a").await.unlock().await.unwrap(); // the next lock needs no new etcd lease
    let mut admin = server.admin().await;
    proxy.stall(Way::ToClient);
    let compact = async {
        eventually(SOON, "the grant", async || server.keys("n/a/").len() == 1).await;
        admin.put("filler", "", None).await.unwrap();
        let later = admin.put("filler", "", None).await.unwrap().header().unwrap().revision();
        admin.compact(later, None).await.unwrap();
        proxy.heal();
    };
    let (guard, ()) = join(lock(&client, "a"), compact).await;
    assert_eq!(server.delete("n/a/"), 1);
    within(AT_ONCE, "the loss", guard.lost()).await;
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

/// A keep-alive is sent in time, gets no answer, and is sent again after its lease has expired.
#[tokio::test(flavor = "multi_thread")]
async fn keep_alive_that_expires_unanswered_blocks_no_other() {
    const BRIEF: Duration = Duration::from_secs(3);
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let config = config_at(proxy.url(), "n").timeout(SOON / 2).unwrap();
    let client = EtcdBackend::connect(config).await.unwrap();
    let all_held = |answers: Vec<_>| answers.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_))));
    let lasting = |id: u128| claim(&format!("r{id}"), id, Share::EXCLUSIVE, 600_000, IfBusy::Queue);
    // Some of them share its stream, one of eight.
    let others: Vec<_> = (1..=64).map(lasting).collect();
    assert!(all_held(client.acquire(&others).await));
    let brief = claim("brief", 0, Share::EXCLUSIVE, 3_000, IfBusy::Queue);
    assert!(all_held(client.acquire(slice::from_ref(&brief)).await));
    server.keep_expired_leases().await;
    proxy.stall(Way::Both);
    let brief = [extension(brief.key, 3_000)];
    let extend_others = async {
        tokio::time::sleep(BRIEF).await;
        proxy.heal();
        let answers = async || client.inspect(&others[0].key.resource).await.is_ok();
        eventually(SOON, "an answer", answers).await;
        let extensions: Vec<_> = others.into_iter().map(|other| extension(other.key, 600_000)).collect();
        client.extend(&extensions).await
    };
    let (expired, extended) = join(client.extend(&brief), extend_others).await;
    assert!(!matches!(expired[0], Ok(Extended::Held(_))), "{expired:?}");
    for answer in extended {
        assert!(matches!(answer, Ok(Extended::Held(_))), "{answer:?}");
    }
}

/// Its etcd lease has its full TTL again when the server is back.
#[tokio::test(flavor = "multi_thread")]
async fn waiter_of_two_seconds_outlasts_a_restart() {
    const BRIEF: Duration = Duration::from_secs(2);
    let server = Server::start();
    let (holder, other) = (server.locks_in("n").await, server.locks_in("n").await);
    let guard = lock(&holder, "a").await;
    let waiting = SimpleLock::new("a", &other).unwrap();
    let waiter = tokio::spawn(async move { waiting.lock_with(LockOptions::new().ttl(BRIEF)).await.unwrap() });
    let waits = async || server.keys("n/a/").len() == 2;
    eventually(SOON, "the waiter", waits).await;
    server.kill().await;
    tokio::time::sleep(BRIEF * 3 / 2).await;
    server.restart().await;
    eventually(SOON, "the waiter again", waits).await;
    tokio::time::sleep(BRIEF * 3 / 2).await;
    eventually(SOON, "the waiter, renewed", waits).await;
    assert!(guard.is_held() && !waiter.is_finished());
    guard.unlock().await.unwrap();
    within(SOON, "the hand-over", waiter).await.unwrap().unlock().await.unwrap();
}
