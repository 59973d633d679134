//! The crate `rslock`.

use std::time::Duration;

use rslock::{LockGuard, LockManager};

use crate::library::Library;
use crate::target::Target;

/// The default TTL of an rlock client.
const TTL: Duration = Duration::from_secs(30);

/// One multiplexed connection, which the manager opens with the first lock.
#[derive(Clone)]
pub struct Rslock(LockManager);

impl Library for Rslock {
    const NAME: &'static str = "rslock";
    const NOTE: &'static str = "\
        One multiplexed connection. It waits by polling, with a random pause of up to twice --poll; its own \
        default is up to 200 ms. It does not renew the lock, and does not report a release that failed.";
    type Held = LockGuard;

    async fn connect(target: &Target) -> anyhow::Result<Self> {
        let mut manager = LockManager::new(vec![target.address()]);
        // After its last retry, `acquire` starts again without a pause, so there must be no last retry.
        manager.set_retry(u32::MAX, 2 * target.poll);
        Ok(Self(manager))
    }

    async fn acquire(&self, name: &str) -> anyhow::Result<LockGuard> {
        Ok(self.0.acquire(name, TTL).await?)
    }

    async fn release(&self, held: LockGuard) -> anyhow::Result<()> {
        held.release().await;
        Ok(())
    }

    async fn close(self) -> anyhow::Result<()> {
        Ok(())
    }
}
