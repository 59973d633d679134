//! A Redis server for one test, and requests to it that bypass the library.

mod contest;
pub(crate) mod deployment;
mod overlap;

use std::convert::Infallible;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rlock_core::{Claim, Client, Guard, IfBusy, LockOptions, Namespace, Owner, Share, SimpleLock, Ttl};
use rlock_redis::{ConnectError, RedisBackend, RedisConfig};
use rlock_testkit::faults::Control as _;
use rlock_testkit::servers::{Redis, Reply, Resp};
use rlock_testkit::wait::{eventually, within};
use tokio::time::sleep;
use url::Url;

pub(crate) use rlock_testkit::peer::key;
pub(crate) use rlock_testkit::process::block_on;
pub(crate) use rlock_testkit::servers::free_port;

pub(crate) use self::contest::{contend_while_primaries_fail, only_lost_writes};
pub(crate) use self::overlap::Overlap;

/// Makes a server a replica of another, whose data replaces its own, and then a primary again. Its connections stay open.
pub(crate) async fn demote_and_promote(server: &Redis, other: &Redis) {
    let tell = |command: &[&str]| server.resp().command(command).to_string();
    let (host, port) = other.address_for_servers();
    tell(&["REPLICAOF", &host, &port.to_string()]);
    let follows = async || tell(&["INFO", "replication"]).contains("master_link_status:up");
    eventually(SOON, "the replication", follows).await;
    tell(&["REPLICAOF", "NO", "ONE"]);
}

/// A server for one test, which may configure and kill it.
pub(crate) struct Server(Redis);

impl Server {
    pub(crate) fn start() -> Self {
        Self(Redis::start_with(&[]))
    }

    pub(crate) fn start_with_password(password: &str) -> Self {
        Self(Redis::start_with(&["--requirepass", password]))
    }

    /// A server that lacks a command.
    pub(crate) fn start_without(command: &str) -> Self {
        Self(Redis::start_with(&["--rename-command", command, ""]))
    }

    /// A server that cannot make files in its folder.
    pub(crate) fn start_without_disk() -> Self {
        Self(Redis::start_with(&["--dir", "/proc"]))
    }

    /// The only node of a Redis Cluster, without slots.
    pub(crate) fn start_cluster_node() -> Self {
        Self::start_cluster_node_with(&[])
    }

    /// The same, with more arguments.
    pub(crate) fn start_cluster_node_with(arguments: &[&str]) -> Self {
        let bus = free_port().to_string();
        Self(Redis::start_with(&[&["--cluster-enabled", "yes", "--cluster-port", &bus][..], arguments].concat()))
    }

    /// The URL of the cluster of which this is a node. In a container it listens on the default port.
    pub(crate) fn cluster_url(&self) -> String {
        let port = self.port();
        format!("redis-cluster://127.0.0.1:{port}?address_map=127.0.0.1:6379=127.0.0.1:{port}")
    }

    /// A connection for direct requests to the server.
    pub(crate) fn resp(&self) -> Resp {
        self.0.resp()
    }

    /// Creates the user `name`, whose password is `secret`, and returns the URL with that user.
    pub(crate) fn add_user(&self, name: &str, rules: &str) -> String {
        let command = ["ACL", "SETUSER", name, "on", ">secret"].into_iter().chain(rules.split(' '));
        self.run(&command.collect::<Vec<_>>());
        format!("redis://{name}:secret@127.0.0.1:{}", self.port())
    }

    /// The URL, with the password if the server has one.
    pub(crate) fn url(&self) -> &str {
        self.0.url()
    }

    pub(crate) fn port(&self) -> u16 {
        Url::parse(self.url()).unwrap().port().unwrap()
    }

    /// A client in a separate namespace.
    pub(crate) async fn client(&self) -> RedisBackend {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        self.client_in(&format!("test {}", NEXT.fetch_add(1, Ordering::Relaxed))).await
    }

    pub(crate) async fn client_in(&self, namespace: &str) -> RedisBackend {
        let config = RedisConfig::from_url(self.url()).unwrap().namespace(Namespace::new(namespace).unwrap());
        let config = config.restart_grace(Duration::ZERO).unwrap(); // the server is new
        RedisBackend::connect(config).await.unwrap()
    }

    /// A client whose scripts have no flags, because it cannot read the server's version.
    pub(crate) async fn client_without_flags(&self) -> RedisBackend {
        let url = self.add_user("locks", &format!("{} -info", RedisConfig::ACL_RULES));
        RedisBackend::connect(RedisConfig::from_url(&format!("{url}?restart_grace=0s")).unwrap()).await.unwrap()
    }

    /// Runs a command on a separate connection, and returns the reply line by line.
    pub(crate) fn run(&self, command: &[&str]) -> Vec<String> {
        match self.0.resp().command(command) {
            Reply::List(replies) => replies.iter().map(Reply::to_string).collect(),
            reply => reply.to_string().lines().map(str::to_owned).collect(),
        }
    }

    pub(crate) async fn kill(&self) {
        self.0.kill().await;
    }
}

/// Gives the only node of a cluster all slots, and waits until it serves them.
pub(crate) async fn serve_all_slots(mut node: Resp) {
    let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
    let command: Vec<&str> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
    node.command(&command);
    let is_up = async || node.command(&["CLUSTER", "INFO"]).to_string().contains("cluster_state:ok");
    eventually(SOON, "the cluster", is_up).await;
}

/// A server process with settings that the test kit does not have. Dropping it ends it.
pub(crate) struct Program(Child);

impl Program {
    pub(crate) fn start(settings: &[&[&str]]) -> Self {
        let mut command = Command::new("redis-server");
        command.args(settings.concat()).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().expect("redis-server runs (Debian: apt-get install redis-server)"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _status = self.0.wait();
    }
}

pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The number of scripts that a server has run by their digests.
pub(crate) fn scripts_run(mut server: Resp) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]).to_string();
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

pub(crate) fn ttl(millis: u64) -> Ttl {
    Ttl::new(Duration::from_millis(millis)).unwrap()
}

pub(crate) fn claim(resource: &str, id: u128, share: Share, millis: u64, if_busy: IfBusy) -> Claim {
    let owner = Arc::new(Owner::current().with_label(&format!("owner of {id}")));
    Claim { key: key(resource, id), share, ttl: ttl(millis), if_busy, owner, data: None }
}

/// A client that keeps retrying while a primary is replaced.
pub(crate) async fn client_at(url: &str) -> Client {
    let url = url.to_owned();
    let connect = async move { Ok::<_, Infallible>(backend_at(&url).await) };
    let Ok(client) = Client::builder().retry_for(SOON).connect(connect).await;
    client
}

/// A connection to servers that may answer late, because others use the processors.
pub(crate) async fn backend_at(url: &str) -> RedisBackend {
    let config = RedisConfig::from_url(url).unwrap().connect_timeout(SOON).unwrap();
    let begun = Instant::now();
    loop {
        match RedisBackend::connect(config.clone()).await {
            Err(ConnectError::Unreachable(_)) if begun.elapsed() < SOON => sleep(Duration::from_millis(20)).await,
            connected => break connected.expect("Redis can be reached"),
        }
    }
}

pub(crate) async fn lock(client: &Client, name: &str, ttl: Duration) -> Guard {
    let lock = SimpleLock::new(name, client).unwrap();
    within(SOON, "a lock", lock.lock_with(LockOptions::new().ttl(ttl))).await.unwrap()
}
