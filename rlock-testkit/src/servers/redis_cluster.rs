//! A Redis Cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::sleep;

use super::host::Host;
use super::peers::Peers;
use super::redis_node::{RedisNode, Role, durable_arguments, front, port_of, random_id};
use super::resp::{Reply, Resp};
use crate::faults::{Control, Data, Proxy};

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;
const NO_FAILOVER: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// A Redis Cluster of three primaries with one replica each, which keep all writes, on Linux only. In containers, they
/// share the network and the process ids of this machine.
///
/// Clients reach each node through a proxy, and so do the other nodes. One node can be [cut off](Self::cut_off), and
/// each can be [paused, killed and restarted](Self::node). The [`Control`] of the cluster itself acts on all of them.
#[derive(Debug)]
pub struct RedisCluster {
    /// Primaries first, and the replicas in the same order.
    nodes: Vec<RedisNode>,
    peers: Arc<Peers>,
    /// The number of calls of [`next_primary`](Self::next_primary).
    asked: AtomicUsize,
}

impl RedisCluster {
    /// Starts a cluster that serves all slots and passes messages between all nodes. A primary that does not answer for
    /// `node_timeout` is replaced by its replica.
    ///
    /// # Panics
    ///
    /// Panics if no server is available. The message says what to install.
    pub fn start(node_timeout: Duration) -> Self {
        Self::start_nodes(2 * PRIMARIES, node_timeout, None)
    }

    /// Starts only the three primaries, for tests in which none fails.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_without_replicas() -> Self {
        Self::start_nodes(PRIMARIES, NO_FAILOVER, None)
    }

    /// Starts only the three primaries, as programs on `host`.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_on(host: &Host) -> Self {
        Self::start_nodes(PRIMARIES, NO_FAILOVER, Some(host))
    }

    fn start_nodes(count: usize, node_timeout: Duration, host: Option<&Host>) -> Self {
        if !cfg!(target_os = "linux") {
            panic!("a Redis Cluster needs Linux, whose /proc shows which process connects");
        }
        let peers = Arc::new(Peers::new(count));
        let fronts: Vec<_> = (0..count).map(|_| front()).collect();
        let ids: Vec<String> = fronts.iter().map(|_| random_id()).collect();
        let role = |index: usize| Role {
            front: fronts[index].clone(),
            arguments: arguments(&fronts[index], peers.front(index), node_timeout),
            file: ("nodes.conf", nodes_conf(index, &fronts, &peers, &ids)),
            bus: Some((index, peers.clone())),
            host: host.cloned(),
            is_ready,
        };
        let nodes = RedisNode::start_all((0..count).map(role).collect());
        wait_until_linked(&nodes);
        Self { nodes, peers, asked: AtomicUsize::new(0) }
    }

    /// The URL of the initial primaries, through their proxies:
    /// `redis-cluster://127.0.0.1:41234,127.0.0.1:41235,127.0.0.1:41236`.
    pub fn url(&self) -> String {
        let hosts: Vec<_> =
            self.nodes[..PRIMARIES].iter().map(|node| node.url().trim_start_matches("redis://")).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }

    /// The number of nodes.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// One node: 0 to 2 are the initial primaries, 3 to 5 their replicas in the same order.
    ///
    /// # Panics
    ///
    /// Panics if `index` is too large.
    pub fn node(&self, index: usize) -> &RedisNode {
        &self.nodes[index]
    }

    /// The node that serves a key. Waits until a node that is not cut off reports that it does.
    ///
    /// # Panics
    ///
    /// Panics if there is none within the time limit.
    pub async fn owner_of(&self, key: &str) -> usize {
        self.find("owner of the key", |node| matches!(node.try_command(&["EXISTS", key]), Some(Reply::Int(_)))).await
    }

    /// Waits until the other node of the pair of `index` is the primary: its replica, or the primary that it follows.
    ///
    /// # Panics
    ///
    /// As [`owner_of`](Self::owner_of).
    pub async fn is_replaced(&self, index: usize) {
        let other = (index + PRIMARIES) % self.size();
        let others: Vec<usize> = (0..self.size()).filter(|&index| index != other).collect();
        self.primary_other_than(&others).await;
    }

    /// The index of a primary that is not in `left_out`.
    ///
    /// # Panics
    ///
    /// As [`owner_of`](Self::owner_of).
    pub async fn primary_other_than(&self, left_out: &[usize]) -> usize {
        let is_primary = |node: &RedisNode| node.says(&["INFO", "replication"], "role:master");
        self.find_among("a promoted replica", |index| !left_out.contains(&index), is_primary).await
    }

    /// The primary of each pair in turn: of the first pair, then of the second, and so on.
    pub(super) async fn next_primary(&self) -> usize {
        let pair = self.asked.fetch_add(1, Ordering::Relaxed) % PRIMARIES;
        let others: Vec<usize> = (0..self.size()).filter(|index| index % PRIMARIES != pair).collect();
        self.primary_other_than(&others).await
    }

    async fn find(&self, what: &str, is_it: impl Fn(&RedisNode) -> bool) -> usize {
        self.find_among(what, |_| true, is_it).await
    }

    async fn find_among(
        &self,
        what: &str,
        may_be: impl Fn(usize) -> bool,
        is_it: impl Fn(&RedisNode) -> bool,
    ) -> usize {
        let begun = Instant::now();
        loop {
            let mut among = (0..self.size()).filter(|&index| may_be(index) && !self.peers.is_cut_off(index));
            if let Some(found) = among.find(|&index| is_it(&self.nodes[index])) {
                return found;
            }
            assert!(begun.elapsed() < SOON, "no {what} within {SOON:?}");
            sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Waits until a node that is not cut off reports that all slots are served.
    ///
    /// # Panics
    ///
    /// As [`owner_of`](Self::owner_of).
    pub async fn is_whole(&self) {
        let is_ok = |node: &RedisNode| node.says(&["CLUSTER", "INFO"], "cluster_state:ok");
        self.find("node of a whole cluster", is_ok).await;
    }

    /// Waits until a node follows a primary.
    ///
    /// # Panics
    ///
    /// As [`owner_of`](Self::owner_of).
    pub async fn follows(&self, index: usize) {
        let follows = |node: &RedisNode| matches!(node.try_command(&["INFO", "replication"]), Some(Reply::Text(info)) if info.contains("master_link_status:up"));
        self.find_among("replica that follows", |other| other == index, follows).await;
    }

    /// Cuts a node off: no bytes pass between it and clients or the other nodes, and no end is notified.
    ///
    /// # Panics
    ///
    /// As [`node`](Self::node).
    pub fn cut_off(&self, index: usize) {
        self.peers.cut_off(index);
        self.node(index).cut_off();
    }

    /// Ends a [`cut_off`](Self::cut_off), and delivers the bytes that were held back.
    ///
    /// # Panics
    ///
    /// As [`node`](Self::node).
    pub fn heal(&self, index: usize) {
        self.peers.heal(index);
        self.node(index).heal();
    }

    /// Moves a slot with its keys to another primary, as `redis-cli --cluster reshard` does. `half_way` runs when the first
    /// half of the keys has moved.
    ///
    /// # Panics
    ///
    /// Panics if a node refuses its part.
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize, half_way: impl AsyncFnOnce()) {
        let (mut source, mut target) = (self.node(from).resp(), self.node(to).resp());
        let (source_id, target_id) = (id_of(&mut source), id_of(&mut target));
        let slot = slot.to_string();
        run(&mut target, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]);
        run(&mut source, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]);
        let port = self.node(to).port().to_string();
        let Reply::Int(keys) = source.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot]) else { panic!("no count") };
        let (mut moved, mut half_way) = (0, Some(half_way));
        loop {
            if 2 * moved >= keys
                && let Some(half_way) = half_way.take()
            {
                half_way().await;
            }
            let Reply::List(found) = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]) else {
                panic!("no keys")
            };
            let Some(key) = found.first().map(Reply::to_string) else { break };
            let reply = source.command(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
            assert!(matches!(reply.to_string().as_str(), "OK" | "NOKEY"), "{reply:?}");
            moved += 1;
        }
        for node in [&mut target, &mut source] {
            run(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]);
        }
    }

    /// The keys that match `pattern` on all primaries, sorted.
    ///
    /// # Panics
    ///
    /// Panics if a node cannot be reached.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let of = |node: &RedisNode| {
            let mut resp = node.resp();
            let is_primary = resp.command(&["INFO", "replication"]).to_string().contains("role:master");
            let Reply::List(keys) = resp.command(&["KEYS", pattern]) else { panic!("KEYS answered no list") };
            keys.iter().filter(|_| is_primary).map(Reply::to_string).collect::<Vec<_>>()
        };
        let mut keys: Vec<_> = self.nodes.iter().flat_map(of).collect();
        keys.sort();
        keys
    }
}

/// Waits until each node passes on the messages of every other. A message gets lost on a link that is not open yet.
fn wait_until_linked(nodes: &[RedisNode]) {
    const CHANNEL: &str = "rlock-test:links";
    let begun = Instant::now();
    let mut publishers: Vec<Resp> = nodes.iter().map(RedisNode::resp).collect();
    let mut listeners: Vec<Resp> = nodes.iter().map(RedisNode::resp).collect();
    for listener in &mut listeners {
        listener.command(&["SUBSCRIBE", CHANNEL]);
    }
    let mut heard: Vec<BTreeSet<String>> = vec![BTreeSet::new(); nodes.len()];
    loop {
        for (index, publisher) in publishers.iter_mut().enumerate() {
            publisher.command(&["PUBLISH", CHANNEL, &index.to_string()]);
        }
        for (listener, heard) in listeners.iter_mut().zip(&mut heard) {
            heard.extend(messages(listener));
        }
        if heard.iter().all(|heard| heard.len() == nodes.len()) {
            return;
        }
        assert!(begun.elapsed() < SOON, "the nodes hear only {heard:?} within {SOON:?}");
        thread::sleep(BETWEEN_LOOKS);
    }
}

/// The messages that a subscriber has received since the last call.
fn messages(subscriber: &mut Resp) -> Vec<String> {
    let mut messages = Vec::new();
    let mut reply = subscriber.command(&["PING"]);
    loop {
        match reply {
            Reply::List(words) if words.len() == 3 => messages.push(words[2].to_string()),
            _pong => return messages,
        }
        reply = subscriber.read().expect("the node answers a ping");
    }
}

fn run(node: &mut Resp, command: &[&str]) {
    let reply = node.command(command);
    assert_eq!(reply.to_string(), "OK", "{command:?}");
}

fn id_of(node: &mut Resp) -> String {
    node.command(&["CLUSTER", "MYID"]).to_string()
}

fn arguments(front: &Proxy, bus: u16, node_timeout: Duration) -> Vec<String> {
    let (port, bus, timeout) = (port_of(front).to_string(), bus.to_string(), node_timeout.as_millis().to_string());
    let of_cluster = [
        ["--cluster-enabled", "yes"],
        ["--cluster-node-timeout", &timeout],
        ["--cluster-announce-ip", "127.0.0.1"],
        ["--cluster-announce-port", &port],
        ["--cluster-announce-bus-port", &bus],
        ["--cluster-replica-validity-factor", "0"],
    ];
    let mut arguments = durable_arguments(front);
    arguments.extend(of_cluster.iter().flatten().map(ToString::to_string));
    arguments
}

/// The initial configuration of a node, which contains all others, so that no node has to join.
fn nodes_conf(own: usize, fronts: &[Arc<Proxy>], peers: &Peers, ids: &[String]) -> String {
    let line = |index: usize| {
        let (id, port, bus) = (&ids[index], port_of(&fronts[index]), peers.front(index));
        let myself = if index == own { "myself," } else { "" };
        let primary = index % PRIMARIES;
        let (role, of) = if index < PRIMARIES { ("master", "-") } else { ("slave", ids[primary].as_str()) };
        let first = SLOTS * primary / PRIMARIES;
        let last = SLOTS * (primary + 1) / PRIMARIES - 1;
        let slots = if index < PRIMARIES { format!(" {first}-{last}") } else { String::new() };
        format!("{id} 127.0.0.1:{port}@{bus} {myself}{role} {of} 0 0 {} connected{slots}\n", primary + 1)
    };
    let lines: String = (0..fronts.len()).map(line).collect();
    format!("{lines}vars currentEpoch {PRIMARIES} lastVoteEpoch 0\n")
}

fn is_ready(resp: &mut Resp) -> std::io::Result<bool> {
    let cluster = resp.send(&["CLUSTER", "INFO"])?.to_string();
    let replication = resp.send(&["INFO", "replication"])?.to_string();
    let follows = replication.contains("role:master") || replication.contains("master_link_status:up");
    Ok(cluster.contains("cluster_state:ok") && follows)
}

#[async_trait]
impl Control for RedisCluster {
    async fn pause(&self) {
        join_all(self.nodes.iter().map(RedisNode::pause)).await;
    }

    async fn resume(&self) {
        join_all(self.nodes.iter().map(RedisNode::resume)).await;
    }

    async fn kill(&self) {
        join_all(self.nodes.iter().map(RedisNode::kill)).await;
    }

    async fn restart(&self, data: Data) {
        self.kill().await; // otherwise nodes with data would send it to those without
        join_all(self.nodes.iter().map(|node| node.restart(data))).await;
    }
}
