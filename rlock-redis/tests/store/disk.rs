//! Servers whose disks are full.

use std::time::Duration;

use rlock_core::{Acquired, Backend as _, BackendError, IfBusy, LockOptions, LossReason, Share, SimpleLock};
use rlock_redis::RedisBackend;
use rlock_testkit::faults::{Control as _, Data};
use rlock_testkit::servers::{Host, Redis, RedisCluster, RedisSentinels, Reply, Resp};
use rlock_testkit::wait::{eventually, within};

use crate::support::deployment::Deployment;
use crate::support::{SOON, backend_at, claim, client_at, lock};

/// The time after which sentinels replace a primary.
const NERVOUS: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);

/// With `appendfsync everysec` the server refuses writes, and with `always` it ends.
#[tokio::test(flavor = "multi_thread")]
async fn full_disk_of_redis() {
    let host = Host::new();
    let deployment = Deployment::Alone(Redis::start_on(&host, &["--appendonly", "yes"]));
    deployment.set("appendfsync", "everysec");
    let probe = connect(&deployment).await;
    holder_learns_first(&deployment, "refusing", &[&host], async || is_refused(&probe).await, async || {}).await;

    deployment.set("appendfsync", "always");
    let has_ended = async || Resp::connect(&deployment.url()).is_err();
    let is_full = async || eventually(SOON, "the end of the server", has_ended).await;
    let restart = async || deployment.control().restart(Data::Kept).await;
    holder_learns_first(&deployment, "ended", &[&host], is_full, restart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disks_of_a_cluster() {
    let host = Host::new();
    let deployment = Deployment::Cluster(RedisCluster::start_on(&host));
    deployment.set("appendfsync", "everysec");
    let probe = connect(&deployment).await;
    holder_learns_first(&deployment, "refusing", &[&host], async || is_refused(&probe).await, async || {}).await;
}

/// Without a replica the primary refuses writes. With one, the sentinels replace it, and the holder keeps its lock.
#[tokio::test(flavor = "multi_thread")]
async fn full_disks_under_sentinels() {
    let hosts = [&Host::new(), &Host::new()];
    let deployment = Deployment::Sentinel(RedisSentinels::start_on(hosts, NERVOUS));
    let Deployment::Sentinel(servers) = &deployment else { unreachable!() };
    deployment.set("appendfsync", "everysec");
    servers.server(1).kill().await;
    let probe = connect(&deployment).await;
    let is_full = async || is_refused(&probe).await;
    holder_learns_first(&deployment, "refusing", &hosts[..1], is_full, async || {}).await;

    let is_trusted = async || (0..3).all(|index| trusts_the_primary(&mut servers.sentinel(index).resp()));
    eventually(SOON, "the sentinels' trust in the primary", is_trusted).await;
    servers.server(1).restart(Data::Kept).await;
    servers.is_replicated().await;

    let url = format!("{}?restart_grace=0s", deployment.url());
    let (holder, other) = (client_at(&url).await, client_at(&url).await);
    let kept = lock(&holder, "kept", Duration::from_secs(30)).await;
    let primary = servers.primary().await;
    hosts[primary].fill_disk();
    kept.extend(LONG).await.expect("it is held"); // the primary notices after a write, and refuses the next ones
    servers.is_replaced(primary).await;
    let taken = SimpleLock::new("kept", &other).unwrap();
    assert!(within(SOON, "an answer", taken.try_lock()).await.unwrap().is_none());
    kept.extend(LONG).await.unwrap_or_else(|error| panic!("{kept:?}: {error}"));
}

/// While the disks of `hosts` are full, a holder loses its lock at the deadline, and the waiter behind it is granted
/// once there is room.
async fn holder_learns_first(
    deployment: &Deployment,
    name: &str,
    hosts: &[&Host],
    is_full: impl AsyncFn(),
    go_on: impl AsyncFn(),
) {
    const TTL: Duration = Duration::from_secs(3);
    let url = format!("{}?restart_grace=0s", deployment.url());
    let (holder, other) = (client_at(&url).await, client_at(&url).await);
    let kept = lock(&holder, &format!("{name}/kept"), LONG).await;
    let lost = lock(&holder, name, TTL).await;
    let waiter = SimpleLock::new(name, &other).unwrap();
    let waiting = tokio::spawn(async move { waiter.lock_with(LockOptions::new().ttl(LONG)).await });
    let is_queued = async || holder.inspect(lost.resource()).await.unwrap().queue.len() == 1;
    eventually(SOON, "the waiter", is_queued).await;

    hosts.iter().for_each(|host| host.fill_disk());
    is_full().await;
    assert_eq!(within(SOON, "the deadline", lost.lost()).await, LossReason::Expired);
    assert!(!waiting.is_finished(), "the waiter was granted: {waiting:?}");
    hosts.iter().for_each(|host| host.empty_disk());
    go_on().await;
    let next = within(SOON, "the waiter's turn", waiting).await.unwrap().unwrap();
    assert!(next.token() > lost.token());
    within(SOON, "an unlock", kept.unlock()).await.expect("it is held");
}

async fn connect(deployment: &Deployment) -> RedisBackend {
    backend_at(&format!("{}?restart_grace=0s", deployment.url())).await
}

/// Waits until a server refuses a claim, because it could not write an earlier one.
async fn is_refused(probe: &RedisBackend) {
    let mut id = 0;
    let is_refused = async || {
        id += 1;
        let claim = claim(&format!("probe/{id}"), id, Share::EXCLUSIVE, 1_000, IfBusy::Refuse);
        match probe.acquire(&[claim]).await.remove(0) {
            Ok(Acquired::Held(_)) => false,
            Err(BackendError::NotApplied(failure)) => failure.to_string().contains("it cannot save to its disk"),
            Err(error) if error.is_transient() => false,
            other => panic!("{other:?}"),
        }
    };
    eventually(SOON, "a refused claim", is_refused).await;
}

fn trusts_the_primary(sentinel: &mut Resp) -> bool {
    let Reply::List(fields) = sentinel.command(&["SENTINEL", "MASTER", "locks"]) else { panic!("no list") };
    fields.chunks(2).any(|pair| pair[0].to_string() == "flags" && pair[1].to_string() == "master")
}
