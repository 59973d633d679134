//! Tests of Redis Clusters, and of servers with sentinels.

use std::time::Duration;

use rlock_testkit::faults::{Control, Data};
use rlock_testkit::servers::{RedisCluster, RedisSentinels, Reply};
use rlock_testkit::wait::eventually;

const SOON: Duration = Duration::from_secs(30);
const NERVOUS: Duration = Duration::from_secs(2);
const PATIENT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn nodes_of_a_cluster_hear_each_other() {
    let cluster = RedisCluster::start(PATIENT);
    let mut listeners: Vec<_> = (0..cluster.size()).map(|index| cluster.node(index).resp()).collect();
    for listener in &mut listeners {
        listener.command(&["SUBSCRIBE", "news"]);
    }
    for index in 0..cluster.size() {
        cluster.node(index).resp().command(&["PUBLISH", "news", &format!("of {index}")]);
        for listener in &mut listeners {
            let Reply::List(message) = listener.read().unwrap() else { panic!("no message") };
            assert_eq!(message[2].to_string(), format!("of {index}"));
        }
    }
}

#[tokio::test]
async fn replica_takes_over_from_a_killed_primary() {
    let cluster = RedisCluster::start(NERVOUS);
    let owner = cluster.owner_of("key").await;
    cluster.node(owner).resp().command(&["SET", "key", "value"]);
    let info = async || cluster.node(owner + 3).resp().command(&["INFO", "keyspace"]).to_string().contains("keys=1");
    eventually(SOON, "the replica to have the key", info).await;
    cluster.node(owner).kill().await;
    let new = owner + 3;
    cluster.is_replaced(owner).await;
    cluster.is_whole().await;
    assert_eq!(cluster.owner_of("key").await, new);
    assert_eq!(cluster.node(new).resp().command(&["GET", "key"]).to_string(), "value");
    cluster.node(owner).restart(Data::Kept).await;
    let follows = async || {
        let info = cluster.node(owner).resp().command(&["INFO", "replication"]).to_string();
        info.contains("role:slave") && info.contains("master_link_status:up")
    };
    eventually(SOON, "the old primary to follow", follows).await;
}

#[tokio::test]
async fn cut_off_primary_is_replaced() {
    let cluster = RedisCluster::start(NERVOUS);
    cluster.cut_off(1);
    cluster.is_replaced(1).await;
    let refuses = async || cluster.node(1).resp().send(&["SET", "key", "value"]).is_err();
    eventually(SOON, "the old primary to refuse writes", refuses).await;
    cluster.heal(1);
    let follows = async || cluster.node(1).resp().command(&["INFO", "replication"]).to_string().contains("role:slave");
    eventually(SOON, "the old primary to follow", follows).await;
}

#[tokio::test]
async fn slot_moves_with_its_keys() {
    let cluster = RedisCluster::start(PATIENT);
    let from = cluster.owner_of("{a}0").await;
    let Reply::Int(slot) = cluster.node(from).resp().command(&["CLUSTER", "KEYSLOT", "{a}0"]) else {
        panic!("no slot")
    };
    for number in 0..10 {
        cluster.node(from).resp().command(&["SET", &format!("{{a}}{number}"), "value"]);
    }
    let to = (from + 1) % 3;
    let mut is_split = false;
    let half_way = async || {
        let counts = [from, to].map(|node| cluster.node(node).resp().command(&["DBSIZE"]));
        is_split = counts.iter().all(|count| matches!(count, Reply::Int(1..)));
    };
    cluster.move_slot(u16::try_from(slot).unwrap(), from, to, half_way).await;
    assert!(is_split);
    assert_eq!(cluster.owner_of("{a}0").await, to);
    assert_eq!(cluster.keys("{a}*").len(), 10);
}

#[tokio::test]
async fn sentinels_replace_a_killed_primary() {
    let servers = RedisSentinels::start(NERVOUS);
    assert_eq!(servers.primary().await, 0);
    servers.is_replicated().await;
    servers.server(0).resp().command(&["SET", "key", "value"]);
    let has_it =
        async || servers.server(1).resp().send(&["GET", "key"]).is_ok_and(|value| value.to_string() == "value");
    eventually(SOON, "the replica to have the key", has_it).await;
    servers.server(0).kill().await;
    assert_eq!(servers.primary().await, 1);
    assert_eq!(servers.keys("*").await, ["key"]);
    servers.server(0).restart(Data::Kept).await;
    servers.is_replicated().await;
    assert_eq!(servers.fail_over().await, 0);
}
