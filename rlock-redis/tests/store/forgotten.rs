//! Servers that restart without their last writes.

use std::time::{Duration, Instant};

use rlock_core::{Client, LossReason, SimpleLock};
use rlock_testkit::faults::{Data, Faults, Faulty};
use rlock_testkit::servers::{Redis, RedisCluster, RedisSentinels};
use rlock_testkit::wait::within;

use crate::support::deployment::{Deployment, PATIENT};
use crate::support::{SOON, backend_at, client_at, lock};

#[tokio::test(flavor = "multi_thread")]
async fn last_grants_are_forgotten_by_redis() {
    last_grants_are_forgotten(&Deployment::Alone(Redis::start_durable())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_grants_are_forgotten_by_a_cluster() {
    last_grants_are_forgotten(&Deployment::Cluster(RedisCluster::start_without_replicas())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_grants_are_forgotten_under_sentinels() {
    last_grants_are_forgotten(&Deployment::Sentinel(RedisSentinels::start(PATIENT))).await;
}

const LONG: Duration = Duration::from_secs(60);

/// Nothing is granted during the grace. A holder that reaches the store learns of its loss in that time, and another
/// one at its deadline.
async fn last_grants_are_forgotten(deployment: &Deployment) {
    const GRACE: Duration = Duration::from_secs(3);
    const TTL: Duration = Duration::from_secs(5);
    let without_grace = format!("{}?restart_grace=0s", deployment.url()); // the servers are new
    let (faults, holder) = (Faults::none(), client_at(&without_grace).await);
    let backend = backend_at(&without_grace).await;
    let cut_off = Client::builder().build(Faulty::new(backend, faults.clone()));
    let newcomer = client_at(&format!("{}?restart_grace=3s", deployment.url())).await;

    let kept = lock(&holder, "kept", LONG).await;
    deployment.set("appendonly", "no"); // the disk gets no writes from now on
    let reached = lock(&holder, "reached", LONG).await;
    let unreached = lock(&cut_off, "unreached", TTL).await;
    faults.freeze();
    deployment.control().kill().await;
    let killed = Instant::now();
    deployment.control().restart(Data::Kept).await;

    let next = lock(&newcomer, "reached", LONG).await;
    assert_eq!(reached.loss(), Some(LossReason::Gone), "two clients believe in the lock");
    assert!(next.token() > reached.token());
    let next = lock(&newcomer, "unreached", LONG).await;
    let (overlap, granted) = (unreached.remaining(), killed.elapsed());
    assert!(granted >= GRACE && overlap <= TTL - GRACE, "granted {granted:?} after the end, overlap {overlap:?}");
    assert!(next.token() > unreached.token());
    assert_eq!(within(SOON, "the deadline", unreached.lost()).await, LossReason::Expired);

    let taken = SimpleLock::new("kept", &newcomer).unwrap();
    assert!(within(SOON, "an answer", taken.try_lock()).await.unwrap().is_none());
    kept.unlock().await.expect("it is held");
}
