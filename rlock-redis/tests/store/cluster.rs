//! Nodes of a Redis Cluster, which are no store.

use std::time::Duration;

use crate::support::{Server, claim};
use rlock_core::{Acquired, Backend as _, BackendError, IfBusy, Share};
use rlock_redis::{ConnectError, RedisBackend, RedisConfig};
use rlock_testkit::faults::Proxy;
use rlock_testkit::wait::eventually;

const SOON: Duration = Duration::from_secs(20);
const SLOTS: u32 = 16_384;

async fn refusal(url: &str) -> String {
    match RedisBackend::connect(RedisConfig::from_url(url).unwrap()).await {
        Err(error @ ConnectError::Rejected(_)) => error.to_string(),
        other => panic!("{url}: {other:?}"),
    }
}

fn assert_explains(refusal: &str) {
    for words in ["a node of a Redis Cluster", "rlock uses one server"] {
        assert!(refusal.contains(words), "{refusal}");
    }
}

fn give_slots(node: &Server, slots: std::ops::Range<u32>) {
    let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
    let command: Vec<&str> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
    node.run(&command);
}

async fn is_up(node: &Server) {
    let is_ok = async || node.run(&["CLUSTER", "INFO"]).contains(&"cluster_state:ok".to_owned());
    eventually(SOON, "the cluster", is_ok).await;
}

#[tokio::test]
async fn node_without_slots_is_refused() {
    let node = Server::start_cluster_node();
    assert_explains(&refusal(node.url()).await);
}

#[tokio::test]
async fn node_with_all_slots_is_refused() {
    let node = Server::start_cluster_node();
    give_slots(&node, 0..SLOTS);
    is_up(&node).await;
    assert_explains(&refusal(node.url()).await);
}

#[tokio::test]
async fn node_with_half_of_the_slots_is_refused() {
    let nodes = [Server::start_cluster_node(), Server::start_cluster_node()];
    give_slots(&nodes[0], 0..SLOTS / 2);
    give_slots(&nodes[1], SLOTS / 2..SLOTS);
    nodes[0].meet(&nodes[1]);
    for node in &nodes {
        is_up(node).await;
        assert_explains(&refusal(node.url()).await);
    }
}

#[tokio::test]
async fn node_that_refuses_info_is_refused() {
    let node = Server::start_cluster_node();
    let url = node.add_user("locks", &format!("{} -info", RedisConfig::ACL_RULES));
    assert_explains(&refusal(&format!("{url}?restart_grace=0s")).await);
}

#[tokio::test]
async fn reconnect_to_a_cluster_is_refused() {
    let (server, node) = (Server::start(), Server::start_cluster_node());
    give_slots(&node, 0..SLOTS);
    is_up(&node).await;
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
