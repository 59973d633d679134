//! Several servers, of which the leader fails.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::etcd_cluster::EtcdCluster;
use super::redis_cluster::RedisCluster;
use super::redis_sentinels::RedisSentinels;
use crate::faults::{Control, Data};

/// [`Control`] of the leader, or of one leader if there are several; the other servers keep running. A pause cuts the
/// leader off from clients and from the other servers.
///
/// `pause` and `kill` return when another server leads. `resume` and `restart` return when the servers have a leader
/// and, with Redis, the server follows it.
///
/// # Panics
///
/// A call panics if no other server leads within a minute. [`restart`](Control::restart) panics for [`Data::Lost`],
/// because the other servers have the data.
pub struct Leading<'a> {
    servers: &'a dyn Replicated,
    failed: Mutex<Option<usize>>,
}

/// Servers that replace their leader when it fails.
#[async_trait]
pub(super) trait Replicated: fmt::Debug + Sync {
    async fn leading(&self) -> usize;
    async fn is_replaced(&self, index: usize);
    async fn has_come_back(&self, index: usize);
    fn node(&self, index: usize) -> &dyn Control;
    fn cut_off(&self, index: usize);
    fn heal(&self, index: usize);
}

impl Leading<'_> {
    async fn fail(&self) -> usize {
        let index = self.servers.leading().await;
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(index);
        index
    }

    fn failed(&self) -> usize {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.expect("a server comes back only after it has failed")
    }
}

#[async_trait]
impl Control for Leading<'_> {
    async fn pause(&self) {
        let index = self.fail().await;
        self.servers.cut_off(index);
        self.servers.is_replaced(index).await;
    }

    async fn resume(&self) {
        let index = self.failed();
        self.servers.heal(index);
        self.servers.has_come_back(index).await;
    }

    async fn kill(&self) {
        let index = self.fail().await;
        self.servers.node(index).kill().await;
        self.servers.is_replaced(index).await;
    }

    async fn restart(&self, data: Data) {
        assert_eq!(data, Data::Kept, "the other servers have the data");
        let index = self.failed();
        self.servers.node(index).restart(data).await;
        self.servers.has_come_back(index).await;
    }
}

impl fmt::Debug for Leading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leading").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl RedisCluster {
    /// The next of its primaries, in turn.
    pub fn leading(&self) -> Leading<'_> {
        Leading { servers: self, failed: Mutex::default() }
    }
}

impl RedisSentinels {
    /// Its primary.
    pub fn leading(&self) -> Leading<'_> {
        Leading { servers: self, failed: Mutex::default() }
    }
}

impl EtcdCluster {
    /// Its leader.
    pub fn leading(&self) -> Leading<'_> {
        Leading { servers: self, failed: Mutex::default() }
    }
}

#[async_trait]
impl Replicated for RedisCluster {
    async fn leading(&self) -> usize {
        self.next_primary().await
    }

    async fn is_replaced(&self, index: usize) {
        self.is_replaced(index).await;
        self.is_whole().await;
    }

    async fn has_come_back(&self, index: usize) {
        self.follows(index).await;
    }

    fn node(&self, index: usize) -> &dyn Control {
        self.node(index)
    }

    fn cut_off(&self, index: usize) {
        self.cut_off(index);
    }

    fn heal(&self, index: usize) {
        self.heal(index);
    }
}

#[async_trait]
impl Replicated for RedisSentinels {
    async fn leading(&self) -> usize {
        self.is_replicated().await; // without a replica there is nothing to promote
        self.primary().await
    }

    async fn is_replaced(&self, index: usize) {
        self.is_replaced(index).await;
    }

    async fn has_come_back(&self, _index: usize) {
        self.is_replicated().await;
    }

    fn node(&self, index: usize) -> &dyn Control {
        self.server(index)
    }

    fn cut_off(&self, index: usize) {
        self.server(index).cut_off();
    }

    fn heal(&self, index: usize) {
        self.server(index).heal();
    }
}

#[async_trait]
impl Replicated for EtcdCluster {
    async fn leading(&self) -> usize {
        self.leader().await
    }

    async fn is_replaced(&self, _index: usize) {
        self.leader().await; // a failed server does not answer
    }

    async fn has_come_back(&self, _index: usize) {
        self.leader().await;
    }

    fn node(&self, index: usize) -> &dyn Control {
        self.node(index)
    }

    fn cut_off(&self, index: usize) {
        self.cut_off(index);
    }

    fn heal(&self, index: usize) {
        self.heal(index);
    }
}
