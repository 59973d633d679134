//! A Redis or Valkey server.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tempfile::TempDir;

use super::Source;
use super::local::{self, Program};
use super::resp::{Reply, Resp};
use crate::faults::{Control, Data};

/// A Redis server for tests: the one at `RLOCK_TEST_REDIS_URL`, or else `redis-server` or `valkey-server` from the
/// `PATH`, started on a free port of the loopback interface and killed when this is dropped.
///
/// A server from the environment is shared by all tests, so that each needs a namespace of its own there.
#[derive(Debug)]
pub struct Redis {
    url: String,
    own: Option<Own>,
}

/// A server program that was started here.
#[derive(Debug)]
struct Own {
    /// `None` only while it is being restarted. In front of the folder, to be dropped first.
    program: Mutex<Option<Program>>,
    folder: TempDir,
    port: u16,
    durability: Durability,
}

#[derive(Debug, Clone, Copy)]
enum Durability {
    Forgets,
    KeepsEveryWrite,
}

impl Redis {
    const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
    const URL: &str = "RLOCK_TEST_REDIS_URL";
    const TRIES: u32 = 5;

    /// A server that keeps nothing on disk; the one from the environment as it is.
    ///
    /// # Panics
    ///
    /// Panics if there is no server to be had, and says what to install.
    pub fn start() -> Self {
        match Source::url(Self::URL) {
            Some(url) => Self { url, own: None },
            None => Self::start_program(Durability::Forgets),
        }
    }

    /// A server of the caller's own that keeps every write it has confirmed when it is restarted.
    ///
    /// It is started as a program even if the environment names a server, since that is not ours to restart.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_durable() -> Self {
        let _checks_the_environment = Source::wanted();
        Self::start_program(Durability::KeepsEveryWrite)
    }

    /// Where it listens: `redis://127.0.0.1:41234`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection to look at the server from outside.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached.
    pub fn resp(&self) -> Resp {
        Resp::connect(&self.url).unwrap_or_else(|error| panic!("no connection to Redis at {}: {error}", self.url))
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

    /// How many commands the server has run so far, each command inside a script included: the sum of
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

    fn own(&self) -> &Own {
        self.own.as_ref().expect("a server from the environment is not ours to tamper with")
    }

    fn start_program(durability: Durability) -> Self {
        let mut tried = 0;
        loop {
            let folder = tempfile::tempdir().expect("the system has a place for temporary files");
            let own = Own { program: Mutex::default(), folder, port: local::free_port(), durability };
            tried += 1;
            match own.run() {
                Ok(program) => {
                    let url = own.url();
                    *own.program.lock().unwrap_or_else(PoisonError::into_inner) = Some(program);
                    return Self { url, own: Some(own) };
                }
                Err(_) if tried < Self::TRIES => {} // somebody else may have taken the port
                Err(error) => panic!("Redis did not start: {error}"),
            }
        }
    }
}

#[async_trait]
impl Control for Redis {
    async fn pause(&self) {
        self.own().program().as_ref().expect("the server runs").pause();
    }

    async fn resume(&self) {
        self.own().program().as_ref().expect("the server runs").resume();
    }

    async fn kill(&self) {
        self.own().program().take();
    }

    async fn restart(&self, data: Data) {
        let own = self.own();
        let mut program = own.program();
        drop(program.take());
        if data == Data::Lost {
            let _not_there = std::fs::remove_dir_all(own.folder.path().join("appendonlydir"));
        }
        *program = Some(own.run().unwrap_or_else(|error| panic!("Redis did not come back: {error}")));
    }
}

impl Own {
    fn program(&self) -> MutexGuard<'_, Option<Program>> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) -> std::io::Result<Program> {
        let Some(program) = Program::find(&Redis::PROGRAMS) else {
            panic!(
                "no Redis to test on: install `redis-server` or `valkey-server` on the PATH (Debian: apt-get install \
                 redis-server), or name a running one in {}=redis://host:port",
                Redis::URL
            )
        };
        let url = self.url();
        let is_it = |process: u32| {
            let info = Resp::connect(&url).and_then(|mut resp| resp.send(&["INFO", "server"]));
            info.is_ok_and(|info| info.to_string().contains(&format!("\r\nprocess_id:{process}\r\n")))
        };
        Program::start(self.command(&program), self.folder.path(), is_it)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""]);
        match self.durability {
            Durability::Forgets => command.args(["--appendonly", "no"]),
            Durability::KeepsEveryWrite => command.args(["--appendonly", "yes", "--appendfsync", "always"]),
        };
        command
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
