//! The function `pg_advisory_lock` of Postgres, through sqlx.

use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgAdvisoryLock, PgAdvisoryLockGuard, PgPool, PgPoolOptions};

use crate::library::Library;
use crate::target::Target;

#[derive(Clone)]
pub struct AdvisoryLock(PgPool);

impl Library for AdvisoryLock {
    const NAME: &'static str = "pg_advisory_lock";
    const NOTE: &'static str = "\
        Session locks by sqlx over a pool of --pool connections. A lock occupies a connection while it is \
        held or waited for, so tasks beyond the size of the pool queue in the client. As many locks at once \
        need as many connections, below max_connections of the server (100 by default); rlock holds all its \
        locks over five.";
    type Held = PgAdvisoryLockGuard<PoolConnection<Postgres>>;

    async fn connect(target: &Target) -> anyhow::Result<Self> {
        // Without this option, a pool queries the server before it hands out a connection.
        let options = PgPoolOptions::new().max_connections(target.pool).test_before_acquire(false);
        Ok(Self(options.connect(&target.url).await?))
    }

    async fn acquire(&self, name: &str) -> anyhow::Result<Self::Held> {
        Ok(PgAdvisoryLock::new(name).acquire(self.0.acquire().await?).await?)
    }

    async fn release(&self, held: Self::Held) -> anyhow::Result<()> {
        held.release_now().await?;
        Ok(())
    }

    async fn close(self) -> anyhow::Result<()> {
        self.0.close().await;
        Ok(())
    }
}
