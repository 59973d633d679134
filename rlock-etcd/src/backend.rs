//! The contract of core, kept by transactions on etcd.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, EventStream, Events, Extended, Extension, Finding, Holder,
    LeaseKey, ListFilter, Page, Release, Released, ResourceName, Snapshot, Ttl, Waiter,
};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use crate::error::{CallError, Kind};
use crate::inner::{Inner, foreign};
use crate::keys::Keys;
use crate::line::Entry;
use crate::link::Link;
use crate::pool::Pool;
use crate::record::{Since, ago};
use crate::table::Table;
use crate::txn::{self, CHUNK, Outcome};
use crate::watcher::Watcher;
use crate::{ConnectError, EtcdConfig};

/// How many leases are asked about at a time, where each takes a request of its own.
const ASKED_TOGETHER: usize = 32;

/// The leader ends leases that have expired every half second, by a write.
const EXPIRY_LAG: Duration = Duration::from_secs(1);

/// Leases in etcd.
///
/// It belongs to the tokio runtime that it was connected on. Dropping it closes its connection; leases that are held then
/// live on until they expire.
pub struct EtcdBackend {
    config: Arc<EtcdConfig>,
    capabilities: Capabilities,
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

impl EtcdBackend {
    /// Connects to whichever of the servers answers first, and finds out which TTLs it grants.
    ///
    /// From then on a connection that is lost is replaced in the background, by one to any of the servers that has a leader;
    /// requests fail meanwhile.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if no server answers in time, none has a leader, or they refuse the user.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub fn connect(config: EtcdConfig) -> Pin<Box<dyn Future<Output = Result<Self, ConnectError>> + Send>> {
        Box::pin(Self::open(config)) // or the crate of each caller compiles the driver
    }

    async fn open(config: EtcdConfig) -> Result<Self, ConnectError> {
        let store = Arc::<str>::from(config.address());
        let failed = |error: CallError| error.into_connect_error(&store);
        let config = Arc::new(config);
        let keys = Keys::new(&config.namespace);
        let link = Arc::new(Link::open(config.clone()).await.map_err(failed)?);
        let mut tasks = JoinSet::new();
        let pool = Pool::open(link.clone(), &config, &mut tasks).await.map_err(failed)?;
        let (commands, watched) = unbounded_channel();
        let (seen, sights) = unbounded_channel();
        let events = Events::default();
        tasks.spawn(Watcher::new(link.clone(), watched, seen).run());
        let table = Table::new(keys.clone(), pool.clone(), commands, events.clone());
        let inner = Arc::new(Inner { store, keys, link, pool, table, events });
        tasks.spawn(inner.clone().attend(sights));
        let capabilities = Capabilities {
            backend: "etcd",
            min_ttl: Ttl::new(inner.pool.min_ttl()).unwrap_or(Ttl::MIN),
            max_ttl: Ttl::MAX,
            ttl_step: Duration::from_secs(1),
            expiry_lag: EXPIRY_LAG,
            queue: true,
            push: true,
            rest: false,
            data: false,
        };
        Ok(Self { config, capabilities, inner, _tasks: tasks })
    }
}

#[async_trait]
impl Backend for EtcdBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        self.inner.claim(claims).await
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        self.inner.extend_all(extensions).await
    }

    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        let leases: Vec<LeaseKey> = releases.iter().map(|release| release.key.clone()).collect();
        leases.iter().for_each(|lease| self.inner.table.releasing(lease.id));
        let parts = leases.chunks(CHUNK).map(|part| self.inner.release(part));
        join_all(parts).await.into_iter().flatten().collect()
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        self.inner.snapshot(resource).await.map_err(|error| self.inner.failed(error, "inspect"))
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        self.inner.page(filter).await
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        self.inner.break_leases(resource).await.map_err(|error| self.inner.failed(error, "break"))
    }

    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        self.inner.findings().await
    }

    fn events(&self) -> EventStream {
        self.inner.events.stream()
    }
}

impl Inner {
    async fn release(&self, leases: &[LeaseKey]) -> Vec<Result<Released, BackendError>> {
        let ops = leases.iter().map(|lease| txn::delete(&self.keys.lease(lease))).collect();
        let answer = match self.run(ops).await {
            Ok(answer) => answer,
            Err(error) => {
                let failure = self.failed(error, "release");
                return leases.iter().map(|_| Err(failure.clone())).collect();
            }
        };
        let released = |(lease, outcome): (&LeaseKey, &Outcome)| match outcome {
            Outcome::Deleted(true) => {
                self.table.released(lease.id);
                Ok(Released::Released)
            }
            // By the request that was sent before, perhaps.
            Outcome::Deleted(false) if answer.repeated => {
                let reason =
                    "the lease is not there, and an earlier request that was not answered may have released it";
                Err(self.failed(CallError::new(Kind::Unanswered, reason), "release"))
            }
            Outcome::Deleted(false) => {
                self.table.released(lease.id);
                Ok(Released::Absent)
            }
            _ => Err(self.failed(foreign(), "release")),
        };
        leases.iter().zip(&answer.value.answers).map(released).collect()
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, CallError> {
        let [line] = &self.lines(&[resource]).await?[..] else { return Err(foreign()) };
        let key = |entry: &Entry| self.keys.lease(&LeaseKey { resource: resource.clone(), id: entry.id });
        let mut broken = 0;
        for part in line.holders().chunks(CHUNK) {
            let ops = part.iter().map(|entry| txn::delete(&key(entry))).collect();
            let outcomes = self.run(ops).await?.value.answers;
            broken += outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Deleted(true))).count() as u64;
        }
        Ok(broken)
    }

    async fn snapshot(&self, resource: &ResourceName) -> Result<Snapshot, CallError> {
        let mut lines = self.lines(&[resource]).await?;
        let Some(line) = lines.pop() else { return Err(foreign()) };
        let life = |entry: &Entry| {
            let lease = entry.lease;
            async move { self.life(lease).await }
        };
        let lives: Vec<_> = stream::iter(&line.leases).map(life).buffered(ASKED_TOGETHER).collect().await;
        let mut snapshot = Snapshot {
            resource: resource.clone(),
            capacity: line.capacity(),
            holders: Vec::new(),
            queue: Vec::new(),
            rest: None,
        };
        let holders = line.holders().len();
        for (at, (entry, life)) in line.leases.iter().zip(lives).enumerate() {
            let (owner, weight, remaining) = (entry.record.owner(), entry.record.share.weight(), life?.left);
            if at < holders {
                let held_for = match entry.record.since {
                    Since::Granted(at) => ago(at),
                    Since::Asked(_) => Duration::ZERO,
                };
                snapshot.holders.push(Holder { owner, token: entry.token, weight, held_for, remaining, data: None });
            } else {
                let (Since::Granted(at) | Since::Asked(at)) = entry.record.since;
                snapshot.queue.push(Waiter { owner, weight, waiting_for: ago(at), remaining, data: None });
            }
        }
        Ok(snapshot)
    }
}

impl fmt::Debug for EtcdBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdBackend").field("config", &self.config).finish_non_exhaustive()
    }
}
