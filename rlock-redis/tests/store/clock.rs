//! Clocks of servers that are set while locks are held.

use std::time::Duration;

use rlock_core::{Acquired, Backend as _, Extended, Extension, IfBusy, Share, SimpleLock};
use rlock_testkit::servers::{Host, Redis, RedisCluster, RedisSentinels};
use rlock_testkit::wait::within;
use tokio::time::{Instant, sleep_until};

use crate::support::deployment::{Deployment, PATIENT};
use crate::support::{Overlap, SOON, backend_at, claim, client_at, key, ttl};

#[tokio::test(flavor = "multi_thread")]
async fn clock_of_redis_is_set() {
    let host = Host::new();
    clock_is_set(&host, &Deployment::Alone(Redis::start_on(&host, &[]))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_of_a_cluster_are_set() {
    let host = Host::new();
    clock_is_set(&host, &Deployment::Cluster(RedisCluster::start_on(&host))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_under_sentinels_are_set() {
    let host = Host::new();
    clock_is_set(&host, &Deployment::Sentinel(RedisSentinels::start_on([&host, &host], PATIENT))).await;
}

/// Set forward, the clock ends locks early, and their holders learn of that in time. Set back, it ends them late.
async fn clock_is_set(host: &Host, deployment: &Deployment) {
    const JUMP: i64 = 15; // longer than the TTLs, and shorter than the timeout of a cluster's nodes
    let url = format!("{}?restart_grace=0s", deployment.url());
    let (holder, other) = (client_at(&url).await, client_at(&url).await);
    let mut overlap = Overlap::begin(&holder, "job").await;
    host.set_clock(JUMP);
    overlap.is_granted_to(&other).await;
    let guards = overlap.ends().await;

    let backend = backend_at(&url).await;
    let short = |id| claim("abandoned", id, Share::EXCLUSIVE, 1_000, IfBusy::Refuse);
    let granted = backend.acquire(&[short(1)]).await.remove(0);
    assert!(matches!(granted, Ok(Acquired::Held(_))), "{granted:?}");
    host.set_clock(-JUMP);
    let set_back = Instant::now();
    // By their clocks the servers will start in the future. They serve a new client after the default grace.
    let newcomer = client_at(&deployment.url()).await;
    for guard in guards {
        guard.extend(SOON).await.unwrap_or_else(|error| panic!("{guard:?}: {error}"));
        let lock = SimpleLock::new(guard.resource().as_str(), &newcomer).unwrap();
        let token = guard.token();
        guard.unlock().await.unwrap();
        let next = within(SOON, "a lock", lock.lock()).await.unwrap();
        assert!(next.token() > token, "{next:?} after {token}");
    }
    // The abandoned lease would have expired, and a renewal does not shorten it.
    sleep_until(set_back + Duration::from_millis(1_500)).await;
    let extended = backend.extend(&[Extension { key: key("abandoned", 1), ttl: ttl(1_000) }]).await.remove(0);
    assert!(matches!(extended, Ok(Extended::Held(_))), "{extended:?}");
    assert!(matches!(backend.acquire(&[short(2)]).await[0], Ok(Acquired::Busy)));
}
