//! Redis in each of its topologies, for tests that are the same on all of them.

use std::time::Duration;

use rlock_testkit::faults::{Control, Proxy};
use rlock_testkit::servers::{Redis, RedisCluster, RedisSentinels, Reply, Resp};

/// With this timeout sentinels start no failover.
pub(crate) const PATIENT: Duration = Duration::from_secs(60);

/// Redis in one of its topologies.
#[derive(Debug)]
pub(crate) enum Deployment {
    Alone(Redis),
    /// Without replicas.
    Cluster(RedisCluster),
    /// The first server is the primary.
    Sentinel(RedisSentinels),
}

impl Deployment {
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Alone(server) => server.url().to_owned(),
            Self::Cluster(cluster) => cluster.url(),
            Self::Sentinel(servers) => servers.url(),
        }
    }

    /// All servers at once.
    pub(crate) fn control(&self) -> &dyn Control {
        match self {
            Self::Alone(server) => server,
            Self::Cluster(cluster) => cluster,
            Self::Sentinel(servers) => servers,
        }
    }

    /// Direct connections to the primaries.
    pub(crate) fn primaries(&self) -> Vec<Resp> {
        match self {
            Self::Alone(server) => vec![server.resp()],
            Self::Cluster(cluster) => (0..cluster.size()).map(|index| cluster.node(index).resp()).collect(),
            Self::Sentinel(servers) => vec![servers.server(0).resp()],
        }
    }

    /// The proxies in front of the primaries of a cluster or of sentinels.
    pub(crate) fn fronts(&self) -> Vec<&Proxy> {
        match self {
            Self::Alone(_) => Vec::new(),
            Self::Cluster(cluster) => (0..cluster.size()).map(|index| cluster.node(index).front()).collect(),
            Self::Sentinel(servers) => vec![servers.server(0).front()],
        }
    }

    /// Changes a setting of all primaries and replicas until they restart.
    pub(crate) fn set(&self, setting: &str, value: &str) {
        let replica = match self {
            Self::Sentinel(servers) => Some(servers.server(1).resp()),
            _ => None,
        };
        for mut server in self.primaries().into_iter().chain(replica) {
            server.command(&["CONFIG", "SET", setting, value]);
        }
    }

    /// The keys on the primaries that match `pattern`.
    pub(crate) fn keys(&self, pattern: &str) -> Vec<String> {
        self.primaries().iter_mut().flat_map(|primary| keys(primary, pattern)).collect()
    }

    /// Deletes the keys that match `pattern`.
    pub(crate) fn delete(&self, pattern: &str) {
        for primary in &mut self.primaries() {
            for key in keys(primary, pattern) {
                primary.command(&["DEL", &key]);
            }
        }
    }
}

fn keys(primary: &mut Resp, pattern: &str) -> Vec<String> {
    let Reply::List(keys) = primary.command(&["KEYS", pattern]) else { panic!("KEYS answered no list") };
    keys.iter().map(Reply::to_string).collect()
}
