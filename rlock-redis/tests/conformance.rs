//! rlock-redis passes the suite.

use std::sync::Arc;
use std::time::Duration;

use rlock_core::{Backend, Namespace};
use rlock_redis::{RedisBackend, RedisConfig};
use rlock_testkit::faults::Control;
use rlock_testkit::servers::{Redis, RedisCluster, RedisNode, RedisSentinels, Reply, Resp};
use rlock_testkit::{Controlled, Harness, Shared, async_trait};

rlock_testkit::conformance!(redis: RedisHarness);
rlock_testkit::conformance!(redis_as_a_user: UserHarness, without(processes, network, control));
// A restart of all servers at once takes as long as some TTLs. tests/store has the faults of single servers.
rlock_testkit::conformance!(cluster: ClusterHarness, without(network, control));
rlock_testkit::conformance!(sentinel: SentinelHarness, without(network, control));

struct RedisHarness {
    url: String,
    server: Option<Redis>,
}

impl RedisHarness {
    fn of(server: Redis, options: &str) -> Self {
        Self { url: format!("{}{options}", server.url()), server: Some(server) }
    }

    fn store(&self) -> &Redis {
        self.server.as_ref().expect("only the test that started the server looks at it")
    }
}

#[async_trait]
impl Harness for RedisHarness {
    async fn start() -> Self {
        Self::of(Redis::start(), "?restart_grace=0s") // it is never restarted
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        connect(&self.url, namespace).await
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        let mut resp = self.store().resp();
        let mut keys = self.store().keys(&format!("rlock:2:{{{namespace}:*"));
        keys.retain(|key| !keeps_only_tokens(&mut resp, key));
        keys
    }
}

/// A server that is reached as a user who has the documented rights and no others.
struct UserHarness(RedisHarness);

#[async_trait]
impl Harness for UserHarness {
    async fn start() -> Self {
        let server = Redis::start_with(&[]);
        let command = ["ACL", "SETUSER", "locks", "on", ">secret"].into_iter().chain(RedisConfig::ACL_RULES.split(' '));
        server.resp().command(&command.collect::<Vec<_>>());
        let url = server.url().replacen("redis://", "redis://locks:secret@", 1) + "?restart_grace=1ms"; // which reads INFO
        Self(RedisHarness { url, server: Some(server) })
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        self.0.connect(namespace).await
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        self.0.leftovers(namespace).await
    }
}

struct ClusterHarness {
    url: String,
    cluster: Option<RedisCluster>,
}

/// Long enough for a busy machine: no case is about a failover.
const NO_FAILOVER: Duration = Duration::from_secs(30);

impl ClusterHarness {
    fn of(cluster: RedisCluster, options: &str) -> Self {
        Self { url: format!("{}{options}", cluster.url()), cluster: Some(cluster) }
    }
}

#[async_trait]
impl Harness for ClusterHarness {
    async fn start() -> Self {
        Self::of(RedisCluster::start_without_replicas(), "?restart_grace=0s")
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        connect(&self.url, namespace).await
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        let cluster = self.cluster.as_ref().expect("only the test that started the cluster looks at it");
        (0..cluster.size()).flat_map(|index| leftovers(cluster.node(index), namespace)).collect()
    }
}

#[async_trait]
impl Shared for ClusterHarness {
    fn address(&self) -> String {
        self.url.clone()
    }

    async fn attach(address: &str) -> Self {
        Self { url: address.to_owned(), cluster: None }
    }
}

struct SentinelHarness {
    url: String,
    servers: Option<RedisSentinels>,
}

impl SentinelHarness {
    fn of(servers: RedisSentinels, options: &str) -> Self {
        Self { url: format!("{}{options}", servers.url()), servers: Some(servers) }
    }
}

#[async_trait]
impl Harness for SentinelHarness {
    async fn start() -> Self {
        Self::of(RedisSentinels::start(NO_FAILOVER), "?restart_grace=0s")
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        connect(&self.url, namespace).await
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        let servers = self.servers.as_ref().expect("only the test that started the servers looks at them");
        leftovers(servers.server(servers.primary().await), namespace)
    }
}

#[async_trait]
impl Shared for SentinelHarness {
    fn address(&self) -> String {
        self.url.clone()
    }

    async fn attach(address: &str) -> Self {
        Self { url: address.to_owned(), servers: None }
    }
}

async fn connect(url: &str, namespace: &Namespace) -> Arc<dyn Backend> {
    let config = RedisConfig::from_url(url).expect("a URL of Redis").namespace(namespace.clone());
    Arc::new(RedisBackend::connect(config).await.expect("Redis can be reached"))
}

/// The keys on a primary beyond those that keep tokens increasing.
fn leftovers(node: &RedisNode, namespace: &Namespace) -> Vec<String> {
    let mut resp = node.resp();
    if !resp.command(&["INFO", "replication"]).to_string().contains("role:master") {
        return Vec::new();
    }
    let Reply::List(keys) = resp.command(&["KEYS", &format!("rlock:2:{{{namespace}:*")]) else { panic!("no keys") };
    let mut keys: Vec<String> = keys.iter().map(Reply::to_string).collect();
    keys.retain(|key| !key.ends_with("!known") && !keeps_only_tokens(&mut resp, key));
    keys
}

fn keeps_only_tokens(resp: &mut Resp, key: &str) -> bool {
    let expires = matches!(resp.command(&["PTTL", key]), Reply::Int(1..));
    expires && resp.send(&["STRLEN", key]).is_ok_and(|length| length == Reply::Int(16))
}

#[async_trait]
impl Shared for RedisHarness {
    fn address(&self) -> String {
        self.url.clone()
    }

    async fn attach(address: &str) -> Self {
        Self { url: address.to_owned(), server: None }
    }
}

#[async_trait]
impl Controlled for RedisHarness {
    async fn start_durable() -> Self {
        Self::of(Redis::start_durable(), "")
    }

    fn server(&self) -> &dyn Control {
        self.server.as_ref().expect("only the test that started the server tampers with it")
    }
}
