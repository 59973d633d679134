//! A Postgres server.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::initdb::{self, DATA};
use super::pgwire::PgWire;
use super::server::{Server, control_by_server};
use super::service::Service;
use super::source;
use super::store::Store;
use super::unprivileged;

/// A Postgres server for tests, version 12 to 18, from one of the sources that [`servers`](super) lists. The programs
/// are `postgres` and `initdb` in the same folder, on Linux only. If root runs the test, the user `postgres` or
/// `nobody` runs the server.
///
/// Servers that are started here keep all confirmed writes when they are killed and restarted, and trust every client.
/// All tests share a server from the environment, so each test needs its own namespace there.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
}

impl Postgres {
    /// Starts a server for the caller that does not sync its writes to disk, or uses the one from the environment as it
    /// is.
    ///
    /// # Panics
    ///
    /// Panics if no server is available. The message says what to install.
    pub fn start() -> Self {
        Self { server: Server::start(Arguments::new(UNSYNCED, &[])) }
    }

    /// Starts a server for the caller, never the one from the environment, that syncs its writes to disk before it
    /// confirms them.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_durable() -> Self {
        Self { server: Server::start_own(Arguments::new(&[], &[])) }
    }

    /// Starts a server for the caller, never the one from the environment, with more arguments: `&["-c",
    /// "max_connections=20"]`. It does not sync its writes either, unless the arguments say otherwise.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_with(arguments: &[&str]) -> Self {
        Self { server: Server::start_own(Arguments::new(UNSYNCED, arguments)) }
    }

    /// Starts a server for the caller as a program of this machine, with any value of `RLOCK_TEST_SERVERS`, and with
    /// variables in its environment; otherwise as [`start_with`](Self::start_with).
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_program(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::start_as(Arguments { environment, ..Arguments::new(UNSYNCED, arguments) })
    }

    /// Starts a standby of the server at `primary`, as a program of this machine: it copies the data, then streams the
    /// log, and serves reads. `SELECT pg_promote()` makes it a primary.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start), or if the primary cannot be copied.
    pub fn start_standby(primary: &str) -> Self {
        // Of 5 s: it finds its primary again at once.
        let prompt = ["-c", "wal_retrieve_retry_interval=100ms"];
        Self::start_as(Arguments { primary: Some(primary.to_owned()), ..Arguments::new(UNSYNCED, &prompt) })
    }

    fn start_as(arguments: Arguments) -> Self {
        Self { server: Server::start_program(&source::program_of::<Arguments>(), arguments) }
    }

    /// The URL at which it listens, with a superuser: `postgres://postgres@127.0.0.1:41234/postgres`.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Runs `sql` on a new connection; see [`PgWire::query`].
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached, or refuses.
    pub fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.expect(sql, PgWire::connect(self.url()).and_then(|mut wire| wire.query(sql)))
    }

    fn expect<T>(&self, what: &str, result: io::Result<T>) -> T {
        result.unwrap_or_else(|error| panic!("cannot {what}, of Postgres at {}: {error}", self.url()))
    }
}

control_by_server!(Postgres);

const UNSYNCED: &[&str] = &["-c", "fsync=off"];
const QUICK: &[&str] = &["-c", "shared_buffers=16MB", "-c", "max_connections=100"];

/// The arguments of a server, except those for its address. The environment and the primary are for programs only.
#[derive(Debug, Clone)]
struct Arguments {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// The URL of the server that it is a standby of.
    primary: Option<String>,
}

impl Arguments {
    fn new(durability: &[&str], more: &[&str]) -> Self {
        let arguments = QUICK.iter().chain(durability).chain(more).map(ToString::to_string).collect();
        Self { arguments, environment: Vec::new(), primary: None }
    }
}

impl Service for Arguments {
    const NAME: &'static str = "Postgres";
    const PROGRAMS: &'static [&'static str] = &["postgres"];
    const FOLDERS: &'static [&'static str] = &[
        "/usr/lib/postgresql/18/bin",
        "/usr/lib/postgresql/17/bin",
        "/usr/lib/postgresql/16/bin",
        "/usr/lib/postgresql/15/bin",
        "/usr/lib/postgresql/14/bin",
        "/usr/lib/postgresql/13/bin",
    ];
    const PACKAGE: &'static str = "postgresql";

    fn prepare(&self, program: &Path, folder: &Path, _port: u16) -> io::Result<()> {
        if !cfg!(target_os = "linux") {
            let message = "as a program it needs Linux, whose /proc says which processes it consists of";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        match &self.primary {
            Some(primary) => initdb::copy(program, folder, primary),
            None => initdb::unpack(program, folder),
        }
    }

    fn command(&self, program: &Path, port: u16) -> Command {
        let mut command = unprivileged::command(program);
        command.args(["-D", DATA, "-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        // Uses no files outside its folder, because a killed server would leave them.
        command.args(["-c", "unix_socket_directories=", "-c", "dynamic_shared_memory_type=mmap"]).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Removes the shared memory segment and the pid file of a killed server. The system keeps such segments, and Linux
    /// allows only 4096. The pid file would prevent a restart if another process of this user had got the same process
    /// id.
    fn tidy(&self, folder: &Path) {
        let file = folder.join(DATA).join(PID_FILE);
        let Ok(text) = std::fs::read_to_string(&file) else { return };
        if let Some(segment) = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
            let mut ipcrm = Command::new("ipcrm");
            let _gone = ipcrm.args(["-m", segment]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        let _gone = std::fs::remove_file(file);
    }

    fn url(&self, port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    }

    fn is_ready(&self, url: &str, process: Option<u32>) -> bool {
        let ask = format!("SELECT split_part(pg_read_file('{PID_FILE}'), E'\\n', 1)");
        let answer = PgWire::connect(url).and_then(|mut wire| wire.query(&ask));
        let is_it = |process: u32| answer.as_ref().is_ok_and(|rows| *rows == [[Some(process.to_string())]]);
        process.map_or(answer.is_ok(), is_it)
    }
}

impl Store for Arguments {
    const VARIABLE: &'static str = "POSTGRES";
    const URL: &'static str = "postgres://user@host:port/database";
    const IMAGE: &'static str = "postgres:17-alpine";
    const ENVIRONMENT: &'static [(&'static str, &'static str)] = &[("POSTGRES_HOST_AUTH_METHOD", "trust")];
    const PORT: u16 = 5432;

    fn arguments(&self, _port: u16) -> Vec<String> {
        // The first argument begins with a dash, so the official image runs postgres with all of them.
        self.arguments.clone()
    }
}

/// In the data directory. Its first line is the process id, its seventh the shared memory segment.
const PID_FILE: &str = "postmaster.pid";
