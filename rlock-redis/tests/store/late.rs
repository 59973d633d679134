//! Requests that the network delivers after their client has given them up.

use rlock_core::{Acquired, Backend as _, BackendError, Claim, IfBusy, Released, Share};
use rlock_redis::RedisBackend;
use rlock_testkit::faults::Proxy;
use rlock_testkit::servers::{Host, Redis, RedisCluster, RedisSentinels};
use rlock_testkit::wait::eventually;

use crate::support::deployment::{Deployment, PATIENT};
use crate::support::{SOON, backend_at, claim, scripts_run};

/// A client that gives up a request only because its connection is dead.
async fn client(url: &str) -> RedisBackend {
    backend_at(&format!("{url}?namespace=n&restart_grace=0s&timeout=1m")).await
}

fn exclusive() -> [Claim; 1] {
    [claim("a", 1, Share::EXCLUSIVE, 600_000, IfBusy::Refuse)]
}

#[tokio::test]
async fn late_claim_has_no_effect() {
    let server = Deployment::Alone(Redis::start_with(&[]));
    let proxy = Proxy::in_front_of(&server.url());
    late_claim(&server, proxy.url(), &[&proxy]).await;
}

#[tokio::test]
async fn late_claim_has_no_effect_on_a_cluster() {
    let cluster = Deployment::Cluster(RedisCluster::start_without_replicas());
    late_claim(&cluster, &cluster.url(), &cluster.fronts()).await;
}

#[tokio::test]
async fn late_claim_has_no_effect_under_sentinels() {
    let servers = Deployment::Sentinel(RedisSentinels::start(PATIENT));
    late_claim(&servers, &servers.url(), &servers.fronts()).await;
}

/// The client has claimed again on another connection, and released the lease. Then the first claim arrives. `fronts`
/// are in front of the primaries.
async fn late_claim(deployment: &Deployment, url: &str, fronts: &[&Proxy]) {
    let (client, claims) = (client(url).await, exclusive());
    fronts.iter().for_each(|front| front.strand());
    let unanswered = client.acquire(&claims).await.remove(0);
    assert!(matches!(unanswered, Err(BackendError::Unknown(_))), "{unanswered:?}");
    is_granted(&client, &claims).await;
    let released = client.release(&[claims[0].key.clone().into()]).await.remove(0);
    assert!(matches!(released, Ok(Released::Released)), "{released:?}");
    scripts_arrive(deployment, fronts).await;
    let resource = client.inspect(&claims[0].key.resource).await.unwrap();
    assert!(resource.is_free(), "the late claim left a lease: {resource:?}");
}

#[tokio::test]
async fn late_break_has_no_effect() {
    let server = Deployment::Alone(Redis::start_with(&[]));
    let proxy = Proxy::in_front_of(&server.url());
    late_break(&server, proxy.url(), &[&proxy]).await;
}

#[tokio::test]
async fn late_break_has_no_effect_on_a_cluster() {
    let cluster = Deployment::Cluster(RedisCluster::start_without_replicas());
    late_break(&cluster, &cluster.url(), &cluster.fronts()).await;
}

#[tokio::test]
async fn late_break_has_no_effect_under_sentinels() {
    let servers = Deployment::Sentinel(RedisSentinels::start(PATIENT));
    late_break(&servers, &servers.url(), &servers.fronts()).await;
}

/// The client has given the break up, and another one has the lock. Then the break arrives.
async fn late_break(deployment: &Deployment, url: &str, fronts: &[&Proxy]) {
    let (breaker, claims) = (client(url).await, exclusive());
    fronts.iter().for_each(|front| front.strand());
    let unanswered = breaker.break_leases(&claims[0].key.resource).await;
    assert!(matches!(unanswered, Err(BackendError::Unknown(_))), "{unanswered:?}");
    let holder = client(url).await; // its connections are new, and pass bytes on
    is_granted(&holder, &claims).await;
    scripts_arrive(deployment, fronts).await;
    let released = holder.release(&[claims[0].key.clone().into()]).await.remove(0);
    assert!(matches!(released, Ok(Released::Released)), "the late break ended a lease: {released:?}");
}

/// Claims until the client has a new connection.
async fn is_granted(client: &RedisBackend, claims: &[Claim]) {
    let is_granted = async || match client.acquire(claims).await.remove(0) {
        Ok(Acquired::Held(_)) => true,
        Err(error) if error.is_transient() => false,
        other => panic!("{other:?}"),
    };
    eventually(SOON, "a grant on a new connection", is_granted).await;
}

/// Delivers the request that was held back, and waits until a primary has run its script.
async fn scripts_arrive(deployment: &Deployment, fronts: &[&Proxy]) {
    let scripts = || deployment.primaries().into_iter().map(scripts_run).sum::<u64>();
    let before = scripts();
    fronts.iter().for_each(|front| front.heal());
    eventually(SOON, "the late request", async || scripts() > before).await;
}

/// The first claim after a jump misses its deadline by the server's clock, and the client repeats it.
#[tokio::test]
async fn set_clock_refuses_no_claim() {
    let host = Host::new();
    let server = Redis::start_on(&host, &[]);
    let client = client(server.url()).await;
    for (id, ahead) in [(1, 0), (2, 60), (3, 0), (4, 120)] {
        host.set_clock(ahead);
        let request = claim(&format!("job {id}"), id, Share::EXCLUSIVE, 60_000, IfBusy::Refuse);
        let answer = client.acquire(&[request]).await.remove(0);
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{ahead} s ahead: {answer:?}");
    }
}

/// The client repeats a claim that the server drops as late. The network holds the repetition back, for less than the
/// timeout of the connection.
#[tokio::test]
async fn repeated_claim_expires_after_half_a_minute() {
    let host = Host::new();
    let server = Deployment::Alone(Redis::start_on(&host, &[]));
    let proxy = Proxy::in_front_of(&server.url());
    let (client, claims) = (client(proxy.url()).await, exclusive());
    server.control().pause().await;
    let requests = proxy.round_trips();
    let strand = async {
        eventually(SOON, "the claim", async || proxy.round_trips() > requests).await;
        proxy.strand();
        host.set_clock(5);
        server.control().resume().await;
    };
    let (answers, ()) = tokio::join!(client.acquire(&claims), strand);
    assert!(matches!(answers[0], Err(BackendError::Unknown(_))), "{answers:?}");
    is_granted(&client, &claims).await;
    let released = client.release(&[claims[0].key.clone().into()]).await.remove(0);
    assert!(matches!(released, Ok(Released::Released)), "{released:?}");
    host.set_clock(45);
    scripts_arrive(&server, &[&proxy]).await;
    let resource = client.inspect(&claims[0].key.resource).await.unwrap();
    assert!(resource.is_free(), "the late repetition left a lease: {resource:?}");
}
