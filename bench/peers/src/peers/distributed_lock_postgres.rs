//! The crate `distributed-lock-postgres`.

use std::sync::Arc;

use distributed_lock_core::traits::{DistributedLock as _, LockHandle as _, LockProvider as _};
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_postgres::handle::PostgresLockHandle;
use sqlx_0_8::postgres::{PgPool, PgPoolOptions};

use crate::library::Library;
use crate::target::Target;

#[derive(Clone)]
pub struct DistributedLockPostgres {
    provider: Arc<PostgresLockProvider>,
    pool: PgPool,
}

impl Library for DistributedLockPostgres {
    const NAME: &'static str = "distributed-lock-postgres";
    const NOTE: &'static str = "\
        Session locks over a pool of --pool connections, as for pg_advisory_lock. A free lock takes \
        `acquire` five statements and `try_acquire` one, so the adapter tries before it waits.";
    type Held = PostgresLockHandle;

    async fn connect(target: &Target) -> anyhow::Result<Self> {
        // Without this option, a pool queries the server before it hands out a connection.
        let options = PgPoolOptions::new().max_connections(target.pool).test_before_acquire(false);
        let pool = options.connect(&target.url).await?;
        let provider = PostgresLockProvider::builder().pool(pool.clone()).build().await?;
        Ok(Self { provider: Arc::new(provider), pool })
    }

    async fn acquire(&self, name: &str) -> anyhow::Result<Self::Held> {
        let lock = self.provider.create_lock(name);
        match lock.try_acquire().await? {
            Some(held) => Ok(held),
            None => Ok(lock.acquire(None).await?),
        }
    }

    /// Dropping the lock would return its connection to the pool with the lock still held.
    async fn release(&self, held: Self::Held) -> anyhow::Result<()> {
        Ok(held.release().await?)
    }

    async fn close(self) -> anyhow::Result<()> {
        self.pool.close().await;
        Ok(())
    }
}
