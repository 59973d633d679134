//! The lock service of etcd.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etcd_client::{Client, LockOptions};

use crate::library::Library;
use crate::target::Target;

/// In seconds: longer than a measurement, so that no lease has to be renewed.
const TTL: i64 = 3_600;

#[derive(Clone)]
pub struct EtcdLock {
    client: Client,
    leases: Arc<Mutex<Leases>>,
}

#[derive(Default)]
struct Leases {
    all: Vec<i64>,
    free: Vec<i64>,
}

pub struct Held {
    key: Vec<u8>,
    lease: i64,
}

impl EtcdLock {
    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Library for EtcdLock {
    const NAME: &'static str = "etcd lock service";
    const NOTE: &'static str = "\
        `lock` and `unlock` by etcd-client over one connection. etcd treats two calls with one lease as one \
        holder, so the adapter uses one lease for each held lock, and reuses it. The leases last an hour and \
        are not renewed. For a call without a lease, etcd would grant one that remains for a minute.";
    type Held = Held;

    async fn connect(target: &Target) -> anyhow::Result<Self> {
        let servers = target.address().trim_start_matches("etcd://").trim_end_matches('/');
        let client = Client::connect(servers.split(',').collect::<Vec<_>>(), None).await?;
        Ok(Self { client, leases: Arc::default() })
    }

    async fn acquire(&self, name: &str) -> anyhow::Result<Held> {
        let free = self.leases().free.pop();
        let lease = match free {
            Some(lease) => lease,
            None => {
                let lease = self.client.lease_client().grant(TTL, None).await?.id();
                self.leases().all.push(lease);
                lease
            }
        };
        let options = LockOptions::new().with_lease(lease);
        let locked = self.client.lock_client().lock(name, Some(options)).await?;
        Ok(Held { key: locked.key().to_vec(), lease })
    }

    async fn release(&self, held: Held) -> anyhow::Result<()> {
        self.client.lock_client().unlock(held.key).await?;
        self.leases().free.push(held.lease);
        Ok(())
    }

    async fn close(self) -> anyhow::Result<()> {
        let leases = std::mem::take(&mut *self.leases());
        for lease in leases.all {
            self.client.lease_client().revoke(lease).await?;
        }
        Ok(())
    }
}
