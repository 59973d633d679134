//! Runs the conformance suite on rlock-redis.

use std::sync::Arc;
use std::time::Duration;

use rlock_core::{Backend, Namespace};
use rlock_redis::{RedisBackend, RedisConfig};
use rlock_testkit::faults::{Control, Proxy};
use rlock_testkit::servers::{Redis, RedisCluster, RedisNode, RedisSentinels, Reply, Resp};
use rlock_testkit::{Controlled, Harness, Shared, async_trait};

rlock_testkit::conformance!(redis: RedisHarness);
rlock_testkit::conformance!(redis_as_a_user: UserHarness, without(processes, network, control));
rlock_testkit::conformance!(cluster: ClusterHarness);
rlock_testkit::conformance!(sentinel: SentinelHarness);

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
        Self::of(Redis::start(), "?restart_grace=0s") // the server is never restarted
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

/// A server, used as a user with exactly the documented rights.
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
        Self::of(RedisCluster::start(NO_FAILOVER), "?restart_grace=0s")
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

    fn proxied(address: &str) -> (String, Proxy) {
        Proxy::in_front_of_announced(address, &[])
    }

    async fn attach(address: &str) -> Self {
        Self { url: address.to_owned(), cluster: None }
    }
}

/// Each fault of the cluster affects all its servers. tests/store has the faults of single ones.
#[async_trait]
impl Controlled for ClusterHarness {
    async fn start_durable() -> Self {
        Self::of(RedisCluster::start(NO_FAILOVER), "?timeout=5s")
    }

    fn server(&self) -> &dyn Control {
        self.cluster.as_ref().expect("only the test that started the cluster tampers with it")
    }
}

struct SentinelHarness {
    url: String,
    /// The hosts and ports that the sentinels announce.
    announced: Vec<String>,
    servers: Option<RedisSentinels>,
}

impl SentinelHarness {
    fn of(servers: RedisSentinels, options: &str) -> Self {
        let host = |index| servers.server(index).url().trim_start_matches("redis://").to_owned();
        let announced = (0..2).map(host).collect();
        Self { url: format!("{}{options}", servers.url()), announced, servers: Some(servers) }
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

/// The address is the URL, followed by the servers besides the sentinels that need a proxy.
#[async_trait]
impl Shared for SentinelHarness {
    fn address(&self) -> String {
        format!("{} {}", self.url, self.announced.join(" "))
    }

    fn proxied(address: &str) -> (String, Proxy) {
        let (url, announced) = address.split_once(' ').expect("there are servers beside the sentinels");
        Proxy::in_front_of_announced(url, &announced.split(' ').collect::<Vec<_>>())
    }

    async fn attach(address: &str) -> Self {
        let (url, announced) = address.split_once(' ').unwrap_or((address, ""));
        let announced = announced.split_whitespace().map(str::to_owned).collect();
        Self { url: url.to_owned(), announced, servers: None }
    }
}

/// Each fault of the servers also affects the sentinels. tests/store has the faults of single ones.
#[async_trait]
impl Controlled for SentinelHarness {
    async fn start_durable() -> Self {
        Self::of(RedisSentinels::start(NO_FAILOVER), "?timeout=5s")
    }

    fn server(&self) -> &dyn Control {
        self.servers.as_ref().expect("only the test that started the servers tampers with them")
    }
}

async fn connect(url: &str, namespace: &Namespace) -> Arc<dyn Backend> {
    let config = RedisConfig::from_url(url).expect("a URL of Redis").namespace(namespace.clone());
    Arc::new(RedisBackend::connect(config).await.expect("Redis can be reached"))
}

/// The keys on a primary, except those that keep tokens increasing.
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
