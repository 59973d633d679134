//! The store to contend for: a running one, or servers that are started for the soak.

use std::time::Duration;

use rlock::redis::RedisConfig;
use rlock_testkit::contest::Mishap;
use rlock_testkit::faults::{Control, Proxy};
use rlock_testkit::servers::{Etcd, EtcdCluster, Redis, RedisCluster, RedisNode, RedisSentinels, SqliteFile};

use crate::victims::{Pooled, PostgresWithSchema, Several};

/// How long a server of a cluster may be silent before another one replaces it.
const SILENT_FOR: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Store {
    name: &'static str,
    url: String,
    servers: Servers,
}

#[derive(Debug)]
enum Servers {
    /// Servers that were started elsewhere.
    Theirs,
    Redis(Redis),
    RedisCluster(RedisCluster),
    RedisSentinels(RedisSentinels),
    Etcd(Etcd),
    EtcdCluster(EtcdCluster),
    Postgres(PostgresWithSchema),
    PgBouncer(Pooled),
    Sqlite(SqliteFile),
}

pub(crate) enum Victim<'a> {
    Alone(&'a dyn Control),
    Several(Several<'a>),
}

impl Victim<'_> {
    pub(crate) fn control(&self) -> &dyn Control {
        match self {
            Self::Alone(server) => *server,
            Self::Several(servers) => servers,
        }
    }
}

impl Store {
    pub(crate) async fn open(url: &str) -> Result<Self, String> {
        let (name, url, servers) = match url {
            "redis:" => {
                let server = Redis::start_durable();
                ("Redis", server.url().to_owned(), Servers::Redis(server))
            }
            "redis-user:" => {
                let durable = ["--appendonly", "yes", "--appendfsync", "always"];
                // In the arguments, so that the user is there again after a restart.
                let user = ["--user", "locks", "on", ">secret"].into_iter().chain(RedisConfig::ACL_RULES.split(' '));
                let server = Redis::start_with(&durable.into_iter().chain(user).collect::<Vec<_>>());
                (
                    "Redis as a limited user",
                    server.url().replacen("redis://", "redis://locks:secret@", 1),
                    Servers::Redis(server),
                )
            }
            "redis-cluster:" => {
                let cluster = RedisCluster::start(SILENT_FOR);
                ("Redis Cluster", cluster.url(), Servers::RedisCluster(cluster))
            }
            "redis-sentinel:" => {
                let servers = RedisSentinels::start(SILENT_FOR);
                ("Sentinel", servers.url(), Servers::RedisSentinels(servers))
            }
            "etcd:" => {
                let server = Etcd::start_durable();
                ("etcd, one node", server.url().to_owned(), Servers::Etcd(server))
            }
            "etcd-cluster:" => {
                let cluster = EtcdCluster::start();
                ("etcd, three nodes", cluster.url(), Servers::EtcdCluster(cluster))
            }
            "postgres:" => {
                let server = PostgresWithSchema::start().await?;
                ("Postgres", server.url().to_owned(), Servers::Postgres(server))
            }
            "pgbouncer:" => {
                let pooled = Pooled::start().await?;
                ("Postgres behind PgBouncer", pooled.url().to_owned(), Servers::PgBouncer(pooled))
            }
            "sqlite:" => {
                let file = SqliteFile::start();
                ("SQLite", file.url(), Servers::Sqlite(file))
            }
            url => ("a running store", url.to_owned(), Servers::Theirs),
        };
        Ok(Self { name, url, servers })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The name in a table.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The server that faults are injected into.
    pub(crate) fn victim(&self) -> Option<Victim<'_>> {
        match &self.servers {
            Servers::Theirs => None,
            Servers::Redis(server) => Some(Victim::Alone(server)),
            Servers::RedisCluster(cluster) => {
                Some(Victim::Several(Several { all: cluster, leader: cluster.leading() }))
            }
            Servers::RedisSentinels(servers) => {
                Some(Victim::Several(Several { all: servers, leader: servers.leading() }))
            }
            Servers::Etcd(server) => Some(Victim::Alone(server)),
            Servers::EtcdCluster(cluster) => Some(Victim::Several(Several { all: cluster, leader: cluster.leading() })),
            Servers::Postgres(server) => Some(Victim::Alone(server)),
            Servers::PgBouncer(pooled) => Some(Victim::Alone(pooled)),
            Servers::Sqlite(file) => Some(Victim::Alone(file)),
        }
    }

    /// Whether this fault can happen to the store. Servers that were started elsewhere get no faults.
    pub(crate) fn allows(&self, mishap: Mishap) -> bool {
        match &self.servers {
            Servers::Theirs => !mishap.is_of_the_server(),
            // No server can die.
            Servers::Sqlite(_) => mishap != Mishap::ServerKilled,
            _ => true,
        }
    }

    /// Whether the soak has started several servers, each of which a client may connect to.
    pub(crate) fn has_several_servers(&self) -> bool {
        matches!(self.servers, Servers::RedisCluster(_) | Servers::RedisSentinels(_) | Servers::EtcdCluster(_))
    }

    /// Starts a proxy in front of all servers of the store at `url`. Returns the URL through it.
    pub(crate) fn proxied(&self, url: &str) -> (String, Proxy) {
        let host = |node: &RedisNode| node.url().trim_start_matches("redis://").to_owned();
        let announced: Vec<String> = match &self.servers {
            Servers::RedisCluster(cluster) => (3..cluster.size()).map(|index| host(cluster.node(index))).collect(),
            Servers::RedisSentinels(servers) => (0..2).map(|index| host(servers.server(index))).collect(),
            _ => return Proxy::in_front_of_hosts(url),
        };
        Proxy::in_front_of_announced(url, &announced.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn is_theirs(&self) -> bool {
        matches!(self.servers, Servers::Theirs)
    }

    /// Whether an old primary and its successor can serve at the same time.
    pub(crate) fn may_split(&self) -> bool {
        matches!(self.servers, Servers::RedisCluster(_) | Servers::RedisSentinels(_))
    }
}
