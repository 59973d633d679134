//! A Redis or Valkey server.

use std::path::Path;
use std::process::Command;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::host::{self, Host};
use super::resp::{Reply, Resp};
use super::server::{Server, control_by_server};
use super::service::Service;
use super::source;
use super::store::Store;

/// A Redis server for tests, from one of the sources that [`servers`](super) lists; the programs are `redis-server` and
/// `valkey-server`.
///
/// All tests share a server from the environment, so each test needs its own namespace there.
#[derive(Debug)]
pub struct Redis {
    server: Server,
}

impl Redis {
    /// Starts a server that keeps nothing on disk, or uses the one from the environment as it is.
    ///
    /// # Panics
    ///
    /// Panics if no server is available. The message says what to install.
    pub fn start() -> Self {
        Self { server: Server::start(Arguments::new(FORGETS, &[])) }
    }

    /// Starts a server for the caller, never the one from the environment, that keeps all confirmed writes over a
    /// restart.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_durable() -> Self {
        Self { server: Server::start_own(Arguments::new(KEEPS_EVERY_WRITE, &[])) }
    }

    /// Starts a server for the caller, never the one from the environment, with more arguments: `&["--requirepass",
    /// "secret"]`. It keeps nothing on disk, unless the arguments say otherwise.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_with(arguments: &[&str]) -> Self {
        Self { server: Server::start_own(Arguments::new(FORGETS, arguments)) }
    }

    /// Starts a program on `host`, as [`start_with`](Self::start_with).
    ///
    /// # Panics
    ///
    /// Panics if there is no program. The message says what to install.
    pub fn start_on(host: &Host, arguments: &[&str]) -> Self {
        let arguments = Arguments { host: Some(host.clone()), ..Arguments::new(FORGETS, arguments) };
        Self { server: Server::start_program(&source::program_of::<Arguments>(), arguments) }
    }

    /// The URL at which it listens, with the password of `--requirepass`: `redis://127.0.0.1:41234`.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// The host and port at which another server that was started here reaches it, for `REPLICAOF`.
    ///
    /// # Panics
    ///
    /// Panics if it is the server from the environment.
    pub fn address_for_servers(&self) -> (String, u16) {
        self.server.address_for_servers()
    }

    /// A connection for direct requests to the server.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached.
    pub fn resp(&self) -> Resp {
        Resp::connect(self.url()).unwrap_or_else(|error| panic!("no connection to Redis at {}: {error}", self.url()))
    }

    /// The keys that match `pattern`, sorted.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let reply = self.resp().command(&["KEYS", pattern]);
        let Reply::List(keys) = reply else { panic!("KEYS answered {reply:?}") };
        let mut keys: Vec<String> = keys.iter().map(Reply::to_string).collect();
        keys.sort();
        keys
    }

    /// The number of commands that the server has run so far, including each command inside a script: the sum of
    /// `INFO commandstats`.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached.
    pub fn commands_run(&self) -> u64 {
        let stats = self.resp().command(&["INFO", "commandstats"]).to_string();
        let calls = |line: &str| {
            let (_, after) = line.strip_prefix("cmdstat_")?.split_once("calls=")?;
            after.split(',').next()?.parse::<u64>().ok()
        };
        stats.lines().filter_map(calls).sum()
    }
}

control_by_server!(Redis);

pub(super) const NAME: &str = "Redis";
pub(super) const PROGRAMS: &[&str] = &["redis-server", "valkey-server"];
pub(super) const PACKAGE: &str = "redis-server";
pub(super) const VARIABLE: &str = "REDIS";
pub(super) const URL: &str = "redis://host:port";
pub(super) const IMAGE: &str = "redis:7-alpine";
pub(super) const PORT: u16 = 6379;

const FORGETS: &[&str] = &["--save", "", "--appendonly", "no"];
const KEEPS_EVERY_WRITE: &[&str] = &["--save", "", "--appendonly", "yes", "--appendfsync", "always"];

/// The arguments of a server, except those for its address.
#[derive(Debug, Clone)]
struct Arguments {
    list: Vec<String>,
    /// The host that it runs on, if that has a clock and a disk of its own.
    host: Option<Host>,
}

impl Arguments {
    fn new(durability: &[&str], more: &[&str]) -> Self {
        Self { list: durability.iter().chain(more).map(ToString::to_string).collect(), host: None }
    }

    fn password(&self) -> Option<&str> {
        let name = self.list.iter().position(|argument| argument == "--requirepass")?;
        self.list.get(name + 1).map(String::as_str)
    }
}

impl Service for Arguments {
    const NAME: &'static str = NAME;
    const PROGRAMS: &'static [&'static str] = PROGRAMS;
    const PACKAGE: &'static str = PACKAGE;

    fn command(&self, program: &Path, port: u16) -> Command {
        let mut command = host::command(self.host.as_ref(), program);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]).args(&self.list);
        command
    }

    fn url(&self, port: u16) -> String {
        match self.password() {
            Some(password) => format!("redis://:{}@127.0.0.1:{port}", utf8_percent_encode(password, NON_ALPHANUMERIC)),
            None => format!("redis://127.0.0.1:{port}"),
        }
    }

    fn is_ready(&self, url: &str, process: Option<u32>) -> bool {
        let info = Resp::connect(url).and_then(|mut resp| {
            resp.send(&["PING"])?; // the server refuses it while it loads data
            resp.send(&["INFO", "server"])
        });
        let is_it = |process| {
            let line = format!("\r\nprocess_id:{process}\r\n");
            info.as_ref().is_ok_and(|info| info.to_string().contains(&line))
        };
        let is_ready = process.map_or(info.is_ok(), is_it);
        if let (true, Some(host), Some(process)) = (is_ready, &self.host, process) {
            host.has_started(process);
        }
        is_ready
    }
}

impl Store for Arguments {
    const VARIABLE: &'static str = VARIABLE;
    const URL: &'static str = URL;
    const IMAGE: &'static str = IMAGE;
    const PORT: u16 = PORT;

    fn arguments(&self, _port: u16) -> Vec<String> {
        // The first argument begins with a dash, so the official image runs redis-server with all of them.
        ["--bind", "0.0.0.0", "--protected-mode", "no"].map(String::from).into_iter().chain(self.list.clone()).collect()
    }
}
