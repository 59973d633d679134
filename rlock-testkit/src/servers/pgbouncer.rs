//! A connection pooler in front of a Postgres server.

use std::path::Path;
use std::process::Command;
use std::{fs, io};

use super::pg_url::PgUrl;
use super::pgwire::PgWire;
use super::server::{Server, control_by_server};
use super::service::Service;
use super::source;
use super::unprivileged;

/// A PgBouncer: it lends a session of a Postgres server to a client for one transaction, or for one statement. It is
/// always a program of this machine, with any value of `RLOCK_TEST_SERVERS`.
///
/// To the server, every client is the user of the URL that the pooler was started with. A restart cannot lose data,
/// because the pooler has none.
#[derive(Debug)]
pub struct PgBouncer {
    server: Server,
}

impl PgBouncer {
    /// Starts a pooler in transaction mode in front of the server at `postgres://user@host:port/database`, which has to
    /// trust the user.
    ///
    /// # Panics
    ///
    /// Panics if the URL has another form, or if there is no program `pgbouncer`. The message then says
    /// what to install.
    pub fn start(postgres: &str) -> Self {
        Self::start_in("transaction", postgres)
    }

    /// Starts a pooler in statement mode, in which it refuses transactions of several messages.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_for_statements(postgres: &str) -> Self {
        Self::start_in("statement", postgres)
    }

    fn start_in(mode: &'static str, postgres: &str) -> Self {
        let target = PgUrl::parse(postgres).unwrap_or_else(|error| panic!("{postgres}: {error}"));
        let name = format!("rlock-test-{:016x}", rand::random::<u64>());
        Self { server: Server::start_program(&source::program_of::<Pooler>(), Pooler { target, name, mode }) }
    }

    /// The URL of the pooler, with the user and the database of the server:
    /// `postgres://postgres@127.0.0.1:41234/postgres`.
    pub fn url(&self) -> &str {
        self.server.url()
    }
}

control_by_server!(PgBouncer);

/// The settings to start a PgBouncer.
#[derive(Debug, Clone)]
struct Pooler {
    target: PgUrl,
    /// A random name, which identifies the pooler.
    name: String,
    /// The value of `pool_mode`.
    mode: &'static str,
}

const SETTINGS: &str = "pgbouncer.ini";

impl Pooler {
    fn settings(&self, port: u16) -> String {
        let PgUrl { user, host, port: postgres, .. } = &self.target;
        let Self { name, mode, .. } = self;
        format!(
            "[databases]\n\
             * = host={host} port={postgres} user={user}\n\
             [pgbouncer]\n\
             job_name = {name}\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = {mode}\n\
             max_client_conn = 1000\n\
             default_pool_size = 20\n\
             ; sqlx sets it\n\
             ignore_startup_parameters = extra_float_digits\n\
             ; seconds, of 15: a server that comes back is found at once\n\
             server_login_retry = 0.1\n",
            user = quoted(user),
            host = quoted(host),
        )
    }
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

impl Service for Pooler {
    const NAME: &'static str = "PgBouncer";
    const PROGRAMS: &'static [&'static str] = &["pgbouncer"];
    const FOLDERS: &'static [&'static str] = &["/usr/sbin"];
    const PACKAGE: &'static str = "pgbouncer";

    fn prepare(&self, _program: &Path, folder: &Path, port: u16) -> io::Result<()> {
        let settings = folder.join(SETTINGS);
        fs::write(&settings, self.settings(port))?;
        unprivileged::give(&settings)?;
        unprivileged::give(folder)
    }

    fn command(&self, program: &Path, _port: u16) -> Command {
        let mut command = unprivileged::command(program);
        command.arg(SETTINGS);
        command
    }

    fn url(&self, port: u16) -> String {
        self.target.at(port)
    }

    fn is_ready(&self, url: &str, _process: Option<u32>) -> bool {
        // The pooler's own database answers even if the server does not.
        let own = PgUrl::parse(url).map(|url| PgUrl { database: "pgbouncer".into(), ..url });
        let settings =
            own.and_then(|own| PgWire::connect(&own.at(own.port))).and_then(|mut own| own.query("SHOW CONFIG"));
        let names_it = |row: &Vec<_>| row.iter().flatten().take(2).eq(["job_name", &self.name]);
        settings.is_ok_and(|settings| settings.iter().any(names_it))
    }
}
