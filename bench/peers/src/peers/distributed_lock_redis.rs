//! The crate `distributed-lock-redis`.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::traits::{DistributedLock as _, LockHandle as _, LockProvider as _};
use distributed_lock_redis::{RedisLockHandle, RedisLockProvider};
use fred_9::prelude::{ClientLike as _, RedisClient, RedisConfig};
use tokio::time::sleep;

use crate::library::Library;
use crate::target::Target;

#[derive(Clone)]
pub struct DistributedLockRedis {
    provider: Arc<RedisLockProvider>,
    client: RedisClient,
    poll: Duration,
}

impl Library for DistributedLockRedis {
    const NAME: &'static str = "distributed-lock-redis";
    const NOTE: &'static str = "\
        One multiplexed connection. Its `acquire` does not wait, so the adapter polls `try_acquire` every \
        --poll. Each lock starts a task, which extends the lock at once and then every 10 s.";
    type Held = RedisLockHandle;

    async fn connect(target: &Target) -> anyhow::Result<Self> {
        // From a URL, the provider would make the same client, and never close it.
        let client = RedisClient::new(RedisConfig::from_url(target.address())?, None, None, None);
        client.init().await?;
        let provider = RedisLockProvider::builder().client(client.clone()).build().await?;
        Ok(Self { provider: Arc::new(provider), client, poll: target.poll })
    }

    async fn acquire(&self, name: &str) -> anyhow::Result<Self::Held> {
        // A lock has one id for all its acquisitions, so each acquisition needs a new lock.
        let lock = self.provider.create_lock(name);
        loop {
            if let Some(held) = lock.try_acquire().await? {
                return Ok(held);
            }
            sleep(self.poll).await;
        }
    }

    async fn release(&self, held: Self::Held) -> anyhow::Result<()> {
        Ok(held.release().await?)
    }

    async fn close(self) -> anyhow::Result<()> {
        Ok(self.client.quit().await?)
    }
}
