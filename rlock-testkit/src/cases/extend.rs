//! Rule 5: an extension makes the remaining life at least the requested TTL, and never shortens it.

use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt as _;
use rlock_core::{Acquired, Claim, Extended, Extension, Grant, LeaseKey, LockOptions, Released, Token};
use tokio::time::{Instant, sleep, timeout};

use crate::Stage;
use crate::chance::chance;
use crate::locking::{lock_as, try_lock, unlock};
use crate::peer::{LONG, Peer, SOON, Shape, absent, claim, ttl};
use crate::wait::eventually;

/// An extension restores the whole TTL of a lease.
pub async fn extend_restores_the_ttl(stage: &Stage) {
    let peer = stage.peer().await;
    let life = stage.kept(LONG);
    let held = peer.hold(&claim("x").living(life)).await;
    eventually(SOON, "time to pass", async || peer.remaining("x").await < life - stage.short() / 2).await;
    let grant = extended(&peer, &held.key, life).await;
    assert!(grant.ttl + step(stage) >= life, "{:?} of {life:?} are left", grant.ttl);
}

/// A lock that is renewed outlives its TTL five times.
pub async fn outlives_ttl_five_times(stage: &Stage) {
    let (holder, other) = (stage.client().await, stage.client().await);
    let guard = lock_as(&holder, "x", LockOptions::new().ttl(stage.brisk())).await;
    let lost = timeout(stage.brisk() * 5, guard.lost()).await;
    assert!(lost.is_err(), "the lock was lost: {lost:?}");
    assert!(try_lock(&other, "x").await.is_none(), "the store forgot the holder");
    unlock(guard).await;
}

/// An extension by less than the remaining life does not shorten it.
pub async fn extend_never_shortens(stage: &Stage) {
    let (peer, other) = (stage.peer().await, stage.peer().await);
    let held = peer.hold(&claim("x")).await;
    let grant = extended(&peer, &held.key, stage.short()).await;
    assert!(grant.ttl > LONG / 2, "only {:?} are left", grant.ttl);
    assert!(other.remaining("x").await > LONG / 2);
}

/// A lease can be extended by a longer TTL than it was claimed with.
pub async fn extend_longer_than_before(stage: &Stage) {
    let (peer, other) = (stage.peer().await, stage.peer().await);
    let held = peer.hold(&claim("x").living(stage.brisk())).await;
    let grant = extended(&peer, &held.key, LONG).await;
    assert!(grant.ttl + step(stage) >= LONG, "only {:?} are left", grant.ttl);
    sleep(stage.brisk() + stage.short()).await;
    assert_eq!(other.token(&held.key).await, Some(held.token), "the old TTL ended it");
    assert!(other.remaining("x").await > LONG / 2);
}

/// A call for many leases returns an answer for each, in the order of the request.
pub async fn batch_answers_each(stage: &Stage) {
    let (peer, other) = (stage.peer().await, stage.peer().await);
    other.hold(&claim("taken")).await;
    let claims = ["one", "taken", "two", "three"].map(claim);
    let acquired = peer.acquire(&claims).await;
    let [Acquired::Held(one), Acquired::Busy, Acquired::Held(two), Acquired::Held(three)] = *acquired else {
        panic!("one, two and three are free, taken is taken: {acquired:?}");
    };
    let backwards: Vec<_> = claims.iter().rev().map(|claim| claim.key.clone()).collect();
    let tokens: Vec<_> = peer.extend_all(&by(LONG, &backwards)).await.into_iter().map(token_of).collect();
    assert_eq!(tokens, [Some(three.token), Some(two.token), None, Some(one.token)]);
    let released = peer.release_all(&backwards).await;
    assert_eq!(released, [Released::Released, Released::Released, Released::Absent, Released::Released]);
}

/// A lease that is gone does not prevent the extension of the others in its batch.
pub async fn batch_with_one_lost(stage: &Stage) {
    let peer = stage.peer().await;
    let names = ["one", "two", "three"];
    let claims = names.map(|name| claim(name).living(stage.kept(SOON)));
    peer.acquire(&claims).await;
    let [one, two, three] = claims.map(|claim| claim.key);
    peer.release(&two).await;
    let batch = [absent("one"), one, two, three, absent("nothing")];
    let lives: Vec<_> = peer.extend_all(&by(LONG, &batch)).await.into_iter().map(state_of).collect();
    assert_eq!(lives, ["taken", "held", "free", "held", "free"]);
    for name in ["one", "three"] {
        assert!(peer.remaining(name).await > SOON, "{name} was not extended");
    }
}

/// Ten thousand leases can be claimed, extended and released in one call each.
pub async fn batch_of_ten_thousand(stage: &Stage) {
    let peer = stage.peer().await;
    let claims: Vec<Claim> = (0..10_000).map(|number| claim(&format!("name/{number}"))).collect();
    let acquired = peer.acquire(&claims).await;
    assert!(acquired.iter().all(|answer| matches!(answer, Acquired::Held(_))));
    let keys: Vec<_> = claims.into_iter().map(|claim| claim.key).collect();
    let extended = peer.extend_all(&by(LONG, &keys)).await;
    assert!(extended.iter().all(|answer| matches!(answer, Extended::Held(_))));
    let released = peer.release_all(&keys).await;
    assert!(released.iter().all(|&answer| answer == Released::Released));
}

/// Concurrent extensions of one lease all succeed, and the longest counts.
pub async fn concurrent_extends(stage: &Stage) {
    const STEP: Duration = Duration::from_secs(5);
    let peers = [stage.peer().await, stage.peer().await];
    let held = peers[0].hold(&claim("x").living(SOON)).await;
    let extend = |(number, peer): (u32, &Peer)| {
        let (peer, key) = (peer.clone(), held.key.clone());
        async move { extended(&peer, &key, LONG - STEP * number).await.token }
    };
    let lives = (0..20).zip(peers.iter().cycle());
    let tokens = join_all(lives.map(extend)).await;
    assert_eq!(tokens, [held.token; 20]);
    assert!(peers[1].remaining("x").await > LONG - STEP, "a shorter extension undid the longest");
}

/// A lease that is released during an extension stays released.
pub async fn extend_races_release(stage: &Stage) {
    let (peer, other) = (stage.peer().await, stage.peer().await);
    for _ in 0..200 {
        let held = peer.hold(&claim("x")).await;
        let (released, _either) = tokio::join!(peer.release(&held.key), other.extend(&held.key, LONG));
        assert_eq!(released, Released::Released);
        assert!(peer.inspect("x").await.is_free(), "an extension revived a released lease");
    }
}

/// Batches over the same leases in opposite orders do not deadlock.
pub async fn opposite_batches_do_not_deadlock(stage: &Stage) {
    const NAMES: usize = 50;
    let peers = [stage.peer().await, stage.peer().await];
    let mut chance = chance();
    for round in 0..20 {
        let claims: Vec<Claim> = (0..NAMES).map(|number| claim(&format!("name/{number}"))).collect();
        let backwards: Vec<Claim> = (0..NAMES).rev().map(|number| claim(&format!("name/{number}"))).collect();
        let (some, others) = tokio::join!(peers[0].acquire(&claims), peers[1].acquire(&backwards));
        let held = some.iter().chain(&others).filter(|answer| matches!(answer, Acquired::Held(_))).count();
        assert_eq!(held, NAMES, "round {round}: each name has one holder");

        let mut keys: Vec<LeaseKey> = claims.into_iter().chain(backwards).map(|claim| claim.key).collect();
        let turned = chance.random_range(0..keys.len());
        keys.rotate_left(turned);
        let reversed: Vec<_> = keys.iter().rev().cloned().collect();
        let (forth, back) = (by(LONG, &keys), by(LONG, &reversed));
        tokio::join!(peers[0].extend_all(&forth), peers[1].extend_all(&back));
        let (some, others) = tokio::join!(peers[0].release_all(&keys), peers[1].release_all(&reversed));
        let released = some.iter().chain(&others).filter(|&&answer| answer == Released::Released).count();
        assert_eq!(released, NAMES, "round {round}: each lease is released once");
    }
}

/// A waiter that renews its lease stays in the queue; one that does not leaves the queue after its TTL.
pub async fn queued_lease_lives_by_extends(stage: &Stage) {
    let (dead, peer) = (stage.peer().await, stage.peer().await);
    let holder = dead.hold(&claim("x")).await;
    let [silent, live] = [(); 2].map(|()| claim("x").living(stage.brisk()).queued());
    assert_eq!(dead.queue(&silent).await, 0);
    assert_eq!(peer.queue(&live).await, 1);
    let started = Instant::now();
    let is_first = async || match peer.extend(&live.key, stage.brisk()).await {
        Extended::Queued(place) => place.ahead == 0 && started.elapsed() > stage.brisk() * 3,
        other => panic!("a waiter that renews its lease lost its position: {other:?}"),
    };
    eventually(stage.brisk() * 3 + SOON, "the silent waiter to expire", is_first).await;
    assert_eq!(peer.inspect("x").await.queue.len(), 1);
    dead.release(&holder.key).await;
    assert!(peer.token(&live.key).await.is_some());
    assert!(peer.remaining("x").await <= stage.brisk(), "its grant prolonged it");
}

async fn extended(peer: &Peer, key: &LeaseKey, life: Duration) -> Grant {
    match peer.extend(key, life).await {
        Extended::Held(grant) => grant,
        other => panic!("a lease that is held was extended: {other:?}"),
    }
}

fn by(life: Duration, keys: &[LeaseKey]) -> Vec<Extension> {
    keys.iter().map(|key| Extension { key: key.clone(), ttl: ttl(life) }).collect()
}

fn token_of(state: Extended) -> Option<Token> {
    match state {
        Extended::Held(grant) => Some(grant.token),
        Extended::Queued(_) | Extended::Gone { .. } => None,
    }
}

fn state_of(state: Extended) -> &'static str {
    match state {
        Extended::Held(_) => "held",
        Extended::Queued(_) => "queued",
        Extended::Gone { taken: true } => "taken",
        Extended::Gone { taken: false } => "free",
    }
}

/// The rounding of TTLs in the answers of the store.
fn step(stage: &Stage) -> Duration {
    stage.capabilities().ttl_step
}
