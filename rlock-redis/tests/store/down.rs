//! Redis Clusters of which a part does not answer.

use futures_util::future::join_all;
use rlock_core::{Acquired, Backend as _, BackendError, Claim, Extended, Extension, IfBusy, Share};
use rlock_redis::{RedisBackend, RedisConfig};
use rlock_testkit::faults::Control as _;
use rlock_testkit::servers::{RedisCluster, RedisNode, Reply};
use rlock_testkit::wait::{eventually, within};

use crate::support::{SOON, backend_at, claim, key, ttl};

/// The TTL in milliseconds of leases that outlive every test.
const LONG: u64 = 600_000;

/// Claims a hundred names on all primaries, each by the same lease id.
async fn claim_names(backend: &RedisBackend) -> Vec<Claim> {
    let claims: Vec<_> =
        (0..100).map(|number| claim(&format!("job/{number}"), 1, Share::EXCLUSIVE, LONG, IfBusy::Refuse)).collect();
    let answers = backend.acquire(&claims).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))), "{answers:?}");
    claims
}

/// The claimed names whose keys are on a node.
fn names_on(node: &RedisNode) -> Vec<String> {
    let Reply::List(keys) = node.resp().command(&["KEYS", "rlock:2:{rlock:*}:job/*"]) else { panic!("no keys") };
    keys.iter().map(|key| key.to_string().rsplit_once(':').expect("a name").1.to_owned()).collect()
}

fn extensions(names: &[String], millis: u64) -> Vec<Extension> {
    names.iter().map(|name| Extension { key: key(name, 1), ttl: ttl(millis) }).collect()
}

/// Waits until all leases can be extended, through transient failures. None may be gone.
async fn all_are_held(backend: &RedisBackend, extensions: &[Extension]) {
    let are_held = async || {
        let is_held = |answer: &Result<Extended, BackendError>| match answer {
            Ok(Extended::Held(_)) => true,
            Err(error) if error.is_transient() => false,
            other => panic!("{other:?}"),
        };
        backend.extend(extensions).await.iter().all(is_held)
    };
    eventually(SOON, "the extension of all locks", are_held).await;
}

/// Requests to two primaries go out together, and one of these does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn frozen_primary_delays_no_other_lock() {
    const TTL: u64 = 40_000; // the answers have an eighth of it
    let cluster = RedisCluster::start_without_replicas();
    let backend = backend_at(&format!("{}?restart_grace=0s&timeout=10m", cluster.url())).await;
    let claims = claim_names(&backend).await;
    let (frozen, names) = (names_on(cluster.node(0)), names_on(cluster.node(2)));
    let is_known = |claim: &&Claim| [&frozen, &names].iter().any(|names| is_among(names, claim));
    let again = claims.iter().filter(is_known).map(|claim| Claim { ttl: ttl(TTL), ..claim.clone() });
    let (again, all) = (again.collect::<Vec<_>>(), extensions(&[&frozen[..], &names[..]].concat(), TTL));

    cluster.node(0).cut_off();
    let both = async { tokio::join!(backend.extend(&all), backend.acquire(&again)) };
    let (extended, acquired) = within(SOON, "the answers", both).await;
    for (extension, answer) in all.iter().zip(extended) {
        let is_frozen = frozen.iter().any(|name| name == extension.key.resource.as_str());
        let is_right =
            matches!((is_frozen, &answer), (false, Ok(Extended::Held(_))) | (true, Err(BackendError::Unknown(_))));
        assert!(is_right, "{}: {answer:?}", extension.key.resource);
    }
    for (claim, answer) in again.iter().zip(acquired) {
        let is_right = matches!(
            (is_among(&frozen, claim), &answer),
            (false, Ok(Acquired::Held(_))) | (true, Err(BackendError::Unknown(_)))
        );
        assert!(is_right, "{}: {answer:?}", claim.key.resource);
    }

    cluster.node(0).heal();
    all_are_held(&backend, &all).await;
}

/// The subscription of a client may be on any primary.
#[tokio::test(flavor = "multi_thread")]
async fn clients_connect_while_primaries_are_dead() {
    let cluster = RedisCluster::start_without_replicas();
    set(&cluster, "cluster-node-timeout", "600000"); // the cluster counts as whole
    let url = format!("{}?restart_grace=0s", cluster.url());
    cluster.node(0).kill().await;
    cluster.node(1).kill().await;
    let connecting = (0..8).map(|_| RedisBackend::connect(RedisConfig::from_url(&url).unwrap()));
    for connected in join_all(connecting).await {
        connected.unwrap();
    }
}

/// Changes a setting of all nodes until they restart.
fn set(cluster: &RedisCluster, setting: &str, value: &str) {
    for index in 0..cluster.size() {
        cluster.node(index).resp().command(&["CONFIG", "SET", setting, value]);
    }
}

fn is_among(names: &[String], claim: &Claim) -> bool {
    names.iter().any(|name| name == claim.key.resource.as_str())
}
