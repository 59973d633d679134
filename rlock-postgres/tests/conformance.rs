//! Runs the conformance suite on rlock-postgres: on a server, and behind a pooler that reassigns sessions after each
//! transaction.

use std::sync::Arc;
use std::time::Duration;

use rlock_core::{Backend, Namespace};
use rlock_postgres::{PostgresBackend, PostgresConfig};
use rlock_testkit::faults::{Control, Data};
use rlock_testkit::servers::{PgBouncer, Postgres};
use rlock_testkit::{Controlled, Harness, Shared, async_trait};

rlock_testkit::conformance!(postgres: PostgresHarness);
rlock_testkit::conformance!(pooled: PooledHarness);

struct PostgresHarness {
    url: String,
    server: Option<Postgres>,
}

impl PostgresHarness {
    async fn of(server: Postgres, options: &str) -> Self {
        let url = format!("{}{options}", server.url());
        PostgresBackend::ensure_schema(&patient(&url)).await.expect("a superuser can make tables");
        Self { url, server: Some(server) }
    }

    fn store(&self) -> &Postgres {
        self.server.as_ref().expect("only the test that started the server tampers with it")
    }
}

fn config(url: &str) -> PostgresConfig {
    PostgresConfig::from_url(url).expect("a URL of Postgres")
}

/// The same with more time to connect, for a busy machine.
fn patient(url: &str) -> PostgresConfig {
    config(url).connect_timeout(Duration::from_secs(30)).expect("it is in bounds")
}

#[async_trait]
impl Harness for PostgresHarness {
    async fn start() -> Self {
        Self::of(Postgres::start(), "?restart_grace=0s").await // the database is new
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        let config = patient(&self.url).namespace(namespace.clone());
        Arc::new(PostgresBackend::connect(config).await.expect("Postgres can be reached"))
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        let namespace = namespace.as_str().replace('\'', "''");
        let rows = self.store().query(&format!(
            "SELECT name FROM rlock.locks WHERE namespace = '{namespace}' AND (expires > 0 OR shared > 0 OR waiting > 0) \
             UNION ALL SELECT name FROM rlock.leases WHERE namespace = '{namespace}' \
             UNION ALL SELECT message FROM rlock.mail"
        ));
        rows.into_iter().flatten().flatten().collect()
    }
}

#[async_trait]
impl Shared for PostgresHarness {
    fn address(&self) -> String {
        self.url.clone()
    }

    async fn attach(address: &str) -> Self {
        Self { url: address.to_owned(), server: None }
    }
}

#[async_trait]
impl Controlled for PostgresHarness {
    async fn start_durable() -> Self {
        Self::of(Postgres::start_durable(), "").await
    }

    fn server(&self) -> &dyn Control {
        self
    }
}

#[async_trait]
impl Control for PostgresHarness {
    async fn pause(&self) {
        self.store().pause().await;
    }

    async fn resume(&self) {
        self.store().resume().await;
    }

    async fn kill(&self) {
        self.store().kill().await;
    }

    /// A server that has lost its data gets tables again.
    async fn restart(&self, data: Data) {
        self.store().restart(data).await;
        PostgresBackend::ensure_schema(&config(self.store().url())).await.expect("a superuser can make tables");
    }
}

struct PooledHarness {
    /// It is in front of the server, and dropped first.
    _pooler: Option<PgBouncer>,
    url: String,
    behind: PostgresHarness,
}

impl PooledHarness {
    fn of(behind: PostgresHarness) -> Self {
        let (server, options) = behind.url.split_at(behind.store().url().len());
        let pooler = PgBouncer::start(server);
        Self { url: format!("{}{options}", pooler.url()), _pooler: Some(pooler), behind }
    }

    fn at(&self) -> PostgresHarness {
        PostgresHarness { url: self.url.clone(), server: None }
    }
}

#[async_trait]
impl Harness for PooledHarness {
    async fn start() -> Self {
        Self::of(PostgresHarness::start().await)
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        self.at().connect(namespace).await
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        self.behind.leftovers(namespace).await
    }
}

#[async_trait]
impl Shared for PooledHarness {
    fn address(&self) -> String {
        self.url.clone()
    }

    async fn attach(address: &str) -> Self {
        let behind = PostgresHarness::attach(address).await;
        Self { _pooler: None, url: address.to_owned(), behind }
    }
}

#[async_trait]
impl Controlled for PooledHarness {
    async fn start_durable() -> Self {
        Self::of(PostgresHarness::start_durable().await)
    }

    fn server(&self) -> &dyn Control {
        self
    }
}

#[async_trait]
impl Control for PooledHarness {
    async fn pause(&self) {
        self.behind.pause().await;
    }

    async fn resume(&self) {
        self.behind.resume().await;
    }

    async fn kill(&self) {
        self.behind.kill().await;
    }

    /// Returns when the pooler works again.
    async fn restart(&self, data: Data) {
        self.behind.restart(data).await;
        let config = config(&self.url);
        while PostgresBackend::ensure_schema(&config).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
