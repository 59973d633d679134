//! A cluster of etcd servers.

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::gateway::{Gateway, Status};
use super::member::{Member, Seat};
use super::peers::Peers;
use super::server::Server;
use super::source;
use crate::faults::{Control, Data, Proxy, Way};

const SIZE: usize = 3;
const LEADER_WITHIN: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// A server that is paused says nothing at all.
const SAYS_SOMETHING_WITHIN: Duration = Duration::from_millis(500);

/// Three etcd servers of one cluster, with the timings that etcd has by itself: programs of this machine always,
/// whatever `RLOCK_TEST_SERVERS` says, and on Linux only.
///
/// Clients reach each of them through a proxy, and so do the servers each other. One of them can be
/// [cut off](Self::cut_off), and each [paused, killed and restarted](Self::node). What [`Control`] does to the cluster
/// itself it does to all three.
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
    /// A cluster whose servers all are ready, and have a leader.
    ///
    /// # Panics
    ///
    /// Panics if there is no program `etcd`, and says what to install.
    pub fn start() -> Self {
        if !cfg!(target_os = "linux") {
            panic!("a cluster of etcd servers needs Linux, whose /proc says who calls whom");
        }
        let program = source::program_of::<Member>();
        let peers = Arc::new(Peers::new(SIZE));
        let front = || Arc::new(Proxy::in_front_of("etcd://127.0.0.1:1")); // led to the server when it is started
        let seat = |index| Seat { index, peers: Arc::clone(&peers), front: front() };
        let seats: Vec<_> = (0..SIZE).map(seat).collect();
        let fronts: Vec<_> = seats.iter().map(|seat| Arc::clone(&seat.front)).collect();

        // None is ready before another is.
        let servers: Vec<Server> = thread::scope(|scope| {
            let start = |member| scope.spawn(|| Server::start_program(&program, member));
            let starting: Vec<_> = Member::cluster(seats).into_iter().map(start).collect();
            let started: Vec<_> = starting.into_iter().map(|server| server.join()).collect();
            started.into_iter().map(|server| server.expect("it has said why it did not start")).collect()
        });
        let nodes = servers.into_iter().zip(fronts).map(|(server, front)| EtcdNode { server, front }).collect();
        Self { nodes, peers }
    }

    /// Where clients reach them: `etcd://127.0.0.1:41234,127.0.0.1:41235,127.0.0.1:41236`.
    pub fn url(&self) -> String {
        joined(self.nodes.iter().map(EtcdNode::url))
    }

    /// Where they listen themselves, past the proxies: for somebody who is beside each of them.
    pub fn direct_url(&self) -> String {
        joined(self.nodes.iter().map(|node| node.server.url()))
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// One of them, counted from 0 in the order of [`url`](Self::url).
    ///
    /// # Panics
    ///
    /// Panics if there are not as many.
    pub fn node(&self, index: usize) -> &EtcdNode {
        &self.nodes[index]
    }

    /// Which of them leads: waits until one of those that are not cut off says that it does, and so say more than half of
    /// all.
    ///
    /// # Panics
    ///
    /// Panics if there is none for too long.
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

    /// Cuts a server off: neither clients nor the other servers get a word through to it or from it, and nobody is told
    /// so. Its connections stay open, and new ones are accepted.
    ///
    /// # Panics
    ///
    /// As [`node`](Self::node).
    pub fn cut_off(&self, index: usize) {
        self.peers.cut_off(index);
        self.node(index).front.stall(Way::Both);
    }

    /// Ends a [`cut_off`](Self::cut_off), and delivers what was kept back.
    ///
    /// # Panics
    ///
    /// As [`node`](Self::node).
    pub fn heal(&self, index: usize) {
        self.peers.heal(index);
        self.node(index).front.heal();
    }

    /// What each says of itself, if it is not cut off and answers.
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

/// Whether server `index` is what it and others, more than half of all in sum, take for their leader.
fn leads(index: usize, statuses: &[Option<Status>]) -> bool {
    let Some(Some(leader)) = statuses.get(index).filter(|status| status.is_some_and(|it| it.leader == it.id)) else {
        return false;
    };
    let follows = |status: &&Status| status.leader == leader.id && status.term == leader.term;
    statuses.iter().flatten().filter(follows).count() > statuses.len() / 2
}

/// One URL of several, each with one server.
fn joined<'a>(urls: impl Iterator<Item = &'a str>) -> String {
    let servers: Vec<_> = urls.map(|url| url.trim_start_matches("etcd://")).collect();
    format!("etcd://{}", servers.join(","))
}

impl EtcdNode {
    /// Where clients reach it: `etcd://127.0.0.1:41234`.
    pub fn url(&self) -> &str {
        self.front.url()
    }

    /// A way to look at it from outside, past its proxy. Other servers have to agree with what it answers, except for
    /// [`leases`](Gateway::leases).
    pub fn gateway(&self) -> Gateway {
        Gateway::new(self.server.url()).expect("the kit's own URLs are plain")
    }
}

/// [`restart`](Control::restart) answers when the server is ready again, which takes another one that is, and none of the
/// two cut off. It has its data then: one of several servers that has lost what it had confirmed would have to be
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
        self.kill().await; // or else those with data would tell it to those without
        join_all(self.nodes.iter().map(|node| node.server.restart(data))).await;
    }
}
