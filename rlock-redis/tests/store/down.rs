//! Redis Clusters of which a part does not answer.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use rlock_core::{
    Acquired, Backend as _, BackendError, Claim, Event, Extended, Extension, IfBusy, LeaseKey, LossReason, Released,
    Share,
};
use rlock_redis::{RedisBackend, RedisConfig};
use rlock_testkit::faults::Control as _;
use rlock_testkit::servers::{RedisCluster, RedisNode, Reply};
use rlock_testkit::wait::{eventually, within};

use crate::support::{SOON, backend_at, claim, client_at, key, lock, ttl};

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
    keys_on(node).iter().map(|key| name_of(key)).collect()
}

fn keys_on(node: &RedisNode) -> Vec<String> {
    let Reply::List(keys) = node.resp().command(&["KEYS", "rlock:2:{rlock:*}:job/*"]) else { panic!("no keys") };
    keys.iter().map(Reply::to_string).collect()
}

fn name_of(key: &str) -> String {
    key.rsplit_once(':').expect("a name").1.to_owned()
}

fn slot_of(node: &RedisNode, key: &str) -> String {
    node.resp().command(&["CLUSTER", "KEYSLOT", key]).to_string()
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
    let is_known = |claim: &&Claim| [&frozen, &names].iter().any(|names| is_among(names, &claim.key));
    let again = claims.iter().filter(is_known).map(|claim| Claim { ttl: ttl(TTL), ..claim.clone() });
    let (again, all) = (again.collect::<Vec<_>>(), extensions(&[&frozen[..], &names[..]].concat(), TTL));

    cluster.node(0).cut_off();
    let both = async { tokio::join!(backend.extend(&all), backend.acquire(&again)) };
    let (extended, acquired) = within(SOON, "the answers", both).await;
    for (extension, answer) in all.iter().zip(extended) {
        let is_frozen = is_among(&frozen, &extension.key);
        let is_right =
            matches!((is_frozen, &answer), (false, Ok(Extended::Held(_))) | (true, Err(BackendError::Unknown(_))));
        assert!(is_right, "{}: {answer:?}", extension.key.resource);
    }
    for (claim, answer) in again.iter().zip(acquired) {
        let is_right = matches!(
            (is_among(&frozen, &claim.key), &answer),
            (false, Ok(Acquired::Held(_))) | (true, Err(BackendError::Unknown(_)))
        );
        assert!(is_right, "{}: {answer:?}", claim.key.resource);
    }

    cluster.node(0).heal();
    all_are_held(&backend, &all).await;
}

/// Most primaries are cut off, so that the last one refuses requests.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_without_a_majority_loses_no_lock() {
    cluster_is_down_without(&[0, 1]).await;
}

/// By default all primaries refuse requests while slots are not served.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_without_a_primary_loses_no_lock() {
    cluster_is_down_without(&[0]).await;
}

/// While the nodes `lost` are cut off, nothing is granted, and a lock is lost only at its deadline.
async fn cluster_is_down_without(lost: &[usize]) {
    const TTL: Duration = Duration::from_secs(4);
    let cluster = RedisCluster::start_without_replicas();
    let url = format!("{}?restart_grace=0s", cluster.url());
    let (backend, other, client) = (backend_at(&url).await, backend_at(&url).await, client_at(&url).await);
    let mut all = names(&claim_names(&backend).await);
    let [free, short] = first_two(names_on(cluster.node(2)));
    for name in [&free, &short] {
        let released = backend.release(&[key(name, 1).into()]).await.remove(0);
        assert!(matches!(released, Ok(Released::Released)), "{released:?}");
        all.retain(|other| other != name);
    }
    let (all, kept) = (extensions(&all, LONG), names_on(cluster.node(2)));
    let kept: Vec<_> = all.iter().filter(|extension| is_among(&kept, &extension.key)).cloned().collect();
    let expiring = lock(&client, &short, TTL).await;
    let [new, next] = [&free, &short].map(|name| [claim(name, 2, Share::EXCLUSIVE, LONG, IfBusy::Refuse)]);

    set(&cluster, "cluster-node-timeout", "2000");
    lost.iter().for_each(|&index| cluster.cut_off(index));
    eventually(SOON, "the end of service", async || cluster_info(cluster.node(2)).contains("cluster_state:fail")).await;
    assert!(says_the_cluster_is_down(&other.acquire(&new).await[0]));
    for answer in backend.extend(&kept).await {
        assert!(matches!(&answer, Err(error) if error.is_transient()), "{answer:?}");
    }
    let is_not_sent = async || match other.acquire(&new).await.remove(0) {
        answer @ Err(BackendError::NotApplied(_)) => says_the_cluster_is_down(&answer),
        Err(BackendError::Unknown(_)) => false,
        answer => panic!("{answer:?}"),
    };
    eventually(SOON, "a request that is not sent", is_not_sent).await;
    assert_eq!(within(SOON, "the deadline", expiring.lost()).await, LossReason::Expired);
    let answer = other.acquire(&next).await.remove(0);
    assert!(matches!(&answer, Err(error) if error.is_transient()), "granted while the cluster is down: {answer:?}");

    lost.iter().for_each(|&index| cluster.heal(index));
    all_are_held(&backend, &all).await;
    let is_granted = async || match other.acquire(&new).await.remove(0) {
        Ok(Acquired::Held(_)) => true,
        Err(error) if error.is_transient() => false,
        answer => panic!("{answer:?}"),
    };
    eventually(SOON, "a new lock", is_granted).await;
    let again = lock(&client, &short, TTL).await;
    assert!(again.token() > expiring.token(), "{again:?} after {expiring:?}");
}

/// The primaries that are left serve their slots.
#[tokio::test(flavor = "multi_thread")]
async fn other_slots_are_served_without_full_coverage() {
    let cluster = RedisCluster::start_without_replicas();
    let backend = backend_at(&format!("{}?restart_grace=0s", cluster.url())).await;
    let all = names(&claim_names(&backend).await);
    let (dead, served) = (names_on(cluster.node(0)), names_on(cluster.node(2)));
    set(&cluster, "cluster-require-full-coverage", "no");
    set(&cluster, "cluster-node-timeout", "2000");
    cluster.cut_off(0);
    let knows = async || {
        let info = cluster_info(cluster.node(2));
        info.contains("cluster_state:ok") && !info.contains("cluster_slots_fail:0")
    };
    eventually(SOON, "the report of the failed slots", knows).await;
    all_are_held(&backend, &extensions(&served, LONG)).await;
    for answer in backend.extend(&extensions(&dead, LONG)).await {
        assert!(matches!(&answer, Err(error) if error.is_transient()), "{answer:?}");
    }
    cluster.heal(0);
    all_are_held(&backend, &extensions(&all, LONG)).await;
}

/// The refusal of a request would cost the connection, which other slots of the node share.
#[tokio::test(flavor = "multi_thread")]
async fn slot_without_an_owner_gets_no_requests() {
    let cluster = RedisCluster::start_without_replicas();
    let backend = backend_at(&format!("{}?restart_grace=0s", cluster.url())).await;
    claim_names(&backend).await;
    set(&cluster, "cluster-require-full-coverage", "no");
    let (node, keys) = (cluster.node(0), keys_on(cluster.node(0)));
    let slot = slot_of(node, &keys[0]);
    let served: Vec<_> = keys.iter().filter(|key| slot_of(node, key) != slot).map(|key| name_of(key)).collect();
    let served = extensions(&served, LONG);
    let unserved = [claim(&name_of(&keys[0]), 1, Share::EXCLUSIVE, LONG, IfBusy::Refuse)];
    let acquire = async || backend.acquire(&unserved).await.remove(0);

    node.resp().command(&["CLUSTER", "DELSLOTS", &slot]);
    let is_not_sent = async || match acquire().await {
        Err(BackendError::NotApplied(failure)) => failure.to_string().contains("is known to serve the slot"),
        Err(BackendError::Unknown(_)) => false,
        answer => panic!("{answer:?}"),
    };
    eventually(SOON, "a request that is not sent", is_not_sent).await;
    all_are_held(&backend, &served).await;
    for _ in 0..5 {
        let (refused, extended) = tokio::join!(acquire(), backend.extend(&served));
        assert!(matches!(refused, Err(BackendError::NotApplied(_))), "{refused:?}");
        assert!(extended.iter().all(|answer| matches!(answer, Ok(Extended::Held(_)))), "{extended:?}");
    }

    node.resp().command(&["CLUSTER", "ADDSLOTS", &slot]);
    let is_granted = async || match acquire().await {
        Ok(Acquired::Held(_)) => true,
        Err(error) if error.is_transient() => false,
        answer => panic!("{answer:?}"),
    };
    eventually(SOON, "a grant", is_granted).await;
}

/// The other nodes name it until they learn of another owner.
#[tokio::test(flavor = "multi_thread")]
async fn node_without_slots_gets_no_connections() {
    let cluster = RedisCluster::start_without_replicas();
    let backend = backend_at(&format!("{}?restart_grace=0s", cluster.url())).await;
    claim_names(&backend).await;
    set(&cluster, "cluster-require-full-coverage", "no");
    let node = cluster.node(0);
    let unserved = [claim(&name_of(&keys_on(node)[0]), 1, Share::EXCLUSIVE, LONG, IfBusy::Refuse)];
    node.resp().command(&["FLUSHALL"]);
    assert_eq!(node.resp().command(&["CLUSTER", "FLUSHSLOTS"]).to_string(), "OK");
    let is_not_sent = async || match backend.acquire(&unserved).await.remove(0) {
        Err(BackendError::NotApplied(failure)) => failure.to_string().contains("is known to serve the slot"),
        Err(BackendError::Unknown(_)) => false,
        answer => panic!("{answer:?}"),
    };
    eventually(SOON, "a request that is not sent", async || is_not_sent().await).await;
    for _ in 0..20 {
        assert!(is_not_sent().await, "the client has connected to the node again");
        tokio::time::sleep(Duration::from_millis(50)).await; // the client reads the slots again
    }
}

fn cluster_info(node: &RedisNode) -> String {
    node.resp().command(&["CLUSTER", "INFO"]).to_string()
}

fn says_the_cluster_is_down(answer: &Result<Acquired, BackendError>) -> bool {
    match answer {
        Err(error) if error.is_transient() => error.to_string().contains("the cluster is down"),
        answer => panic!("{answer:?}"),
    }
}

/// The requests that it has not answered fail once its replica has taken its place, and go there.
#[tokio::test(flavor = "multi_thread")]
async fn requests_leave_a_replaced_primary() {
    let cluster = RedisCluster::start(Duration::from_secs(60));
    let options = "restart_grace=0s&wait_replicas=1&wait_timeout=1m&timeout=10m";
    let backend = backend_at(&format!("{}?{options}", cluster.url())).await;
    claim_names(&backend).await;
    let held = extensions(&names_on(cluster.node(1)), LONG);
    set(&cluster, "cluster-node-timeout", "2000");
    cluster.cut_off(1);
    let failover = async { tokio::join!(backend.extend(&held), cluster.is_replaced(1)) };
    let (answers, ()) = within(SOON * 3, "the end of the requests", failover).await;
    for answer in answers {
        let is_right = match &answer {
            Ok(answer) => matches!(answer, Extended::Held(_)),
            Err(error) => error.is_transient(),
        };
        assert!(is_right, "{answer:?}");
    }
    all_are_held(&backend, &held).await;
}

/// The primary with the subscription of a waiting client hangs.
#[tokio::test(flavor = "multi_thread")]
async fn subscription_leaves_a_frozen_primary() {
    let cluster = RedisCluster::start_without_replicas();
    let url = format!("{}?restart_grace=0s", cluster.url());
    let waiter = backend_at(&url).await;
    let mut events = waiter.events();
    let subscribed = |index: &usize| subscriptions(cluster.node(*index)) > 0;
    let frozen = (0..cluster.size()).find(subscribed).expect("the waiter has a subscription");
    let others: Vec<usize> = (0..cluster.size()).filter(|&index| index != frozen).collect();
    let holder = backend_at(&url).await;
    claim_names(&holder).await;
    let name = names_on(cluster.node(others[0])).remove(0);
    let queued = waiter.acquire(&[claim(&name, 2, Share::EXCLUSIVE, LONG, IfBusy::Queue)]).await.remove(0);
    assert!(matches!(queued, Ok(Acquired::Queued(_))), "{queued:?}");

    cluster.node(frozen).cut_off();
    let have_left = async || others.iter().map(|&index| subscriptions(cluster.node(index))).sum::<usize>() == 2;
    eventually(SOON, "the subscriptions of both clients", have_left).await;
    let released = holder.release(&[key(&name, 1).into()]).await.remove(0);
    assert!(matches!(released, Ok(Released::Released)), "{released:?}");
    let granted = async {
        loop {
            match events.next().await {
                Some(Event::Resync) => {}
                event => break event,
            }
        }
    };
    let granted = within(SOON, "the event", granted).await;
    assert!(matches!(granted, Some(Event::Granted { id, .. }) if id == key(&name, 2).id), "{granted:?}");
}

/// The number of connections that are subscribed to a channel.
fn subscriptions(node: &RedisNode) -> usize {
    let clients = node.resp().command(&["CLIENT", "LIST", "TYPE", "pubsub"]).to_string();
    clients.lines().filter(|line| line.contains("addr=")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_connect_while_primaries_are_dead() {
    let cluster = RedisCluster::start_without_replicas();
    set(&cluster, "cluster-node-timeout", "600000"); // the cluster counts as whole
    cluster.node(0).kill().await;
    cluster.node(1).kill().await;
    clients_connect(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_connect_while_primaries_are_frozen() {
    let cluster = RedisCluster::start_without_replicas();
    cluster.node(0).cut_off();
    cluster.node(1).cut_off();
    clients_connect(&cluster).await;
}

/// It takes connections, and answers no script. A client whose subscription is there does not connect.
#[tokio::test(flavor = "multi_thread")]
async fn clients_connect_while_a_primary_runs_no_scripts() {
    let cluster = RedisCluster::start_without_replicas();
    cluster.node(0).resp().command(&["CLIENT", "PAUSE", "600000", "WRITE"]);
    let url = format!("{}?restart_grace=0s&timeout=3s", cluster.url());
    let connecting = (0..16).map(|_| RedisBackend::connect(RedisConfig::from_url(&url).unwrap()));
    let connected = within(SOON * 3, "the connections", join_all(connecting)).await;
    assert!(connected.iter().any(Result::is_ok), "{connected:?}");
}

/// Connects several clients, because the subscription of each may be on any primary.
async fn clients_connect(cluster: &RedisCluster) {
    let url = format!("{}?restart_grace=0s&connect_timeout=10m", cluster.url());
    let connecting = (0..8).map(|_| RedisBackend::connect(RedisConfig::from_url(&url).unwrap()));
    for connected in within(SOON, "the connections", join_all(connecting)).await {
        connected.unwrap();
    }
}

/// Changes a setting of all nodes until they restart.
fn set(cluster: &RedisCluster, setting: &str, value: &str) {
    for index in 0..cluster.size() {
        cluster.node(index).resp().command(&["CONFIG", "SET", setting, value]);
    }
}

fn names(claims: &[Claim]) -> Vec<String> {
    claims.iter().map(|claim| claim.key.resource.as_str().to_owned()).collect()
}

fn first_two(names: Vec<String>) -> [String; 2] {
    let mut names = names.into_iter();
    [(); 2].map(|()| names.next().expect("a third of a hundred names"))
}

fn is_among(names: &[String], key: &LeaseKey) -> bool {
    names.iter().any(|name| name == key.resource.as_str())
}
