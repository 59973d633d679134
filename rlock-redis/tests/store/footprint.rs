//! The cost of operations on the server, and their leftovers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{SOON, Server, claim, key, scripts_run, ttl};
use futures_util::{FutureExt as _, StreamExt as _};
use rlock_core::{Acquired, Backend as _, Claim, Event, Extended, Extension, IfBusy, Release, Released, Share};
use rlock_redis::{RedisBackend, RedisConfig};
use rlock_testkit::servers::RedisCluster;
use rlock_testkit::wait::eventually;

fn mutex(name: &str, id: u128) -> Claim {
    claim(name, id, Share::EXCLUSIVE, 30_000, IfBusy::Queue)
}

/// The number of calls of each command by the scripts of `act`.
async fn cost<T>(server: &Server, act: impl Future<Output = T>) -> (T, BTreeMap<String, u64>) {
    server.run(&["CONFIG", "RESETSTAT"]);
    let result = act.await;
    let calls = |line: &String| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let counted = !["config", "info", "ping", "evalsha", "hello", "client", "command"]
            .iter()
            .any(|own| name.starts_with(own));
        counted.then(|| (name.to_owned(), rest.split(',').next().unwrap().parse().unwrap()))
    };
    (result, server.run(&["INFO", "commandstats"]).iter().filter_map(calls).collect())
}

fn commands(listed: &[(&str, u64)]) -> BTreeMap<String, u64> {
    listed.iter().map(|&(name, calls)| (name.to_owned(), calls)).collect()
}

#[tokio::test]
async fn an_uncontended_lock_costs_as_little_as_this() {
    let server = Server::start();
    let client = server.client().await;
    let (_, first) = cost(&server, client.acquire(&[mutex("a", 1)])).await;
    assert_eq!(first, commands(&[("time", 1), ("mget", 1), ("exists", 1), ("set", 1)]));
    let (_, extend) = cost(&server, client.extend(&[Extension { key: key("a", 1), ttl: ttl(40_000) }])).await;
    assert_eq!(extend, commands(&[("time", 1), ("mget", 1), ("setrange", 1)]));
    let (_, release) = cost(&server, client.release(&[key("a", 1).into()])).await;
    assert_eq!(release, commands(&[("time", 1), ("mget", 1), ("set", 1)]));
    let (_, again) = cost(&server, client.acquire(&[mutex("a", 2)])).await;
    assert_eq!(again, commands(&[("time", 1), ("mget", 1), ("set", 1)]));
}

#[tokio::test]
async fn held_lock_is_one_short_string() {
    let server = Server::start();
    let client = server.client_in("n").await;
    let claims = [mutex("a", 1)];
    assert!(matches!(client.acquire(&claims).await[0], Ok(Acquired::Held(_))));
    assert_eq!(server.run(&["KEYS", "*"]), ["rlock:2:{n:0}:a"]);
    let length: usize = server.run(&["STRLEN", "rlock:2:{n:0}:a"])[0].parse().unwrap();
    // The last token, two expiries and the capacity, the ids of the lease and of the inbox, and the owner's record.
    assert_eq!(length, 28 + 2 * 16 + 2 + claims[0].owner.to_record().len());
}

#[tokio::test]
async fn contended_turn_costs_the_same_in_any_queue() {
    let server = Server::start();
    for waiters in [2, 1_000] {
        let client = server.client().await;
        let claims: Vec<_> = (1..=waiters + 1).map(|id| mutex("a", id)).collect();
        client.acquire(&claims).await;
        let last = waiters + 2;
        let (_, join) = cost(&server, client.acquire(&[mutex("a", last)])).await;
        let read = [("time", 1), ("mget", 1), ("zrangebylex", 3), ("zrevrangebylex", 1), ("zlexcount", 1)];
        let mut expected = commands(&read);
        expected.insert("zadd".to_owned(), 1);
        assert_eq!(join, expected);
        let (_, extend) = cost(&server, client.extend(&[Extension { key: key("a", last), ttl: ttl(40_000) }])).await;
        expected.insert("zrem".to_owned(), 1);
        assert_eq!(extend, expected);
        let (_, hand_over) = cost(&server, client.release(&[key("a", 1).into()])).await;
        let listed = [("time", 1), ("mget", 1), ("zrangebylex", 2), ("set", 1), ("zrem", 1), ("publish", 1)];
        assert_eq!(hand_over, commands(&listed));
    }
}

/// The cost of one more reader: of its claim, of its renewal and of its release.
async fn costs_of_a_reader(server: &Server, others: u128) -> [BTreeMap<String, u64>; 3] {
    let client = server.client().await;
    let reader = |id| claim("a", id, Share::new(1, 1_000).unwrap(), 30_000, IfBusy::Queue);
    let claims: Vec<_> = (1..=others).map(reader).collect();
    assert!(client.acquire(&claims).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    let id = others + 1;
    let (acquired, acquire) = cost(server, client.acquire(&[reader(id)])).await;
    assert!(matches!(acquired[0], Ok(Acquired::Held(_))), "{acquired:?}");
    let (extended, extend) = cost(server, client.extend(&[Extension { key: key("a", id), ttl: ttl(40_000) }])).await;
    assert!(matches!(extended[0], Ok(Extended::Held(_))), "{extended:?}");
    let (released, release) = cost(server, client.release(&[key("a", id).into()])).await;
    assert!(matches!(released[0], Ok(Released::Released)), "{released:?}");
    [acquire, extend, release]
}

#[tokio::test]
async fn reader_costs_the_same_beside_any_others() {
    let server = Server::start();
    let (few, many) = (costs_of_a_reader(&server, 2).await, costs_of_a_reader(&server, 300).await);
    assert_eq!(few, many, "beside 2 readers and beside 300");
}

#[tokio::test]
async fn first_waiter_costs_as_little_as_this() {
    let server = Server::start();
    let client = server.client().await;
    client.acquire(&[mutex("a", 1)]).await;
    let (_, join) = cost(&server, client.acquire(&[mutex("a", 2)])).await;
    let listed = [("time", 1), ("mget", 1), ("exists", 1), ("zadd", 1), ("set", 1), ("pexpireat", 1)];
    assert_eq!(join, commands(&listed));
    let (_, extend) = cost(&server, client.extend(&[Extension { key: key("a", 2), ttl: ttl(40_000) }])).await;
    let listed = [("time", 1), ("mget", 1), ("zrangebylex", 2), ("zadd", 1), ("zrem", 1), ("zrevrangebylex", 1)];
    assert_eq!(extend, commands(&listed));
}

#[tokio::test]
async fn last_waiter_holds_a_lone_string() {
    let server = Server::start();
    let client = server.client_in("n").await;
    client.acquire(&[mutex("a", 1), mutex("a", 2)]).await;
    assert!(matches!(client.release(&[key("a", 1).into()]).await[0], Ok(Released::Released)));
    assert_eq!(server.run(&["KEYS", "*"]), ["rlock:2:{n:0}:a"]);
    let (_, extend) = cost(&server, client.extend(&[Extension { key: key("a", 2), ttl: ttl(40_000) }])).await;
    assert_eq!(extend, commands(&[("time", 1), ("mget", 1), ("setrange", 1)]));
}

#[tokio::test]
async fn batch_reads_its_strings_in_one_command() {
    let server = Server::start();
    let client = server.client().await;
    client.acquire(&["a", "b"].map(|name| mutex(name, 1))).await;
    client.acquire(&["a", "b"].map(|name| mutex(name, 2))).await;
    let extensions = ["a", "b"].map(|name| Extension { key: key(name, 2), ttl: ttl(40_000) });
    let (_, extend) = cost(&server, client.extend(&extensions)).await;
    let listed = [("time", 1), ("mget", 1), ("zrangebylex", 4), ("zadd", 2), ("zrem", 2), ("zrevrangebylex", 2)];
    assert_eq!(extend, commands(&listed));
}

#[tokio::test]
async fn only_the_last_token_is_left_until_expiry() {
    let server = Server::start();
    let client = server.client_in("n").await;
    let reader = Share::new(1, 3).unwrap();
    let writer = Share::new(3, 3).unwrap();
    let claims = [(1, reader), (2, reader), (3, writer), (4, reader), (5, writer)]
        .map(|(id, share)| claim("a", id, share, 30_000, IfBusy::Queue));
    let mut queued = 0;
    for claim in &claims {
        let answer = client.acquire(std::slice::from_ref(claim)).await.remove(0);
        queued += usize::from(matches!(answer, Ok(Acquired::Queued(_))));
    }
    assert_eq!(queued, 3);
    let mut keys = server.run(&["KEYS", "*"]);
    keys.sort();
    assert_eq!(keys, ["rlock:2:{n:0}#a", "rlock:2:{n:0}:a"]);
    for key in &keys {
        let expires: u128 = server.run(&["EVAL", "return redis.call('PTTL', KEYS[1])", "1", key])[0].parse().unwrap();
        assert!((30 * 60_000..=62 * 60_000).contains(&expires), "{key} expires in {expires} ms");
    }

    for claim in claims {
        assert!(matches!(client.release(&[claim.key.into()]).await[0], Ok(Released::Released)));
    }
    assert_eq!(server.run(&["KEYS", "*"]), ["rlock:2:{n:0}:a"]);
    assert_eq!(server.run(&["STRLEN", "rlock:2:{n:0}:a"]), ["16"]);
    let expires: i64 = server.run(&["PTTL", "rlock:2:{n:0}:a"])[0].parse().unwrap();
    assert!(expires > 0);
}

#[tokio::test]
async fn expired_and_broken_leases_leave_nothing_either() {
    let server = Server::start();
    let client = server.client_in("n").await;
    let short = |id, share| claim("a", id, share, 20, IfBusy::Queue);
    for share in [Share::EXCLUSIVE, Share::new(1, 2).unwrap()] {
        client.acquire(&(1..=3_000).map(|id| short(id, share)).collect::<Vec<_>>()).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
        assert_eq!(client.release(&[key("a", 1).into()]).await[0].as_ref().unwrap(), &Released::Absent);
        assert_eq!(server.run(&["STRLEN", "rlock:2:{n:0}:a"]), ["16"]);
        assert_eq!(server.run(&["KEYS", "*"]), ["rlock:2:{n:0}:a"]);

        let claims: Vec<_> = (1..=2).map(|id| claim("a", id, share, 30_000, IfBusy::Queue)).collect();
        client.acquire(&claims).await;
        while client.break_leases(&claims[0].key.resource).await.unwrap() > 0 {}
        assert_eq!(server.run(&["STRLEN", "rlock:2:{n:0}:a"]), ["16"]);
        assert_eq!(server.run(&["KEYS", "*"]), ["rlock:2:{n:0}:a"]);
    }
}

#[tokio::test]
async fn expired_lease_is_absent_to_every_operation() {
    let server = Server::start();
    let client = server.client().await;
    let expired = |name| claim(name, 1, Share::EXCLUSIVE, 20, IfBusy::Refuse);
    let claims = ["released", "extended", "claimed"].map(expired);
    let before = client.acquire(&claims).await.pop();
    let Some(Ok(Acquired::Held(before))) = before else { panic!("{before:?}") };
    tokio::time::sleep(Duration::from_millis(40)).await;

    let [released, extended, claimed] = claims;
    assert!(matches!(client.release(&[released.key.into()]).await[0], Ok(Released::Absent)));
    let extension = Extension { key: extended.key, ttl: ttl(30_000) };
    assert!(matches!(client.extend(&[extension]).await[0], Ok(Extended::Gone { taken: false })));
    let again = client.acquire(&[claimed]).await.remove(0);
    assert!(matches!(again, Ok(Acquired::Held(grant)) if grant.token > before.token), "{again:?}");
}

#[tokio::test]
async fn long_leases_keep_all_their_keys() {
    let server = Server::start();
    let client = server.client_in("n").await;
    let share = Share::new(1, 2).unwrap();
    let claims: Vec<_> = (0..3).map(|id| claim("a", id, share, 1_000, IfBusy::Queue)).collect();
    client.acquire(&claims).await;
    let day = 24 * 3_600_000;
    client.extend(&[Extension { key: key("a", 2), ttl: ttl(day) }]).await;
    are_kept(&server, day);

    server.run(&["FLUSHALL"]);
    let claims: Vec<_> = (1..3).map(|id| mutex("a", id)).collect();
    client.acquire(&claims).await;
    client.extend(&[Extension { key: key("a", 1), ttl: ttl(day) }]).await;
    are_kept(&server, day);
}

/// Asserts that both keys of the only resource live for more than this many milliseconds.
fn are_kept(server: &Server, millis: u64) {
    let keys = server.run(&["KEYS", "*"]);
    assert_eq!(keys.len(), 2, "{keys:?}");
    for key in keys {
        let expires: u64 = server.run(&["PTTL", &key])[0].parse().unwrap();
        assert!(expires > millis + 30 * 60_000, "{key} expires in {expires} ms");
    }
}

#[tokio::test]
async fn batches_of_ten_thousand_are_answered_in_order() {
    let server = Server::start();
    let client = server.client().await;
    let claims: Vec<_> = (0..10_000).map(|i| mutex(&format!("r{}", i % 5_000), i + 1)).collect();
    for (i, answer) in client.acquire(&claims).await.into_iter().enumerate() {
        assert_eq!(matches!(answer, Ok(Acquired::Held(_))), i < 5_000, "{i}: {answer:?}");
    }
    let extensions: Vec<_> =
        claims.iter().map(|claim| Extension { key: claim.key.clone(), ttl: ttl(60_000) }).collect();
    for (i, answer) in client.extend(&extensions).await.into_iter().enumerate() {
        assert_eq!(matches!(answer, Ok(Extended::Held(_))), i < 5_000, "{i}: {answer:?}");
    }
    let leases: Vec<_> = claims.into_iter().map(|claim| claim.key.into()).collect();
    assert!(client.release(&leases).await.iter().all(|answer| matches!(answer, Ok(Released::Released))));
    assert!(client.acquire(&[]).await.is_empty());
}

/// A client that waits for many names listens on one channel.
#[tokio::test]
async fn waits_for_many_names_open_no_connection() {
    const NAMES: u128 = 10_000;
    let server = Server::start();
    let (holder, waiter) = (server.client_in("n").await, server.client_in("n").await);
    let claims =
        |first: u128| (0..NAMES).map(|number| mutex(&format!("r{number}"), first + number)).collect::<Vec<_>>();
    let (held, queued) = (claims(1), claims(1 + NAMES));
    assert!(holder.acquire(&held).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    let opened = || {
        let stats = server.run(&["INFO", "stats"]);
        let number = stats.iter().find_map(|line| line.strip_prefix("total_connections_received:"));
        number.unwrap().parse::<u64>().unwrap()
    };
    let before = opened();
    assert!(waiter.acquire(&queued).await.iter().all(|answer| matches!(answer, Ok(Acquired::Queued(_)))));
    let releases: Vec<Release> = held.into_iter().map(|claim| claim.key.into()).collect();
    assert!(holder.release(&releases).await.iter().all(|answer| matches!(answer, Ok(Released::Released))));
    let extensions: Vec<_> = queued.into_iter().map(|claim| Extension { key: claim.key, ttl: ttl(30_000) }).collect();
    assert!(waiter.extend(&extensions).await.iter().all(|answer| matches!(answer, Ok(Extended::Held(_)))));
    // The look itself opens one, and a busy server makes the clients try others.
    let connections = opened() - before;
    assert!(connections < 10, "{connections} connections");
}

/// One for requests to each primary, and one that listens.
#[tokio::test(flavor = "multi_thread")]
async fn client_has_few_connections_to_a_cluster() {
    let cluster = RedisCluster::start_without_replicas();
    let config = RedisConfig::from_url(&format!("{}?restart_grace=0s", cluster.url())).unwrap();
    let client = RedisBackend::connect(config).await.unwrap();
    let claims: Vec<_> = (1..=100).map(|id| mutex(&format!("job/{id}"), id)).collect();
    assert!(client.acquire(&claims).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    let connections = |kind: &str| -> Vec<usize> {
        let on = |index| {
            let listed = cluster.node(index).resp().command(&["CLIENT", "LIST", "TYPE", kind]).to_string();
            listed.lines().filter(|line| line.contains("addr=")).count()
        };
        (0..cluster.size()).map(on).collect()
    };
    // The look has a connection to each primary as well.
    let are_few = async || connections("normal") == [2, 2, 2] && connections("pubsub").iter().sum::<usize>() == 1;
    eventually(SOON, "one connection to each primary, and one that listens", are_few).await;
}

/// The names of a namespace are in 16 slots, and a call takes 256 leases of a slot.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_renews_many_leases_in_few_calls() {
    let cluster = RedisCluster::start_without_replicas();
    let calls = || (0..cluster.size()).map(|index| scripts_run(cluster.node(index).resp())).sum::<u64>();
    let config = RedisConfig::from_url(&format!("{}?restart_grace=0s&timeout=1m", cluster.url())).unwrap();
    let client = RedisBackend::connect(config).await.unwrap();
    let claims: Vec<_> =
        (1..=8_000).map(|id| claim(&format!("job/{id}"), id, Share::EXCLUSIVE, 600_000, IfBusy::Refuse)).collect();
    client.acquire(&claims).await;
    let extensions: Vec<_> =
        claims.iter().map(|claim| Extension { key: claim.key.clone(), ttl: ttl(700_000) }).collect();
    let before = calls();
    for answer in client.extend(&extensions).await {
        assert!(matches!(answer, Ok(Extended::Held(_))), "{answer:?}");
    }
    let made = calls() - before;
    assert!(made <= 2 * (16 + 8_000 / 256), "{made} calls");
}

#[tokio::test]
async fn rests_of_one_batch_end_one_by_one() {
    let server = Server::start();
    let client = server.client_in("n").await;
    let claims = [1, 2].map(|id| claim("a", id, Share::new(1, 2).unwrap(), 30_000, IfBusy::Refuse));
    client.acquire(&claims).await;
    let rests =
        [(1, 3_000), (2, 3_001)].map(|(id, rest)| Release { rest: Duration::from_millis(rest), ..key("a", id).into() });
    for answer in client.release(&rests).await {
        assert!(matches!(answer, Ok(Released::Released)), "{answer:?}");
    }
    let whole = claim("a", 3, Share::new(2, 2).unwrap(), 30_000, IfBusy::Refuse);
    assert!(matches!(client.acquire(std::slice::from_ref(&whole)).await[0], Ok(Acquired::Busy)));
    let is_free = async || matches!(client.acquire(std::slice::from_ref(&whole)).await[0], Ok(Acquired::Held(_)));
    eventually(SOON, "the end of the rests", is_free).await;
    assert_eq!(server.run(&["KEYS", "*"]), ["rlock:2:{n:0}:a"]);
}

#[tokio::test]
async fn only_the_waiting_client_gets_events() {
    let server = Server::start();
    let (holder, waiter) = (server.client_in("n").await, server.client_in("n").await);
    let (mut holder_events, mut waiter_events) = (holder.events(), waiter.events());
    holder.acquire(&[mutex("a", 1)]).await;
    waiter.acquire(&[mutex("a", 2)]).await;
    holder.release(&[key("a", 1).into()]).await;
    let Some(Event::Granted { id, token }) = waiter_events.next().await else { panic!() };
    assert_eq!(id, key("a", 2).id);
    let state = waiter.extend(&[Extension { key: key("a", 2), ttl: ttl(1_000) }]).await.remove(0).unwrap();
    assert!(matches!(state, Extended::Held(grant) if grant.token == token), "{state:?}");

    holder.break_leases(&key("a", 2).resource).await.unwrap();
    assert_eq!(waiter_events.next().await, Some(Event::Broken { id }));
    assert!(holder_events.next().now_or_never().is_none());
}
