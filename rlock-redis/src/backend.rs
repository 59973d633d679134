//! Implements [`Backend`] by Lua scripts.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, EventStream, Events, Extended, Extension, Finding, LeaseId,
    ListFilter, Page, Release, Released, ResourceName, Snapshot, Ttl,
};
use tokio::sync::Notify;

use crate::answers::Unreadable;
use crate::confirm::Confirmer;
use crate::error::CallError;
use crate::events::Inbox;
use crate::keys::{Keys, inbox_channel};
use crate::route::Route;
use crate::set_use::SetUses;
use crate::{ConnectError, RedisConfig};

/// Leases in Redis: on one server, on the primary that sentinels name, or in a cluster.
///
/// The backend belongs to the tokio runtime that it was connected on. Dropping it closes its connections; held leases
/// live on until they expire.
pub struct RedisBackend {
    pub(crate) config: Arc<RedisConfig>,
    pub(crate) store: Arc<str>,
    pub(crate) keys: Keys,
    /// The random name of the channel on which the scripts notify this client.
    pub(crate) inbox: LeaseId,
    pub(crate) route: Arc<Route>,
    pub(crate) confirmer: Option<Confirmer>,
    pub(crate) set_use: SetUses,
    events: Events,
    _inbox: Inbox,
}

impl RedisBackend {
    /// Connects to the servers, checks that they can serve, and loads the scripts.
    ///
    /// After that, the backend reopens lost connections in the background; requests fail meanwhile.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if no server answers in time, or if the server
    ///
    /// - refuses the user or the database,
    /// - is older than Redis 6.2,
    /// - is a node of a Redis Cluster or a sentinel, and the URL has another scheme,
    /// - denies the user one of the [rights](RedisConfig::ACL_RULES) that rlock needs, or
    /// - withholds its uptime, which a [`restart_grace`](RedisConfig::restart_grace) other than zero needs.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub fn connect(config: RedisConfig) -> Pin<Box<dyn Future<Output = Result<Self, ConnectError>> + Send>> {
        Box::pin(Self::open(config)) // otherwise the crate of each caller compiles the driver
    }

    async fn open(config: RedisConfig) -> Result<Self, ConnectError> {
        let store = Arc::<str>::from(config.address());
        let config = Arc::new(config);
        let failed = |error: CallError| error.into_connect_error(&store);
        let keys = Keys::new(&config.namespace);
        let inbox = LeaseId::random();
        let events = Events::default();
        let doubted = Arc::new(Notify::new());
        let route = Route::open(config.clone(), keys.clone(), &events, &doubted).await.map_err(failed)?;
        let subscription = Inbox::open(route.listener(), inbox_channel(inbox), events.clone(), doubted);
        let subscription = subscription.await.map_err(failed)?;
        let route = Arc::new(route);
        let confirmer =
            config.replicas.map(|wanted| Confirmer::new(wanted, route.clone(), keys.clone(), events.clone()));
        Ok(Self {
            config,
            store,
            keys,
            inbox,
            route,
            confirmer,
            set_use: SetUses::default(),
            events,
            _inbox: subscription,
        })
    }

    pub(crate) fn call_failed(&self, error: CallError, operation: &'static str) -> BackendError {
        error.into_backend_error(operation, &self.store)
    }

    pub(crate) fn failed(&self, error: Unreadable, operation: &'static str) -> BackendError {
        error.into_failure(operation, &self.store)
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.config.timeout
    }

    pub(crate) fn restart_grace(&self) -> Duration {
        self.config.restart_grace
    }
}

#[async_trait]
impl Backend for RedisBackend {
    fn capabilities(&self) -> &Capabilities {
        const STEP: Duration = Duration::from_millis(1);
        const CAN: Capabilities = Capabilities {
            backend: "redis",
            min_ttl: Ttl::MIN,
            max_ttl: Ttl::MAX,
            ttl_step: STEP,
            expiry_lag: Duration::ZERO,
            queue: true,
            push: true,
            rest: true,
            data: true,
        };
        &CAN
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        self.acquire_all(claims).await
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        self.extend_all(extensions).await
    }

    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        self.release_all(releases).await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        self.snapshot(resource).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        self.page(filter).await
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        self.break_all(resource).await
    }

    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        self.findings().await
    }

    fn events(&self) -> EventStream {
        self.events.stream()
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("config", &self.config).finish_non_exhaustive()
    }
}
