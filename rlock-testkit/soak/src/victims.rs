//! Stores that fail in more ways than one server does.

use std::sync::atomic::{AtomicUsize, Ordering};

use rlock::postgres::{PostgresBackend, PostgresConfig};
use rlock_testkit::async_trait;
use rlock_testkit::faults::{Control, Data};
use rlock_testkit::servers::{Leading, PgBouncer, Postgres};

/// A Postgres server with rlock's schema, which is created again after the loss of its data.
#[derive(Debug)]
pub(crate) struct PostgresWithSchema(Postgres);

impl PostgresWithSchema {
    pub(crate) async fn start() -> Result<Self, String> {
        let server = Self(Postgres::start_durable());
        server.make().await?;
        Ok(server)
    }

    pub(crate) fn url(&self) -> &str {
        self.0.url()
    }

    async fn make(&self) -> Result<(), String> {
        let config = PostgresConfig::from_url(self.0.url()).map_err(|error| error.to_string())?;
        PostgresBackend::ensure_schema(&config).await.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Control for PostgresWithSchema {
    async fn pause(&self) {
        self.0.pause().await;
    }

    async fn resume(&self) {
        self.0.resume().await;
    }

    async fn kill(&self) {
        self.0.kill().await;
    }

    async fn restart(&self, data: Data) {
        self.0.restart(data).await;
        self.make().await.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// A pooler and its server, which fail in turn.
#[derive(Debug)]
pub(crate) struct Pooled {
    /// Dropped first.
    pooler: PgBouncer,
    server: PostgresWithSchema,
    faults: AtomicUsize,
}

impl Pooled {
    pub(crate) async fn start() -> Result<Self, String> {
        let server = PostgresWithSchema::start().await?;
        let pooler = PgBouncer::start(server.url());
        Ok(Self { pooler, server, faults: AtomicUsize::new(0) })
    }

    pub(crate) fn url(&self) -> &str {
        self.pooler.url()
    }

    fn failing(&self) -> &dyn Control {
        if self.faults.load(Ordering::Relaxed).is_multiple_of(2) { &self.server } else { &self.pooler }
    }

    fn is_over(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Control for Pooled {
    async fn pause(&self) {
        self.failing().pause().await;
    }

    async fn resume(&self) {
        self.failing().resume().await;
        self.is_over();
    }

    async fn kill(&self) {
        self.failing().kill().await;
    }

    async fn restart(&self, data: Data) {
        match data {
            Data::Kept => self.failing().restart(data).await,
            // The pooler has no data, and may be the one that was killed.
            Data::Lost => {
                self.server.restart(data).await;
                self.pooler.restart(Data::Kept).await;
            }
        }
        self.is_over();
    }
}

/// Several servers, of which the leader fails. All of them lose their data together.
pub(crate) struct Several<'a> {
    pub(crate) all: &'a dyn Control,
    pub(crate) leader: Leading<'a>,
}

#[async_trait]
impl Control for Several<'_> {
    async fn pause(&self) {
        self.leader.pause().await;
    }

    async fn resume(&self) {
        self.leader.resume().await;
    }

    async fn kill(&self) {
        self.leader.kill().await;
    }

    async fn restart(&self, data: Data) {
        match data {
            Data::Kept => self.leader.restart(data).await,
            Data::Lost => self.all.restart(data).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use tokio::runtime::Runtime;

    use super::*;

    #[test]
    fn server_and_pooler_fail_in_turn() {
        Runtime::new().unwrap().block_on(async {
            let pooled = Pooled::start().await.unwrap();
            let listen = || [pooled.server.url(), pooled.url()].map(listens);
            pooled.kill().await;
            assert_eq!(listen(), [false, true]);
            pooled.restart(Data::Kept).await;
            pooled.kill().await;
            assert_eq!(listen(), [true, false]);
            pooled.restart(Data::Lost).await;
            assert_eq!(listen(), [true, true]);
        });
    }

    fn listens(url: &str) -> bool {
        let address = url.rsplit_once('@').and_then(|(_, rest)| rest.split('/').next()).expect("a user and a database");
        TcpStream::connect(address).is_ok()
    }
}
