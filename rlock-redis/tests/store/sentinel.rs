//! Servers with sentinels, which replace primaries.

use std::time::{Duration, Instant};

use rlock_core::{Acquired, Backend as _, BackendError, IfBusy, LockOptions, Share, SimpleLock};
use rlock_redis::{ConnectError, RedisBackend, RedisConfig};
use rlock_testkit::contest::{Arena, Mishap, Workload, run_contender};
use rlock_testkit::faults::Control as _;
use rlock_testkit::process::Helper;
use rlock_testkit::servers::RedisSentinels;
use rlock_testkit::this_test;
use rlock_testkit::wait::{eventually, within};
use tokio::time::sleep;

use crate::support::{SOON, block_on, claim, client_at, contend_while_primaries_fail, only_lost_writes};

const PATIENT: Duration = Duration::from_secs(60);
const NERVOUS: Duration = Duration::from_secs(1);

async fn refusal(url: &str) -> ConnectError {
    RedisBackend::connect(RedisConfig::from_url(url).unwrap()).await.unwrap_err()
}

async fn connect(url: &str, options: &str) -> RedisBackend {
    RedisBackend::connect(RedisConfig::from_url(&format!("{url}{options}")).unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_urls_have_a_remedy() {
    let servers = RedisSentinels::start(PATIENT);
    let sentinel = refusal(servers.sentinel(0).url()).await;
    assert!(matches!(sentinel, ConnectError::Rejected(_)), "{sentinel:?}");
    assert!(sentinel.to_string().contains("write redis-sentinel://host:port,host:port/service"), "{sentinel}");
    let unknown = refusal(&servers.url().replace("/locks", "/jobs")).await;
    assert!(matches!(unknown, ConnectError::Rejected(_)), "{unknown:?}");
    assert!(unknown.to_string().contains("does not know \"jobs\""), "{unknown}");
    let server = servers.server(0).url().replace("redis:", "redis-sentinel:");
    let no_sentinel = refusal(&format!("{server}/locks")).await;
    assert!(no_sentinel.to_string().contains("it is no sentinel"), "{no_sentinel}");
    let nowhere = refusal("redis-sentinel://127.0.0.1:1/locks").await;
    assert!(nowhere.to_string().contains("the sentinel at 127.0.0.1:1: the connection was refused"), "{nowhere}");
    let replica = refusal(servers.server(1).url()).await;
    assert!(replica.to_string().contains("let the URL name the primary"), "{replica}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_have_users_of_their_own() {
    let servers = RedisSentinels::start(PATIENT);
    let on_sentinels = |command: &[&str]| {
        for index in 0..3 {
            servers.sentinel(index).resp().command(command);
        }
    };
    let rules: Vec<&str> = RedisConfig::SENTINEL_ACL_RULES.split(' ').collect();
    on_sentinels(&[&["ACL", "SETUSER", "watcher", "on", ">a b"][..], &rules].concat());
    on_sentinels(&["ACL", "SETUSER", "stranger", "on", ">a b", "+ping"]);
    for index in 0..2 {
        let user = ["ACL", "SETUSER", "locks", "on", ">secret"].into_iter().chain(RedisConfig::ACL_RULES.split(' '));
        servers.server(index).resp().command(&user.collect::<Vec<_>>());
    }
    let url = servers.url().replace("://", "://locks:secret@");
    connect(&url, "?sentinel_user=watcher&sentinel_password=a%20b").await;

    // On a busy machine a sentinel may answer late, and only an answer of each is a refusal.
    let refusal = async |options: &str| {
        let begun = Instant::now();
        loop {
            match refusal(&format!("{url}{options}")).await {
                error @ ConnectError::Rejected(_) => return error.to_string(),
                other => assert!(begun.elapsed() < SOON, "{options}: {other:?}"),
            }
        }
    };
    let without_rights = refusal("?sentinel_user=stranger&sentinel_password=a%20b").await;
    assert!(without_rights.contains(RedisConfig::SENTINEL_ACL_RULES), "{without_rights}");
    assert!(without_rights.contains("the sentinel at 127.0.0.1:"), "{without_rights}");
    assert!(!without_rights.contains("~rlock:*"), "those are the rights on the servers: {without_rights}");
    let wrong = refusal("?sentinel_user=watcher&sentinel_password=wrong").await;
    assert!(wrong.contains("check sentinel_user and sentinel_password"), "{wrong}");
    on_sentinels(&["ACL", "SETUSER", "default", "resetpass", ">other"]);
    let without_password = refusal("").await;
    assert!(without_password.contains("sentinel_password=PASSWORD"), "{without_password}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sentinel_is_enough() {
    let servers = RedisSentinels::start(PATIENT);
    servers.sentinel(0).kill().await;
    servers.sentinel(1).pause().await;
    let client = connect(&servers.url(), "?restart_grace=0s").await;
    assert!(matches!(client.acquire(&[exclusive(1)]).await[0], Ok(Acquired::Held(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn deposed_primary_is_left_within_a_second() {
    let servers = RedisSentinels::start(PATIENT);
    servers.is_replicated().await;
    // The sentinels demote the deposed primary, which closes its connections, after four of these periods. Until then it
    // grants as before: only the sentinels report that another server is the primary.
    for index in 0..3 {
        let period = ["SENTINEL", "DEBUG", "PUBLISH-PERIOD", "5000"];
        let _refused = servers.sentinel(index).resp().send(&period); // by version 6.2, whose period is two seconds
    }
    let client = connect(&servers.url(), "?restart_grace=0s").await;
    assert!(matches!(client.acquire(&[exclusive(1)]).await[0], Ok(Acquired::Held(_))));
    let new = servers.fail_over().await;
    let leads_to_the_new = async |id| {
        let name = format!("probe/{id}");
        let probe = claim(&name, id, Share::EXCLUSIVE, 30_000, IfBusy::Refuse);
        let granted = matches!(client.acquire(&[probe]).await[0], Ok(Acquired::Held(_)));
        granted && servers.server(new).resp().command(&["KEYS", &format!("*{name}")]).to_string().contains("probe")
    };
    // The last of these probes is a second after the failover. A busy machine delays a probe as it delays the client,
    // which waits for the sentinels as well.
    let mut probes = 10..=20;
    while !leads_to_the_new(probes.next().expect("the client leaves the deposed primary within a second")).await {
        for index in 0..3 {
            servers.sentinel(index).resp().command(&["PING"]);
        }
        sleep(Duration::from_millis(100)).await;
    }
    let info = servers.server(1 - new).resp().command(&["INFO", "replication"]).to_string();
    assert!(info.contains("role:master"), "the sentinels have demoted the deposed primary: {info}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_failovers_lose_no_replicated_lock() {
    let servers = RedisSentinels::start(NERVOUS);
    let url = format!("{}?restart_grace=0s&wait_replicas=1", servers.url());
    let (client, other) = (client_at(&url).await, client_at(&url).await);
    let lock = |name: &str| SimpleLock::new(name, &client).unwrap();
    let options = || LockOptions::new().ttl(Duration::from_secs(30)).watchdog(true);
    let mut guards = Vec::new();
    for number in 0..10 {
        servers.is_replicated().await;
        let guard = lock(&format!("job/{number}")).lock_with(options()).await.unwrap();
        guards.push(guard);
        servers.fail_over().await;
    }
    for (number, guard) in guards.into_iter().enumerate() {
        assert!(guard.is_held(), "{guard:?}");
        let held = SimpleLock::new(format!("job/{number}"), &other).unwrap();
        let taken = within(SOON, "an answer", held.try_lock()).await;
        assert!(matches!(taken, Ok(None)), "{taken:?}");
        within(SOON, "an unlock", guard.unlock()).await.expect("it is held");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promoted_replica_grants_nothing_during_the_grace() {
    const GRACE: Duration = Duration::from_secs(4);
    let servers = RedisSentinels::start(NERVOUS);
    servers.is_replicated().await;
    let client = connect(&servers.url(), "?restart_grace=4s").await;
    eventually(SOON, "the grace after the start", async || {
        matches!(client.acquire(&[exclusive(1)]).await[0], Ok(Acquired::Held(_)))
    })
    .await;
    servers.server(0).kill().await;
    servers.is_replaced(0).await;
    let mut said_why = None;
    let is_granted =
        async || match client.acquire(&[claim("b", 2, Share::EXCLUSIVE, 30_000, IfBusy::Refuse)]).await.remove(0) {
            Ok(Acquired::Held(_)) => true,
            Err(error @ BackendError::NotApplied(_)) => {
                if error.to_string().contains("promoted a moment ago") {
                    said_why.get_or_insert_with(Instant::now);
                }
                false
            }
            Err(_) => false,
            other => panic!("{other:?}"),
        };
    eventually(SOON, "a grant of the promoted replica", is_granted).await;
    let refused_for = said_why.expect("a claim is refused").elapsed();
    // The first refusal takes 200 ms. The clients have another second to leave the old primary.
    assert!(refused_for >= GRACE + Duration::from_millis(700), "{refused_for:?}");
}

/// As on a cluster: an overlap is allowed if the token protects.
#[test]
fn histories_are_right_while_primaries_fail() {
    if let Some(helper) = Helper::current() {
        return block_on(run_contender(helper, async |url| client_at(url).await));
    }
    block_on(async {
        let servers = RedisSentinels::start(NERVOUS);
        let workload = Workload::mixed(Duration::from_secs(4));
        contend_while_primaries_fail(workload, this_test!(), &servers.url(), &servers.leading()).await;
    });
}

/// As on a cluster: an overlap is allowed if the token protects.
#[test]
fn histories_are_right_over_ten_failovers() {
    if let Some(helper) = Helper::current() {
        return block_on(run_contender(helper, async |url| client_at(url).await));
    }
    block_on(async {
        let servers = RedisSentinels::start(NERVOUS);
        let ttl = Duration::from_secs(2);
        let seed = rand::random();
        println!("seed {seed}");
        let url = format!("{}?restart_grace=500ms", servers.url());
        let arena = Arena::new(Workload::mixed(ttl), this_test!(), &url, None, 6, seed).await;
        let failovers = async {
            for _ in 0..10 {
                servers.is_replicated().await;
                servers.fail_over().await;
                sleep(ttl).await; // the grace, and time to acquire locks
            }
        };
        only_lost_writes(&arena.run_during(failovers, &[Mishap::ProcessFrozen], Duration::from_millis(250)).await);
    });
}

fn exclusive(id: u128) -> rlock_core::Claim {
    claim("a", id, Share::EXCLUSIVE, 30_000, IfBusy::Refuse)
}
