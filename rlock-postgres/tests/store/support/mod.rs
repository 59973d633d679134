//! A Postgres server for one test, and requests to it that bypass the library.

mod clock;
mod endpoint;
mod flushes;
mod relay;
mod traps;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rlock_core::{Backend as _, Claim, Client, Guard, IfBusy, LockOptions, Owner, Released, Share, SimpleLock, Ttl};
use rlock_postgres::{PostgresBackend, PostgresConfig};
use rlock_testkit::servers::Postgres;

pub(crate) use rlock_testkit::peer::key;

pub(crate) use self::endpoint::Endpoint;
pub(crate) use self::relay::listener_in_front_of;

/// A server for one test, with the tables.
pub(crate) struct Server(pub(crate) Postgres);

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(&["-c", "fsync=off"]).await
    }

    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        Self::with_tables(Postgres::start_with(arguments)).await
    }

    pub(crate) async fn with_tables(server: Postgres) -> Self {
        let server = Self(server);
        PostgresBackend::ensure_schema(&server.config()).await.unwrap();
        server
    }

    pub(crate) fn config(&self) -> PostgresConfig {
        self.config_of(self.0.url())
    }

    /// The configuration for another URL: another user, or a pooler.
    pub(crate) fn config_of(&self, url: &str) -> PostgresConfig {
        let config = PostgresConfig::from_url(url).unwrap();
        let config = config.connect_timeout(Duration::from_secs(30)).unwrap(); // a busy machine takes its time
        config.restart_grace(Duration::ZERO).unwrap() // the database is new
    }

    pub(crate) async fn client(&self) -> PostgresBackend {
        PostgresBackend::connect(self.config()).await.unwrap()
    }

    /// A client of the locks, by the URL of the server or of a pooler.
    pub(crate) async fn locks(&self, url: &str) -> Client {
        Client::builder().connect(PostgresBackend::connect(self.config_of(url))).await.unwrap()
    }

    pub(crate) fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.0.query(sql)
    }

    /// The single value that a query returns.
    pub(crate) fn value(&self, sql: &str) -> String {
        self.query(sql).remove(0).remove(0).unwrap()
    }

    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.value(sql).parse().unwrap()
    }

    /// Waits until a query returns `expected`, for 30 s at most.
    pub(crate) async fn wait_for(&self, sql: &str, expected: &str) {
        let start = Instant::now();
        while self.value(sql) != expected {
            assert!(start.elapsed() < Duration::from_secs(30), "{sql} answers {} after 30 s", self.value(sql));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Makes the server say that its notification queue is nearly full, as while a session listens and does not read.
    pub(crate) fn fill_notification_queue(&self) {
        self.query(
            "ALTER FUNCTION pg_catalog.pg_notification_queue_usage() RENAME TO usage; \
             CREATE FUNCTION pg_catalog.pg_notification_queue_usage() RETURNS float8 LANGUAGE sql AS 'SELECT 0.95::float8'",
        );
    }

    pub(crate) fn empty_notification_queue(&self) {
        self.query(
            "DROP FUNCTION pg_catalog.pg_notification_queue_usage(); \
             ALTER FUNCTION pg_catalog.usage() RENAME TO pg_notification_queue_usage",
        );
    }

    /// The position up to which the log has been written, in bytes.
    pub(crate) fn logged(&self) -> i64 {
        self.number("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
    }
}

pub(crate) fn ttl(millis: u64) -> Ttl {
    Ttl::new(Duration::from_millis(millis)).unwrap()
}

pub(crate) fn claim(resource: &str, id: u128, share: Share, if_busy: IfBusy) -> Claim {
    let owner = Arc::new(Owner::current().with_label(&format!("owner of {id}")));
    Claim { key: key(resource, id), share, ttl: ttl(30_000), if_busy, owner, data: None }
}

pub(crate) async fn hold(client: &Client, name: &str, ttl: Duration) -> Guard {
    SimpleLock::new(name, client).unwrap().lock_with(LockOptions::new().ttl(ttl)).await.unwrap()
}

pub(crate) async fn release(backend: &PostgresBackend, resource: &str, id: u128) {
    let released = backend.release(&[key(resource, id).into()]).await.remove(0);
    assert!(matches!(released, Ok(Released::Released)), "{released:?}");
}
