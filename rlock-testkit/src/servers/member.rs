//! A member of an etcd cluster, or its only one.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::gateway::Gateway;
use super::peers::Peers;
use super::server::free_port;
use super::service::Service;
use super::store::Store;
use crate::faults::Proxy;

/// The settings to start an etcd server.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// A random name, which identifies the server.
    name: String,
    arguments: Vec<String>,
    /// `None` if it is the only member.
    membership: Option<Membership>,
}

/// How the other members and the clients of a cluster reach a member.
#[derive(Debug, Clone)]
pub(super) struct Membership {
    pub(super) index: usize,
    pub(super) peers: Arc<Peers>,
    /// The proxy for clients.
    pub(super) front: Arc<Proxy>,
}

const QUIET: [&str; 4] = ["--logger", "zap", "--log-level", "warn"];

/// The shortest lease is one and a half election timeouts, rounded up to seconds. With such short timings, a member
/// among others could lose its leadership; the only member cannot.
const QUICK: [&str; 4] = ["--heartbeat-interval", "10", "--election-timeout", "100"];

/// The advertised address of an only member, which no server uses.
const NOWHERE: &str = "http://127.0.0.1:1";

impl Member {
    /// The only member of a cluster, started with `more` arguments.
    pub(super) fn alone(more: &[&str]) -> Self {
        let name = random_name();
        let members = format!("{name}={NOWHERE}");
        let cluster = ["--initial-cluster", &members, "--initial-advertise-peer-urls", NOWHERE];
        let peers = ["--listen-peer-urls", "http://127.0.0.1:0"];
        let arguments = cluster.iter().chain(&peers).chain(&QUICK).chain(more);
        Self { arguments: arguments.map(ToString::to_string).collect(), name, membership: None }
    }

    /// The members of one cluster, with the default timings of etcd.
    pub(super) fn cluster(memberships: Vec<Membership>) -> Vec<Self> {
        // Servers of other clusters may still use these ports. The token identifies the members of this cluster.
        let token = random_name();
        let name = |membership: &Membership| format!("{token}-{}", membership.index);
        let peer_url =
            |membership: &Membership| format!("http://127.0.0.1:{}", membership.peers.front(membership.index));
        let members: Vec<_> =
            memberships.iter().map(|membership| format!("{}={}", name(membership), peer_url(membership))).collect();
        let members = members.join(",");
        let member = |membership: Membership| {
            let cluster = ["--initial-cluster-token", &token, "--initial-cluster", &members];
            let own = ["--initial-advertise-peer-urls", &peer_url(&membership)].map(String::from);
            let arguments = cluster.map(String::from).into_iter().chain(own).collect();
            Self { name: name(&membership), arguments, membership: Some(membership) }
        };
        memberships.into_iter().map(member).collect()
    }

    /// The arguments to listen for clients at `listen`, and to advertise `advertised` to them.
    fn serving(&self, listen: &str, advertised: &str, folder: &str) -> Vec<String> {
        let clients = ["--listen-client-urls", listen, "--advertise-client-urls", advertised];
        let named = ["--name", &self.name, "--data-dir", folder];
        let ours = clients.iter().chain(&named).chain(&QUIET).map(ToString::to_string);
        ours.chain(self.arguments.clone()).collect()
    }
}

fn random_name() -> String {
    format!("rlock-test-{:016x}", rand::random::<u64>())
}

impl Service for Member {
    const NAME: &'static str = "etcd";
    const PROGRAMS: &'static [&'static str] = &["etcd"];
    const PACKAGE: &'static str = "etcd-server";

    fn command(&self, program: &Path, port: u16) -> Command {
        let mut command = Command::new(program);
        let listen = format!("http://127.0.0.1:{port}");
        let Some(Membership { index, peers, front }) = &self.membership else {
            command.args(self.serving(&listen, &listen, "data"));
            return command;
        };
        let peer_port = free_port();
        peers.lead_to(*index, peer_port);
        front.lead_to(&self.url(port));
        let advertised = front.url().replacen("etcd:", "http:", 1);
        command.args(self.serving(&listen, &advertised, "data"));
        command.args(["--listen-peer-urls", &format!("http://127.0.0.1:{peer_port}")]);
        command
    }

    fn url(&self, port: u16) -> String {
        format!("etcd://127.0.0.1:{port}")
    }

    fn is_ready(&self, url: &str, process: Option<u32>) -> bool {
        // The server was just started. The others have to know its process before it can become ready.
        if let (Some(membership), Some(process)) = (&self.membership, process) {
            membership.peers.is_process(membership.index, process);
        }
        Gateway::new(url).is_ok_and(|gateway| gateway.is_ready(&self.name))
    }
}

impl Store for Member {
    const VARIABLE: &'static str = "ETCD";
    const URL: &'static str = "etcd://host:port";
    const IMAGE: &'static str = "gcr.io/etcd-development/etcd:v3.5.24";
    // The official image has a command instead of an entrypoint, and arguments would replace it.
    const ENTRYPOINT: Option<&'static str> = Some("etcd");
    const PORT: u16 = 2379;

    fn arguments(&self, _port: u16) -> Vec<String> {
        let port = Self::PORT;
        self.serving(&format!("http://0.0.0.0:{port}"), &format!("http://127.0.0.1:{port}"), "/etcd-data")
    }
}
