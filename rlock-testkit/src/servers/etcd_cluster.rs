//! A cluster of etcd servers.

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::gateway::{Gateway, Status};
use super::member::{Member, Membership};
use super::peers::Peers;
use super::server::Server;
use super::source;
use crate::faults::{Control, Data, Proxy, Way};

const LEADER_WITHIN: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// A paused server does not answer at all.
const SAYS_SOMETHING_WITHIN: Duration = Duration::from_millis(500);

/// The etcd servers of one cluster, with the default timings of etcd. They are always programs of this machine, with any
/// value of `RLOCK_TEST_SERVERS`, and run on Linux only.
///
/// Clients reach each server through a proxy, and so do the other servers. One server can be [cut off](Self::cut_off),
/// and each can be [paused, killed and restarted](Self::node). The [`Control`] of the cluster itself acts on all of them.
#[derive(Debug)]
pub struct EtcdCluster {
    nodes: Vec<EtcdNode>,
    peers: Arc<Peers>,
}

/// One of the servers of an [`EtcdCluster`].
#[derive(Debug)]
pub struct EtcdNode {
    server: Server,
    front: Arc<Proxy>,
}

impl EtcdCluster {
    /// Starts three servers, and returns when all are ready and have a leader.
    ///
    /// # Panics
    ///
    /// Panics if there is no program `etcd`. The message says what to install.
    pub fn start() -> Self {
        Self::start_of(3)
    }

    /// The same with `size` servers.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_of(size: usize) -> Self {
        if !cfg!(target_os = "linux") {
            panic!("a cluster of etcd servers needs Linux, whose /proc shows which process connects");
        }
        let program = source::program_of::<Member>();
        let peers = Arc::new(Peers::new(size));
        let front = || Arc::new(Proxy::in_front_of("etcd://127.0.0.1:1")); // replaced when the server is started
        let membership = |index| Membership { index, peers: Arc::clone(&peers), front: front() };
        let memberships: Vec<_> = (0..size).map(membership).collect();
        let fronts: Vec<_> = memberships.iter().map(|membership| Arc::clone(&membership.front)).collect();

        // No server becomes ready before another one, so they start at the same time.
        let servers: Vec<Server> = thread::scope(|scope| {
            let start = |member| scope.spawn(|| Server::start_program(&program, member));
            let starting: Vec<_> = Member::cluster(memberships).into_iter().map(start).collect();
            let started: Vec<_> = starting.into_iter().map(|server| server.join()).collect();
            started.into_iter().map(|server| server.expect("its panic says why it did not start")).collect()
        });
        let nodes = servers.into_iter().zip(fronts).map(|(server, front)| EtcdNode { server, front }).collect();
        Self { nodes, peers }
    }

    /// The URL through the proxies: `etcd://127.0.0.1:41234,127.0.0.1:41235,127.0.0.1:41236`.
    pub fn url(&self) -> String {
        joined(self.nodes.iter().map(EtcdNode::url))
    }

    /// The URL of the servers themselves, without the proxies, for a client that no fault should affect.
    pub fn direct_url(&self) -> String {
        joined(self.nodes.iter().map(|node| node.server.url()))
    }

    /// The number of servers.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// One server, counted from 0 in the order of [`url`](Self::url).
    ///
    /// # Panics
    ///
    /// Panics if `index` is too large.
    pub fn node(&self, index: usize) -> &EtcdNode {
        &self.nodes[index]
    }

    /// The process of a server, as of its last start. Its working directory holds its data, in the folder `data`.
    ///
    /// # Panics
    ///
    /// As [`node`](Self::node).
    pub fn process(&self, index: usize) -> u32 {
        self.peers.process(index).expect("all servers were started")
    }

    /// The index of the leader. Waits until a server that is not cut off reports that it leads, and more than half of
    /// all servers agree.
    ///
    /// # Panics
    ///
    /// Panics if there is none within the time limit.
    pub async fn leader(&self) -> usize {
        let begun = Instant::now();
        loop {
            let all = self.statuses().await;
            if let Some(leader) = (0..self.size()).find(|&index| leads(index, &all)) {
                return leader;
            }
            if begun.elapsed() > LEADER_WITHIN {
                let logs: Vec<_> = self.nodes.iter().map(|node| node.server.log()).collect();
                panic!("no leader within {LEADER_WITHIN:?}: {all:?}\n{}", logs.join("\n\n"));
            }
            sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Cuts a server off: no bytes pass between it and clients or the other servers, and no end is notified. Its
    /// connections stay open, and new ones are accepted.
    ///
    /// # Panics
    ///
    /// As [`node`](Self::node).
    pub fn cut_off(&self, index: usize) {
        self.peers.cut_off(index);
        self.node(index).front.stall(Way::Both);
    }

    /// Ends a [`cut_off`](Self::cut_off), and delivers the bytes that were held back.
    ///
    /// # Panics
    ///
    /// As [`node`](Self::node).
    pub fn heal(&self, index: usize) {
        self.peers.heal(index);
        self.node(index).front.heal();
    }

    /// The status that each server reports, if it is not cut off and answers.
    async fn statuses(&self) -> Vec<Option<Status>> {
        let ask = |(index, node): (usize, &EtcdNode)| {
            let gateway = node.gateway().within(SAYS_SOMETHING_WITHIN);
            let is_cut_off = self.peers.is_cut_off(index);
            async move {
                if is_cut_off {
                    return None;
                }
                let (done, answer) = oneshot::channel();
                thread::spawn(move || done.send(gateway.status()));
                let answer: Option<io::Result<Status>> = answer.await.ok();
                answer?.ok()
            }
        };
        join_all(self.nodes.iter().enumerate().map(ask)).await
    }
}

/// Whether more than half of all servers, including server `index`, report that it leads.
fn leads(index: usize, statuses: &[Option<Status>]) -> bool {
    let Some(Some(leader)) = statuses.get(index).filter(|status| status.is_some_and(|it| it.leader == it.id)) else {
        return false;
    };
    let follows = |status: &&Status| status.leader == leader.id && status.term == leader.term;
    statuses.iter().flatten().filter(follows).count() > statuses.len() / 2
}

/// Joins URLs of one server each into one URL.
fn joined<'a>(urls: impl Iterator<Item = &'a str>) -> String {
    let servers: Vec<_> = urls.map(|url| url.trim_start_matches("etcd://")).collect();
    format!("etcd://{}", servers.join(","))
}

impl EtcdNode {
    /// The URL through the proxy: `etcd://127.0.0.1:41234`.
    pub fn url(&self) -> &str {
        self.front.url()
    }

    /// A client for direct requests to this server, without its proxy. Other servers have to agree on every answer
    /// except [`leases`](Gateway::leases).
    pub fn gateway(&self) -> Gateway {
        Gateway::new(self.server.url()).expect("the kit's own URLs are plain")
    }
}

/// [`restart`](Control::restart) returns when the server is ready again. This needs another server that is ready, and
/// neither may be cut off. The data are kept: a server of a cluster that has lost confirmed writes would have to be
/// replaced by a new member.
#[async_trait]
impl Control for EtcdNode {
    async fn pause(&self) {
        self.server.pause().await;
    }

    async fn resume(&self) {
        self.server.resume().await;
    }

    async fn kill(&self) {
        self.server.kill().await;
    }

    async fn restart(&self, data: Data) {
        assert_eq!(data, Data::Kept, "one server of a cluster cannot lose its data and stay its member");
        self.server.restart(data).await;
    }
}

#[async_trait]
impl Control for EtcdCluster {
    async fn pause(&self) {
        join_all(self.nodes.iter().map(|node| node.server.pause())).await;
    }

    async fn resume(&self) {
        join_all(self.nodes.iter().map(|node| node.server.resume())).await;
    }

    async fn kill(&self) {
        join_all(self.nodes.iter().map(|node| node.server.kill())).await;
    }

    async fn restart(&self, data: Data) {
        self.kill().await; // otherwise servers with data would send it to those without
        join_all(self.nodes.iter().map(|node| node.server.restart(data))).await;
    }
}
