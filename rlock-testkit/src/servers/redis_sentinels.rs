//! A Redis server with a replica, and sentinels that watch over them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::sleep;

use super::host::Host;
use super::redis_node::{RedisNode, Role, durable_arguments, front, port_of, random_id};
use super::resp::{Reply, Resp};
use crate::faults::{Control, Data, Proxy};

const SENTINELS: usize = 3;
const SOON: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
const ASKED_EVERY: Duration = Duration::from_secs(1);
const GIVEN_UP_AFTER: Duration = Duration::from_secs(15);
const SERVICE: &str = "locks";

/// A primary with a replica, which keep all writes, and three sentinels. In containers, they share the network and the
/// process ids of this machine.
///
/// Clients and the other servers reach each of them through a proxy. [`Control`] acts on all of them.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: Vec<RedisNode>,
    sentinels: Vec<RedisNode>,
}

impl RedisSentinels {
    /// Starts all of them, and returns when each sentinel knows the others. A primary that does not answer for
    /// `down_after` is replaced by the replica.
    ///
    /// # Panics
    ///
    /// Panics if no server is available. The message says what to install.
    pub fn start(down_after: Duration) -> Self {
        Self::start_servers(down_after, [None, None])
    }

    /// Starts all of them as [`start`](Self::start), the two servers as programs on `hosts`.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_on(hosts: [&Host; 2], down_after: Duration) -> Self {
        Self::start_servers(down_after, hosts.map(Some))
    }

    fn start_servers(down_after: Duration, hosts: [Option<&Host>; 2]) -> Self {
        let servers: Vec<_> = (0..2).map(|_| front()).collect();
        let sentinels: Vec<_> = (0..SENTINELS).map(|_| front()).collect();
        let ids: Vec<String> = sentinels.iter().map(|_| random_id()).collect();
        let server = |index: usize| Role {
            front: servers[index].clone(),
            arguments: server_arguments(&servers, index),
            file: ("server.conf", String::new()),
            bus: None,
            host: hosts[index].cloned(),
            is_ready: follows_or_leads,
        };
        let sentinel = |index: usize| Role {
            front: sentinels[index].clone(),
            arguments: ["sentinel.conf", "--sentinel"].map(String::from).into(),
            file: ("sentinel.conf", sentinel_conf(index, &servers, &sentinels, &ids, down_after)),
            bus: None,
            host: None,
            is_ready: is_quick_and_knows_the_others,
        };
        let roles = (0..2).map(server).chain((0..SENTINELS).map(sentinel)).collect();
        let mut nodes = RedisNode::start_all(roles);
        let sentinels = nodes.split_off(2);
        Self { servers: nodes, sentinels }
    }

    /// The URL of the sentinels, through their proxies:
    /// `redis-sentinel://127.0.0.1:41234,127.0.0.1:41235,127.0.0.1:41236/locks`.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|node| node.url().trim_start_matches("redis://")).collect();
        format!("redis-sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// One of the two servers; 0 is the initial primary.
    ///
    /// # Panics
    ///
    /// Panics if `index` is too large.
    pub fn server(&self, index: usize) -> &RedisNode {
        &self.servers[index]
    }

    /// One of the three sentinels.
    ///
    /// # Panics
    ///
    /// Panics if `index` is too large.
    pub fn sentinel(&self, index: usize) -> &RedisNode {
        &self.sentinels[index]
    }

    /// The server that most sentinels name as the primary. Waits until the server agrees.
    ///
    /// # Panics
    ///
    /// Panics if there is none within the time limit.
    pub async fn primary(&self) -> usize {
        self.find("primary", |_| true).await
    }

    /// Makes the sentinels replace the primary, and returns the new one.
    ///
    /// # Panics
    ///
    /// As [`primary`](Self::primary).
    pub async fn fail_over(&self) -> usize {
        let before = self.primary().await;
        let begun = Instant::now();
        loop {
            // A sentinel refuses for a while after the last failover, and while it does not reach the replica. It also
            // gives up a failover that takes too long. A second failover would undo the first.
            let is_begun = self.sentinels[0].says(&["SENTINEL", "FAILOVER", SERVICE], "OK");
            let wait = if is_begun { GIVEN_UP_AFTER } else { ASKED_EVERY };
            let asked = Instant::now();
            while asked.elapsed() < wait {
                if let Some(new) = self.named(|index| index != before) {
                    return new;
                }
                sleep(BETWEEN_LOOKS).await;
            }
            assert!(begun.elapsed() < SOON, "no failover within {SOON:?}");
        }
    }

    /// Waits until the sentinels have replaced a primary.
    ///
    /// # Panics
    ///
    /// As [`primary`](Self::primary).
    pub async fn is_replaced(&self, before: usize) {
        self.find("new primary", |index| index != before).await;
    }

    async fn find(&self, what: &str, may_be: impl Fn(usize) -> bool) -> usize {
        let begun = Instant::now();
        loop {
            if let Some(primary) = self.named(&may_be) {
                return primary;
            }
            assert!(begun.elapsed() < SOON, "no {what} within {SOON:?}");
            sleep(BETWEEN_LOOKS).await;
        }
    }

    /// The server that most sentinels name as the primary, if it agrees.
    fn named(&self, may_be: impl Fn(usize) -> bool) -> Option<usize> {
        let votes = |index: usize| {
            let names_it = |sentinel: &&RedisNode| named_by(sentinel) == Some(self.servers[index].port());
            self.sentinels.iter().filter(names_it).count()
        };
        let is_it =
            |index: &usize| may_be(*index) && 2 * votes(*index) > SENTINELS && is_primary(&self.servers[*index]);
        (0..self.servers.len()).find(is_it)
    }

    /// Waits until the server that is not the primary follows it.
    ///
    /// # Panics
    ///
    /// Panics if it does not within the time limit.
    pub async fn is_replicated(&self) {
        let begun = Instant::now();
        loop {
            let primary = &self.servers[self.primary().await];
            if primary.says(&["INFO", "replication"], "state=online") {
                return;
            }
            assert!(begun.elapsed() < SOON, "no replica within {SOON:?}");
            sleep(BETWEEN_LOOKS).await;
        }
    }

    /// The keys of the primary that match `pattern`, sorted.
    ///
    /// # Panics
    ///
    /// As [`primary`](Self::primary).
    pub async fn keys(&self, pattern: &str) -> Vec<String> {
        let mut resp = self.servers[self.primary().await].resp();
        let Reply::List(keys) = resp.command(&["KEYS", pattern]) else { panic!("KEYS answered no list") };
        let mut keys: Vec<_> = keys.iter().map(Reply::to_string).collect();
        keys.sort();
        keys
    }
}

/// The port of the primary that a sentinel names.
fn named_by(sentinel: &RedisNode) -> Option<u16> {
    match sentinel.try_command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE])? {
        Reply::List(address) => address.get(1)?.to_string().parse().ok(),
        _ => None,
    }
}

fn is_primary(node: &RedisNode) -> bool {
    node.says(&["INFO", "replication"], "role:master")
}

fn server_arguments(fronts: &[Arc<Proxy>], own: usize) -> Vec<String> {
    let mut arguments: Vec<String> = vec!["server.conf".into()]; // the sentinels make the servers rewrite it
    arguments.extend(durable_arguments(&fronts[own]));
    if own > 0 {
        arguments.extend(["--replicaof", "127.0.0.1", &port_of(&fronts[0]).to_string()].map(String::from));
    }
    arguments
}

/// The initial configuration of a sentinel, so that it does not have to discover the others.
fn sentinel_conf(
    own: usize,
    servers: &[Arc<Proxy>],
    sentinels: &[Arc<Proxy>],
    ids: &[String],
    down_after: Duration,
) -> String {
    let (primary, replica) = (port_of(&servers[0]), port_of(&servers[1]));
    let mut lines = vec![
        format!("sentinel myid {}", ids[own]),
        format!("sentinel announce-ip 127.0.0.1"),
        format!("sentinel announce-port {}", port_of(&sentinels[own])),
        format!("sentinel monitor {SERVICE} 127.0.0.1 {primary} 2"),
        format!("sentinel down-after-milliseconds {SERVICE} {}", down_after.as_millis()),
        format!("sentinel failover-timeout {SERVICE} {}", down_after.as_millis()),
        format!("sentinel known-replica {SERVICE} 127.0.0.1 {replica}"),
    ];
    for other in (0..sentinels.len()).filter(|&other| other != own) {
        let port = port_of(&sentinels[other]);
        lines.push(format!("sentinel known-sentinel {SERVICE} 127.0.0.1 {port} {}", ids[other]));
    }
    lines.join("\n") + "\n"
}

fn follows_or_leads(resp: &mut Resp) -> std::io::Result<bool> {
    let info = resp.send(&["INFO", "replication"])?.to_string();
    Ok(info.contains("role:master") || info.contains("master_link_status:up"))
}

fn is_quick_and_knows_the_others(resp: &mut Resp) -> std::io::Result<bool> {
    // By default, a sentinel polls a replica every ten seconds, and tolerates a deposed primary for four publications
    // of two seconds. Versions before 7.0 do not let that be changed.
    let _refused = resp.send(&["SENTINEL", "DEBUG", "INFO-PERIOD", "500", "PUBLISH-PERIOD", "250"]);
    let Reply::List(fields) = resp.send(&["SENTINEL", "MASTER", SERVICE])? else { return Ok(false) };
    let is = |name: &str, wanted: &str| {
        fields.chunks(2).any(|pair| pair[0].to_string() == name && pair.get(1).is_some_and(|v| v.to_string() == wanted))
    };
    Ok(is("flags", "master") && is("num-slaves", "1") && is("num-other-sentinels", "2"))
}

impl RedisSentinels {
    fn all(&self) -> impl Iterator<Item = &RedisNode> {
        self.servers.iter().chain(&self.sentinels)
    }
}

#[async_trait]
impl Control for RedisSentinels {
    async fn pause(&self) {
        join_all(self.all().map(RedisNode::pause)).await;
    }

    async fn resume(&self) {
        join_all(self.all().map(RedisNode::resume)).await;
    }

    async fn kill(&self) {
        join_all(self.all().map(RedisNode::kill)).await;
    }

    async fn restart(&self, data: Data) {
        self.kill().await;
        join_all(self.all().map(|node| node.restart(data))).await;
    }
}
