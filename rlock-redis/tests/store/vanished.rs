//! Locks whose keys vanish while they are held: the server evicts them, or an operator deletes them.

use rlock_testkit::servers::{Redis, RedisCluster, RedisSentinels};
use rlock_testkit::wait::eventually;

use crate::support::deployment::{Deployment, PATIENT};
use crate::support::{Overlap, SOON, client_at};

#[tokio::test(flavor = "multi_thread")]
async fn vanished_locks_are_lost_on_redis() {
    vanished_locks_are_lost(&Deployment::Alone(Redis::start_with(&[]))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vanished_locks_are_lost_on_a_cluster() {
    vanished_locks_are_lost(&Deployment::Cluster(RedisCluster::start_without_replicas())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vanished_locks_are_lost_under_sentinels() {
    vanished_locks_are_lost(&Deployment::Sentinel(RedisSentinels::start(PATIENT))).await;
}

/// The next client has a vanished lock at once, and its holder learns of that in time.
async fn vanished_locks_are_lost(deployment: &Deployment) {
    let url = format!("{}?restart_grace=0s", deployment.url());
    let (holder, other) = (client_at(&url).await, client_at(&url).await);

    let mut evicted = Overlap::begin(&holder, "evicted").await;
    deployment.set("maxmemory-policy", "volatile-lru");
    deployment.set("maxmemory", "1");
    let is_evicted = async || deployment.keys("rlock:2:{rlock:*}:evicted/*").is_empty();
    eventually(SOON, "the eviction", is_evicted).await;
    deployment.set("maxmemory", "0");
    evicted.is_granted_to(&other).await;

    let mut deleted = Overlap::begin(&holder, "deleted").await;
    deployment.delete("rlock:2:{rlock:*}:deleted/*");
    deleted.is_granted_to(&other).await;

    evicted.ends().await;
    deleted.ends().await;
}
