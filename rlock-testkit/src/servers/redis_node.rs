//! One of several Redis servers: a node of a cluster, a primary, a replica or a sentinel.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::{fs, io};

use rand::RngExt as _;

use super::host::{self, Host};
use super::peers::Peers;
use super::redis;
use super::resp::{Reply, Resp};
use super::server::{Server, control_by_server};
use super::service::Service;
use super::source;
use super::store::Store;
use crate::faults::{Proxy, Way};

/// One of several Redis servers that know each other. Clients and the other servers reach it through a proxy.
#[derive(Debug)]
pub struct RedisNode {
    server: Server,
    front: Arc<Proxy>,
}

/// The settings to start one server.
#[derive(Debug, Clone)]
pub(super) struct Role {
    /// The proxy in front of the server.
    pub(super) front: Arc<Proxy>,
    pub(super) arguments: Vec<String>,
    /// The configuration file in its folder, which it reads first, and rewrites.
    pub(super) file: (&'static str, String),
    /// Its position on the cluster bus, if it is a node of a cluster.
    pub(super) bus: Option<(usize, Arc<Peers>)>,
    /// The host that it runs on, if that has a clock and a disk of its own.
    pub(super) host: Option<Host>,
    /// Decides from its replies whether it serves clients.
    pub(super) is_ready: fn(&mut Resp) -> io::Result<bool>,
}

/// The cluster bus port minus the client port, in versions that do not let it be configured.
const BUS: u16 = 10_000;

impl RedisNode {
    /// Starts servers at the same time, because none becomes ready alone.
    pub(super) fn start_all(roles: Vec<Role>) -> Vec<Self> {
        std::thread::scope(|scope| {
            let start = |role: Role| {
                scope.spawn(move || {
                    let front = Arc::clone(&role.front);
                    let server = match role.host {
                        Some(_) => Server::start_program(&source::program_of::<Role>(), role),
                        None => Server::start_own(role),
                    };
                    Self { server, front }
                })
            };
            let starting: Vec<_> = roles.into_iter().map(start).collect();
            let started: Vec<_> = starting.into_iter().map(|node| node.join()).collect();
            started.into_iter().map(|node| node.expect("its panic says why it did not start")).collect()
        })
    }

    /// The URL through the proxy, for clients and the other servers: `redis://127.0.0.1:41234`.
    pub fn url(&self) -> &str {
        self.front.url()
    }

    /// The port in its [`url`](Self::url).
    pub fn port(&self) -> u16 {
        port_of(&self.front)
    }

    /// A connection for direct requests to the server, without its proxy.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be reached.
    pub fn resp(&self) -> Resp {
        let url = self.server.url();
        Resp::connect(url).unwrap_or_else(|error| panic!("no connection to Redis at {url}: {error}"))
    }

    /// The reply to one command; `None` if the server cannot be reached.
    pub(super) fn try_command(&self, command: &[&str]) -> Option<Reply> {
        Resp::connect(self.server.url()).and_then(|mut resp| resp.send(command)).ok()
    }

    /// Whether the reply to one command contains `text`; false if the server cannot be reached.
    pub(super) fn says(&self, command: &[&str], text: &str) -> bool {
        self.try_command(command).is_some_and(|reply| reply.to_string().contains(text))
    }

    /// The proxy in front of it.
    pub fn front(&self) -> &Proxy {
        &self.front
    }

    /// Cuts the server off: no bytes pass its proxy, and neither end is notified. Connections stay open, and new ones
    /// are accepted.
    pub fn cut_off(&self) {
        self.front.stall(Way::Both);
    }

    /// Ends a [`cut_off`](Self::cut_off), and delivers the bytes that were held back.
    pub fn heal(&self) {
        self.front.heal();
    }
}

pub(super) fn port_of(front: &Proxy) -> u16 {
    front.url().rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("the kit's own URLs have a port")
}

/// The port at which a node of a cluster that serves `port` listens for the others, if it can.
fn bus_port(port: u16) -> Option<u16> {
    port.checked_add(BUS)
}

/// The arguments of a server behind `front` that keeps all confirmed writes, and replicates without a delay.
pub(super) fn durable_arguments(front: &Proxy) -> Vec<String> {
    let port = port_of(front).to_string();
    let arguments = [
        ["--replica-announce-ip", "127.0.0.1"],
        ["--replica-announce-port", &port],
        ["--repl-diskless-sync-delay", "0"],
        ["--repl-diskless-load", "swapdb"],
        ["--save", ""],
        ["--appendonly", "yes"],
        ["--appendfsync", "always"],
    ];
    arguments.iter().flatten().map(ToString::to_string).collect()
}

/// The id of a node or of a sentinel.
pub(super) fn random_id() -> String {
    let mut random = rand::rng();
    (0..5).map(|_| format!("{:08x}", random.random::<u32>())).collect()
}

/// A proxy whose server is not set yet.
pub(super) fn front() -> Arc<Proxy> {
    Arc::new(Proxy::in_front_of("redis://127.0.0.1:1"))
}

control_by_server!(RedisNode);

impl Service for Role {
    const NAME: &'static str = redis::NAME;
    const PROGRAMS: &'static [&'static str] = redis::PROGRAMS;
    const PACKAGE: &'static str = redis::PACKAGE;

    fn can_use(&self, port: u16) -> bool {
        let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        self.bus.is_none() || bus_port(port).is_some_and(is_free)
    }

    fn prepare(&self, _program: &Path, folder: &Path, port: u16) -> io::Result<()> {
        let (name, text) = &self.file;
        fs::write(folder.join(name), text)?;
        if let Some((index, peers)) = &self.bus {
            peers.lead_to(*index, bus_port(port).expect("the kit chose the port"));
        }
        self.front.lead_to(&self.url(port));
        Ok(())
    }

    fn command(&self, program: &Path, port: u16) -> Command {
        let mut command = host::command(self.host.as_ref(), program);
        command.args(Store::arguments(self, port));
        command
    }

    fn url(&self, port: u16) -> String {
        format!("redis://127.0.0.1:{port}")
    }

    fn is_ready(&self, url: &str, process: Option<u32>) -> bool {
        // The others have to know its process before it can become ready.
        if let (Some((index, peers)), Some(process)) = (&self.bus, process) {
            peers.is_process(*index, process);
        }
        let answers = |mut resp: Resp| {
            let info = resp.send(&["INFO", "server"])?.to_string();
            let is_it = process.is_none_or(|process| info.contains(&format!("\r\nprocess_id:{process}\r\n")));
            Ok(is_it && (self.is_ready)(&mut resp)?)
        };
        let is_ready = Resp::connect(url).and_then(answers).unwrap_or(false);
        if let (true, Some(host), Some(process)) = (is_ready, &self.host, process) {
            host.has_started(process);
        }
        is_ready
    }
}

impl Store for Role {
    const VARIABLE: &'static str = redis::VARIABLE;
    const URL: &'static str = redis::URL;
    const IMAGE: &'static str = redis::IMAGE;
    const ENTRYPOINT: Option<&'static str> = Some(redis::PROGRAMS[0]); // a sentinel needs its file first
    const PORT: u16 = redis::PORT;
    const ON_HOST: bool = true;

    fn arguments(&self, port: u16) -> Vec<String> {
        let place = ["--port", &port.to_string(), "--bind", "127.0.0.1"].map(String::from);
        self.arguments.iter().cloned().chain(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    #[test]
    fn node_needs_a_free_bus_port() {
        let bus = Some((0, Arc::new(Peers::new(1))));
        let file = ("nodes.conf", String::new());
        let node = Role { front: front(), arguments: Vec::new(), file, bus, host: None, is_ready: |_| Ok(true) };
        let port_of = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let mut listeners = iter::repeat_with(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let taken = listeners.find(|listener| port_of(listener) > BUS).unwrap();
        let port = port_of(&taken) - BUS;
        assert!(!node.can_use(port), "the bus port is taken");
        assert!(!node.can_use(u16::MAX - BUS + 1), "there is no such bus port");
        assert!(Role { bus: None, ..node }.can_use(port), "it has no bus");
    }
}
