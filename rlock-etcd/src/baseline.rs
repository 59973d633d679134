//! Measures etcd without locks: the fewest requests that could do the work of locks, over the same client library.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp, WatchStream};
use rlock_core::{BackendError, Baseline};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::conn::Conn;
use crate::error::{CallError, Kind};
use crate::keys::Keys;
use crate::link::Link;
use crate::{ConnectError, EtcdConfig};

/// The size of a lock's record, in bytes.
const LENGTH: usize = 100;
/// The TTL of keys, in seconds, in case the process crashes.
const TTL: i64 = 3_600;

/// The time limit for deleting many keys; a slow server does that in one request.
const CLEANED_UP_WITHIN: Duration = Duration::from_secs(60);

/// The cost of an etcd cluster without locks.
pub struct EtcdBaseline {
    config: Arc<EtcdConfig>,
    store: Arc<str>,
    keys: Keys,
    conn: Arc<Conn>,
    lease: i64,
    pushes: Mutex<WatchStream>,
    _links: [Link; 2],
}

impl EtcdBaseline {
    /// Opens two connections, one for requests and one for a watch.
    ///
    /// # Errors
    ///
    /// As for [`EtcdBackend::connect`](crate::EtcdBackend::connect).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened. A key and a lease may stay in the namespace.
    pub async fn connect(config: EtcdConfig) -> Result<Self, ConnectError> {
        let store = Arc::<str>::from(config.address());
        let keys = Keys::new(&config.namespace);
        let config = Arc::new(config);
        let open = async {
            let (link, watching) = (Link::open(config.clone()).await?, Link::open(config.clone()).await?);
            let (conn, watcher) = (link.another(None).await, watching.another(None).await);
            let lease = conn.lease().grant(TTL, None).await?.id();
            let mut pushes = watcher.watch().watch(push_key(&keys), None).await?;
            while pushes.message().await?.is_some_and(|response| !response.created()) {}
            Ok((conn, lease, Mutex::new(pushes), [link, watching]))
        };
        let late = |_| Err(CallError::late(config.timeout));
        let opened = timeout(config.timeout + config.connect_timeout, open).await.unwrap_or_else(late);
        let (conn, lease, pushes, links) = opened.map_err(|error| error.into_connect_error(&store))?;
        Ok(Self { config, store, keys, conn, lease, pushes, _links: links })
    }

    /// Makes a request that fails after the configured timeout.
    async fn call<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, CallError>> + Send,
    ) -> Result<T, BackendError> {
        self.call_within(self.config.timeout, operation, request).await
    }

    async fn call_within<T>(
        &self,
        limit: Duration,
        operation: &'static str,
        request: impl Future<Output = Result<T, CallError>> + Send,
    ) -> Result<T, BackendError> {
        let answer = timeout(limit, request).await.unwrap_or_else(|_elapsed| Err(CallError::late(limit)));
        answer.map_err(|error| error.into_backend_error(operation, &self.store))
    }

    fn put(&self, key: &str) -> TxnOp {
        TxnOp::put(key, vec![b'x'; LENGTH], Some(PutOptions::new().with_lease(self.lease)))
    }
}

fn push_key(keys: &Keys) -> String {
    format!("{}bare/push", keys.front())
}

#[async_trait]
impl Baseline for EtcdBaseline {
    async fn round_trip(&self) -> Result<(), BackendError> {
        let nothing = GetOptions::new().with_serializable().with_count_only();
        let key = format!("{}bare/nothing", self.keys.front());
        self.call("get", async { Ok(self.conn.kv().get(key, Some(nothing)).await.map(drop)?) }).await
    }

    async fn pair(&self, name: &str) -> Result<(), BackendError> {
        let key = format!("{}bare/{name}", self.keys.front());
        let absent = Compare::create_revision(key.as_str(), CompareOp::Equal, 0);
        let take = Txn::new().when([absent]).and_then([self.put(&key)]);
        let there = Compare::create_revision(key.as_str(), CompareOp::Greater, 0);
        let give_back = Txn::new().when([there]).and_then([TxnOp::delete(key.as_str(), None)]);
        for write in [take, give_back] {
            self.call("write", async { Ok(self.conn.kv().txn(write).await.map(drop)?) }).await?;
        }
        Ok(())
    }

    async fn write_and_push(&self) -> Result<(), BackendError> {
        let mut pushes = self.pushes.lock().await;
        let write = Txn::new().and_then([self.put(&push_key(&self.keys))]);
        self.call("write", async { Ok(self.conn.kv().txn(write).await.map(drop)?) }).await?;
        let pushed = async {
            match pushes.message().await? {
                Some(response) if !response.canceled() => Ok(()),
                _ => Err(CallError::new(Kind::Broken, "etcd ended the watch")),
            }
        };
        self.call("watch", pushed).await
    }

    async fn counters(&self) -> Result<Vec<(&'static str, u64)>, BackendError> {
        let status = self.call("status", async { Ok(self.conn.maintenance().status().await?) }).await?;
        Ok(vec![("raft entries", status.raft_index())])
    }

    async fn size(&self) -> Result<Option<u64>, BackendError> {
        let status = self.call("status", async { Ok(self.conn.maintenance().status().await?) }).await?;
        Ok(u64::try_from(status.raft_used_db_size()).ok())
    }

    async fn clean_up(&self) -> Result<(), BackendError> {
        let all = DeleteOptions::new().with_prefix();
        let front = self.keys.front();
        let limit = CLEANED_UP_WITHIN.max(self.config.timeout);
        let delete = async { Ok(self.conn.kv().delete(front, Some(all)).await.map(drop)?) };
        self.call_within(limit, "clean up", delete).await?;
        for lease in [Some(self.lease), self.conn.epoch_lease()].into_iter().flatten() {
            let revoke = async { Ok(self.conn.lease().revoke(lease).await.map(drop)?) };
            self.call_within(limit, "clean up", revoke).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for EtcdBaseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdBaseline").field("config", &self.config).finish_non_exhaustive()
    }
}
