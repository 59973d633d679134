//! Implements [`Backend`] by transactions on etcd.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, EventStream, Events, Extended, Extension, Finding,
    ListFilter, Page, Release, Released, ResourceName, Snapshot, Ttl,
};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use crate::crowds::Crowds;
use crate::error::CallError;
use crate::events::Watcher;
use crate::inner::Inner;
use crate::keys::Keys;
use crate::link::Link;
use crate::own_leases::OwnLeases;
use crate::pool::Pool;
use crate::{ConnectError, EtcdConfig};

/// The leader ends expired leases every half second, by a write.
const EXPIRY_LAG: Duration = Duration::from_secs(1);

/// Leases in etcd.
///
/// The backend belongs to the tokio runtime that it was connected on. Dropping it closes its connection; held leases
/// live on until they expire.
pub struct EtcdBackend {
    config: Arc<EtcdConfig>,
    capabilities: Capabilities,
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

impl EtcdBackend {
    /// Connects to the first server that answers, and finds out the shortest TTL that it grants.
    ///
    /// After that, the backend replaces a lost connection in the background, by one to any server that has a leader;
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
        Box::pin(Self::open(config)) // otherwise the crate of each caller compiles the driver
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
        let own_leases = OwnLeases::new(keys.clone(), pool.clone(), commands, events.clone());
        let crowds = Crowds::default();
        let inner = Arc::new(Inner { config: config.clone(), store, keys, link, pool, own_leases, crowds, events });
        tasks.spawn(inner.clone().attend(sights));
        let capabilities = Capabilities {
            backend: "etcd",
            min_ttl: Ttl::new(inner.pool.min_ttl()).unwrap_or(Ttl::MIN),
            max_ttl: Ttl::MAX,
            ttl_step: Duration::from_secs(1),
            expiry_lag: EXPIRY_LAG,
            queue: true,
            push: true,
            rest: true,
            data: true,
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
        self.inner.release_all(releases).await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        self.inner.snapshot(resource).await.map_err(|error| self.inner.failed(error, "inspect"))
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        self.inner.page(filter).await
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        self.inner.break_all(resource).await.map_err(|error| self.inner.failed(error, "break"))
    }

    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        self.inner.findings().await
    }

    fn events(&self) -> EventStream {
        self.inner.events.stream()
    }
}

impl fmt::Debug for EtcdBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdBackend").field("config", &self.config).finish_non_exhaustive()
    }
}
