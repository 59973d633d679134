//! Redis Clusters: nodes, moving slots, failing primaries.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rlock_core::{Acquired, Backend as _, BackendError, Extended, Extension, IfBusy, ListFilter, Released, Share};
use rlock_redis::{ConnectError, RedisBackend, RedisConfig};
use rlock_testkit::contest::{Arena, Mishap, Workload, run_contender};
use rlock_testkit::faults::{Control as _, Proxy};
use rlock_testkit::process::Helper;
use rlock_testkit::servers::{RedisCluster, Reply};
use rlock_testkit::this_test;
use rlock_testkit::wait::{eventually, within};
use tokio::time::sleep;

use crate::support::{
    SOON, Server, block_on, claim, client_at, contend_while_primaries_fail, key, serve_all_slots, ttl,
};

/// With this timeout no failover starts by itself.
const PATIENT: Duration = Duration::from_secs(60);
/// The time after which a silent primary is replaced.
const NERVOUS: Duration = Duration::from_secs(2);

async fn refusal(url: &str) -> String {
    match RedisBackend::connect(RedisConfig::from_url(url).unwrap()).await {
        Err(error @ ConnectError::Rejected(_)) => error.to_string(),
        other => panic!("{url}: {other:?}"),
    }
}

async fn connect(cluster: &RedisCluster, options: &str) -> RedisBackend {
    let config = RedisConfig::from_url(&format!("{}{options}", cluster.url())).unwrap();
    RedisBackend::connect(config).await.unwrap()
}

#[tokio::test]
async fn node_needs_the_scheme_of_a_cluster() {
    let node = Server::start_cluster_node();
    for is_whole in [false, true] {
        if is_whole {
            serve_all_slots(node.resp()).await;
        }
        let refusal = refusal(node.url()).await;
        assert!(refusal.contains("write redis-cluster://host:port"), "{refusal}");
    }
    let url = node.add_user("locks", &format!("{} -info", RedisConfig::ACL_RULES));
    let refusal = refusal(&format!("{url}?restart_grace=0s")).await;
    assert!(refusal.contains("write redis-cluster://host:port"), "{refusal}");
}

#[tokio::test]
async fn server_alone_is_no_cluster() {
    let server = Server::start();
    let refusal = refusal(&server.url().replace("redis:", "redis-cluster:")).await;
    assert!(refusal.contains("not a node of a Redis Cluster") && refusal.contains("write redis://"), "{refusal}");
}

#[tokio::test]
async fn cluster_without_slots_is_refused() {
    let node = Server::start_cluster_node();
    let config = RedisConfig::from_url(&node.url().replace("redis:", "redis-cluster:")).unwrap();
    let error = RedisBackend::connect(config).await.unwrap_err();
    assert!(error.to_string().contains("no node of the cluster serves a slot"), "{error}");
}

#[tokio::test]
async fn reconnect_to_a_cluster_is_refused() {
    let (server, node) = (Server::start(), Server::start_cluster_node());
    serve_all_slots(node.resp()).await;
    let proxy = Proxy::in_front_of(server.url());
    let config = RedisConfig::from_url(&format!("{}?restart_grace=0s", proxy.url())).unwrap();
    let client = RedisBackend::connect(config).await.unwrap();
    let request = claim("a", 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse);

    proxy.lead_to(node.url());
    let is_refused = async || match client.acquire(std::slice::from_ref(&request)).await.remove(0) {
        Err(BackendError::NotApplied(failure)) => failure.to_string().contains("a node of a Redis Cluster"),
        Err(BackendError::Unknown(_)) => false,
        other => panic!("{other:?}"),
    };
    eventually(SOON, "the refusal", is_refused).await;
    assert_eq!(node.run(&["DBSIZE"]), ["0"]);

    proxy.lead_to(server.url());
    let is_served = async || matches!(client.acquire(std::slice::from_ref(&request)).await[0], Ok(Acquired::Held(_)));
    eventually(SOON, "the server", is_served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_rights_suffice() {
    let cluster = RedisCluster::start(PATIENT);
    let url_without = |left_out: &str, name: &str| {
        let rules = RedisConfig::ACL_RULES.split(' ').filter(|rule| *rule != left_out);
        let user: Vec<&str> = ["ACL", "SETUSER", name, "on", ">secret"].into_iter().chain(rules).collect();
        for index in 0..cluster.size() {
            cluster.node(index).resp().command(&user);
        }
        let url = cluster.url().replace("://", &format!("://{name}:secret@"));
        format!("{url}?wait_replicas=1&restart_grace=1ms")
    };
    let config = RedisConfig::from_url(&url_without("", "locks")).unwrap();
    let client = RedisBackend::connect(config).await.unwrap();
    let claims: Vec<_> =
        (0..50).map(|id| claim(&format!("job/{id}"), id + 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse)).collect();
    let all_granted =
        async || client.acquire(&claims).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_))));
    eventually(SOON, "the grace after the start", all_granted).await;

    let of_clusters = ["+cluster|slots", "+cluster|info", "+asking", "+wait"];
    for (number, left_out) in of_clusters.into_iter().enumerate() {
        let refusal = refusal(&url_without(left_out, &format!("user{number}"))).await;
        assert!(refusal.contains(RedisConfig::ACL_RULES), "without {left_out}: {refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_primaries_are_listed_and_examined() {
    let cluster = RedisCluster::start(PATIENT);
    let client = connect(&cluster, "?restart_grace=0s").await;
    let claims: Vec<_> =
        (0..200).map(|id| claim(&format!("job/{id}"), id + 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse)).collect();
    assert!(client.acquire(&claims).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    let (mut listed, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = client.list(&ListFilter { prefix: "job/".into(), after, limit: 10 }).await.unwrap();
        listed.extend(page.entries.into_iter().map(|entry| entry.resource.as_str().to_owned()));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    listed.sort();
    listed.dedup();
    assert_eq!((listed.len(), pages > 3), (200, true));

    let findings = client.examine().await.unwrap();
    for index in 0..3 {
        let name = format!("127.0.0.1:{}: ", cluster.node(index).port());
        let is_its = |subject: &str| {
            findings.iter().any(|finding| finding.subject == subject && finding.text.starts_with(&name))
        };
        assert!(is_its("version") && is_its("persistence") && is_its("replication"), "{findings:?}");
    }
}

/// While each of two nodes has one half of the keys of a slot, held locks stay held, and nothing is granted twice.
#[tokio::test(flavor = "multi_thread")]
async fn moving_slot_loses_no_lock() {
    let cluster = RedisCluster::start(PATIENT);
    let client = connect(&cluster, "?restart_grace=0s").await;
    let claims: Vec<_> =
        (0..400).map(|id| claim(&format!("job/{id}"), id + 1, Share::EXCLUSIVE, 60_000, IfBusy::Queue)).collect();
    assert!(client.acquire(&claims).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    let waiters: Vec<_> =
        (0..400).map(|id| claim(&format!("job/{id}"), id + 1001, Share::EXCLUSIVE, 60_000, IfBusy::Queue)).collect();
    // Every second lock has a waiter, and with it a second key.
    let queued: Vec<_> = waiters.iter().step_by(2).cloned().collect();
    assert!(client.acquire(&queued).await.iter().all(|answer| matches!(answer, Ok(Acquired::Queued(_)))));

    let keys = cluster.keys("rlock:2:{rlock:*");
    let mut slots = BTreeMap::<u16, usize>::new();
    for key in &keys {
        *slots.entry(slot_of(&cluster, key)).or_default() += 1;
    }
    let (slot, _) = slots.into_iter().max_by_key(|(_, keys)| *keys).unwrap();
    let in_slot = |name: &str| {
        let key = keys.iter().find(|key| key.ends_with(&format!("}}:{name}"))).unwrap();
        slot_of(&cluster, key) == slot
    };
    let moving: Vec<_> = claims.iter().filter(|claim| in_slot(claim.key.resource.as_str())).collect();
    let from = cluster
        .owner_of(keys.iter().find(|key| key.ends_with(&format!("}}:{}", moving[0].key.resource.as_str()))).unwrap())
        .await;
    let to = (from + 1) % 3;

    let has_waiter = |claim: &rlock_core::Claim| queued.iter().any(|queued| queued.key.resource == claim.key.resource);
    let extension = |key: &rlock_core::LeaseKey| Extension { key: key.clone(), ttl: ttl(90_000) };
    let half_way = async || {
        let (mut held, mut busy) = (0, 0);
        for claim in &moving {
            match client.extend(&[extension(&claim.key)]).await.remove(0) {
                Ok(Extended::Held(_)) => held += 1,
                // Its two keys may be apart. A lock without waiters is one key, wherever that is.
                Err(error) if error.is_transient() && has_waiter(claim) => busy += 1,
                other => panic!("{}: {other:?}", claim.key.resource),
            }
            let thief = rlock_core::Claim { key: key(claim.key.resource.as_str(), 5_000), ..(*claim).clone() };
            let thief = rlock_core::Claim { if_busy: IfBusy::Refuse, ..thief };
            match client.acquire(&[thief]).await.remove(0) {
                Ok(Acquired::Busy) | Err(BackendError::NotApplied(_) | BackendError::Unknown(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        println!("half way, {held} of {} were extended and {busy} could not be", moving.len());
        assert!(held > 0, "no lock was extended");
        let together: Vec<_> = moving.iter().map(|claim| extension(&claim.key)).collect();
        for (answer, claim) in client.extend(&together).await.into_iter().zip(&moving) {
            let is_apart = |error: &BackendError| error.is_transient() && has_waiter(claim);
            let is_right = answer.as_ref().is_ok_and(|answer| matches!(answer, Extended::Held(_)));
            assert!(is_right || answer.as_ref().is_err_and(is_apart), "{}: {answer:?}", claim.key.resource);
        }
        others_fail_for_a_time(&client, &moving).await;
    };
    cluster.move_slot(slot, from, to, half_way).await;

    let all: Vec<_> = claims.iter().map(|claim| extension(&claim.key)).collect();
    let extended = client.extend(&all).await;
    assert!(extended.iter().all(|answer| matches!(answer, Ok(Extended::Held(_)))), "{extended:?}");
    let releases: Vec<_> = claims.iter().map(|claim| claim.key.clone().into()).collect();
    assert!(client.release(&releases).await.iter().all(|answer| matches!(answer, Ok(Released::Released))));
    let granted: Vec<_> = queued.iter().map(|claim| extension(&claim.key)).collect();
    let granted = client.extend(&granted).await;
    assert!(granted.iter().all(|answer| matches!(answer, Ok(Extended::Held(_)))), "{granted:?}");
}

/// Requests besides those of holders and waiters succeed or are transient failures, while a slot moves.
async fn others_fail_for_a_time(client: &RedisBackend, moving: &[&rlock_core::Claim]) {
    for claim in moving {
        match client.inspect(&claim.key.resource).await {
            Ok(snapshot) => assert_eq!(snapshot.holders.len(), 1, "{snapshot:?}"),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    // Some of these names are in the slot.
    for id in 0..100 {
        match client.break_leases(&key(&format!("free/{id}"), 1).resource).await {
            Ok(broken) => assert_eq!(broken, 0),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    if let Err(error) = client.list(&ListFilter { limit: 1_000, ..Default::default() }).await {
        assert!(error.is_transient(), "{error}");
    }
}

/// The moving slot contains the mark that stores since when the node serves.
#[tokio::test(flavor = "multi_thread")]
async fn clients_connect_while_a_slot_moves() {
    let cluster = RedisCluster::start_without_replicas();
    connect(&cluster, "?restart_grace=1s").await;
    let mark = cluster.keys("rlock:2:{rlock:*}!known").remove(0);
    let (slot, from) = (slot_of(&cluster, &mark), cluster.owner_of(&mark).await);
    let half_way = async || {
        let client = connect(&cluster, "?restart_grace=1s").await;
        let claims: Vec<_> =
            (0..100).map(|id| claim(&format!("job/{id}"), id + 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse)).collect();
        let others_are_granted = async || {
            let answers = client.acquire(&claims).await;
            let is_fine = |answer: &Result<Acquired, BackendError>| {
                matches!(answer, Ok(Acquired::Held(_)) | Err(BackendError::NotApplied(_)))
            };
            assert!(answers.iter().all(is_fine), "{answers:?}");
            // A slot has about one and a half of these names.
            answers.iter().filter(|answer| answer.is_ok()).count() > 85
        };
        eventually(SOON, "locks in all other slots", others_are_granted).await;
    };
    cluster.move_slot(slot, from, (from + 1) % 3, half_way).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_primary_loses_no_replicated_lock() {
    let cluster = RedisCluster::start(NERVOUS);
    let client = client_at(&format!("{}?restart_grace=0s&wait_replicas=1", cluster.url())).await;
    let mut guards = Vec::new();
    for number in 0..30 {
        let lock = rlock_core::SimpleLock::new(format!("job/{number}"), &client).unwrap();
        let options = rlock_core::LockOptions::new().ttl(Duration::from_secs(20)).watchdog(true);
        guards.push(lock.lock_with(options).await.unwrap());
    }
    cluster.node(1).kill().await;
    cluster.is_replaced(1).await;
    cluster.is_whole().await;
    for guard in guards {
        within(SOON, "an unlock", guard.unlock()).await.expect("it is held");
    }
    let lock = rlock_core::SimpleLock::new("job/0", &client).unwrap();
    within(SOON, "a new lock", lock.lock()).await.unwrap().unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn promoted_replica_grants_nothing_during_the_grace() {
    const GRACE: Duration = Duration::from_secs(4);
    let cluster = RedisCluster::start(NERVOUS);
    let client = connect(&cluster, "?restart_grace=4s").await;
    let claims: Vec<_> =
        (0..30).map(|id| claim(&format!("job/{id}"), id + 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse)).collect();
    let all_granted =
        async || client.acquire(&claims).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_))));
    eventually(SOON, "the grace after the start", all_granted).await;

    let owned_by = async |index| {
        let mut owned = Vec::new();
        for key in cluster.keys("rlock:2:{rlock:*}:job/*") {
            if cluster.owner_of(&key).await == index {
                owned.push(key.rsplit_once(':').unwrap().1.to_owned());
            }
        }
        owned
    };
    let name = owned_by(2).await.remove(0);
    let elsewhere = owned_by(0).await.remove(0);
    let held = claims.iter().find(|claim| claim.key.resource.as_str() == elsewhere).unwrap();
    assert!(matches!(client.release(&[held.key.clone().into()]).await[0], Ok(Released::Released)));
    let elsewhere = claim(&elsewhere, 8_000, Share::EXCLUSIVE, 30_000, IfBusy::Refuse);
    let killed = Instant::now(); // the grace begins later
    cluster.node(2).kill().await;
    cluster.is_replaced(2).await;
    let new = |id| claim(&name, id, Share::EXCLUSIVE, 30_000, IfBusy::Refuse);
    let (mut said_why, mut others_grant) = (false, false);
    let is_answered = async || {
        let answers = client.acquire(&[new(9_000), elsewhere.clone()]).await;
        match &answers[0] {
            Ok(Acquired::Busy) => true,
            Err(error) => {
                let is_grace = error.to_string().contains("promoted a moment ago");
                said_why |= is_grace;
                others_grant |= is_grace && matches!(answers[1], Ok(Acquired::Held(_)));
                false
            }
            other => panic!("it was granted: {other:?}"),
        }
    };
    eventually(SOON, "an answer of the promoted replica", is_answered).await;
    assert!(said_why && killed.elapsed() >= GRACE, "{said_why}, {:?}", killed.elapsed());
    assert!(others_grant, "the other primaries shared the grace");
    // Another client knows of the same promotion.
    let other = connect(&cluster, "?restart_grace=4s").await;
    assert!(matches!(other.acquire(&[new(9_001)]).await[0], Ok(Acquired::Busy)));
}

/// Processes are killed and frozen while primaries are killed and cut off. Replication is asynchronous: the
/// documentation allows overlaps if the token protects what the two holders write to.
#[test]
fn histories_are_right_while_primaries_fail() {
    if let Some(helper) = Helper::current() {
        return block_on(run_contender(helper, async |url| client_at(url).await));
    }
    block_on(async {
        let cluster = RedisCluster::start(NERVOUS);
        let workload = Workload { mutexes: 3, ..Workload::mixed(Duration::from_secs(4)) };
        contend_while_primaries_fail(workload, this_test!(), &cluster.url(), &cluster.leading()).await;
    });
}

/// No overlap is allowed here: no write is lost when a slot moves.
#[test]
fn histories_are_right_while_slots_move() {
    if let Some(helper) = Helper::current() {
        return block_on(run_contender(helper, async |url| client_at(url).await));
    }
    block_on(async {
        let cluster = RedisCluster::start_without_replicas();
        let workload = Workload { mutexes: 3, ..Workload::mixed(Duration::from_secs(2)) };
        let (time, seed) = (Duration::from_secs(25), rand::random());
        println!("seed {seed}");
        let arena = Arena::new(workload, this_test!(), &cluster.url(), None, 6, seed).await;
        let mishaps = [Mishap::ProcessKilled, Mishap::ProcessFrozen];
        let contest = arena.run(time, &mishaps, Duration::from_millis(250));
        let (outcome, moves) = tokio::join!(contest, move_slots(&cluster, Instant::now() + time));
        println!("{moves} moves, {:?}\n{}", outcome.mishaps, outcome.verdict.counts);
        assert!(outcome.verdict.violation.is_none(), "{:?}", outcome.verdict.violation.map(|it| it.to_string()));
        assert!(moves > 30 && outcome.verdict.counts.acquisitions > 30, "{moves} moves, {}", outcome.verdict.counts);
    });
}

/// Moves every slot with locks to the next primary, repeatedly, and returns the number of moves.
async fn move_slots(cluster: &RedisCluster, end: Instant) -> usize {
    let mut moves = 0;
    while Instant::now() < end {
        let slots: BTreeMap<u16, String> =
            cluster.keys("rlock:2:{rlock:*").into_iter().map(|key| (slot_of(cluster, &key), key)).collect();
        for (slot, key) in slots {
            let from = cluster.owner_of(&key).await;
            cluster.move_slot(slot, from, (from + 1) % 3, async || sleep(Duration::from_millis(50)).await).await;
            moves += 1;
        }
        sleep(Duration::from_millis(50)).await;
    }
    moves
}

fn slot_of(cluster: &RedisCluster, key: &str) -> u16 {
    match cluster.node(0).resp().command(&["CLUSTER", "KEYSLOT", key]) {
        Reply::Int(slot) => slot.try_into().expect("there are 16,384 slots"),
        other => panic!("CLUSTER KEYSLOT answered {other:?}"),
    }
}
