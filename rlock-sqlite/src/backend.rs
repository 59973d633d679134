//! The contract of core, on a file.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, EventStream, Events, Extended, Extension, Finding,
    ListFilter, Page, Release, Released, ResourceName, Snapshot, Ttl,
};

use crate::calls::Calls;
use crate::error::{CallError, Kind};
use crate::request::{Answer, Operation};
use crate::{ConnectError, SqliteConfig};

/// A write takes as long as the disk, now and then.
const MIN_TTL: Duration = Duration::from_millis(50);

/// Leases in a file, for the processes of one host.
///
/// The backend has its own thread. Dropping the backend closes the file; the leases that are held then live on until they
/// expire.
pub struct SqliteBackend {
    config: Arc<SqliteConfig>,
    store: Arc<str>,
    capabilities: Capabilities,
    pub(crate) calls: Calls,
    events: Events,
}

impl SqliteBackend {
    /// Opens the file. If it is missing, creates it and its folders for the users that
    /// [`access`](SqliteConfig::access) names.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]
    ///
    /// - if this user lacks a right, or the disk is full,
    /// - on a network file system, and on FUSE without [`local_file_system`](SqliteConfig::local_file_system),
    /// - if the file is damaged, or belongs to another program or another version of rlock,
    /// - if the processes that use the file count time by another clock.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the file, which may have been created.
    pub fn connect(config: SqliteConfig) -> Pin<Box<dyn Future<Output = Result<Self, ConnectError>> + Send>> {
        Box::pin(Self::open(config)) // or the crate of each caller compiles the driver
    }

    async fn open(config: SqliteConfig) -> Result<Self, ConnectError> {
        let store = Arc::<str>::from(config.address());
        let (config, events) = (Arc::new(config), Events::default());
        let calls = Calls::start(&config, &store, &events).await;
        let calls = calls.map_err(|error| error.into_connect_error(&store))?;
        let capabilities = Capabilities {
            backend: "sqlite",
            min_ttl: Ttl::new(MIN_TTL).expect("a TTL that can be used"),
            max_ttl: Ttl::MAX,
            ttl_step: Duration::from_millis(1),
            expiry_lag: Duration::ZERO,
            queue: true,
            push: true,
            rest: true,
            data: true,
        };
        Ok(Self { config, store, capabilities, calls, events })
    }

    /// The file, with the links that lead to it.
    pub(crate) fn path(&self) -> &Path {
        &self.config.path
    }
}

fn at_least(ttl: Ttl) -> Ttl {
    ttl.max(Ttl::new(MIN_TTL).expect("a TTL that can be used"))
}

#[async_trait]
impl Backend for SqliteBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        let acquire = |claim: &Claim| Operation::Acquire(Claim { ttl: at_least(claim.ttl), ..claim.clone() });
        let early = |left| {
            let reason = format!(
                "the file, or its log, was deleted; others may have held locks in it, so nothing is granted for {left:?} yet"
            );
            CallError::new(Kind::Undone, reason).into_backend_error("acquire", &self.store)
        };
        self.calls
            .run("acquire", claims.iter().map(acquire).collect(), |operation, answer| match (operation, answer) {
                (_, Answer::Acquired(acquired)) => Some(Ok(acquired)),
                (Operation::Acquire(claim), Answer::OtherCapacity(actual)) => {
                    let (resource, asked) = (claim.key.resource.clone(), claim.share.capacity());
                    Some(Err(BackendError::CapacityMismatch { resource, asked, actual }))
                }
                (_, Answer::Early(left)) => Some(Err(early(left))),
                _ => None,
            })
            .await
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let extend =
            |extension: &Extension| Operation::Extend(Extension { ttl: at_least(extension.ttl), ..extension.clone() });
        self.calls
            .run("extend", extensions.iter().map(extend).collect(), |_, answer| match answer {
                Answer::Extended(extended) => Some(Ok(extended)),
                _ => None,
            })
            .await
    }

    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        let operations = releases.iter().map(|release| Operation::Release(release.clone())).collect();
        self.calls
            .run("release", operations, |_, answer| match answer {
                Answer::Released(released) => Some(Ok(released)),
                _ => None,
            })
            .await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        let answers = self.calls.run("inspect", vec![Operation::Inspect(resource.clone())], |_, answer| match answer {
            Answer::Inspected(snapshot) => Some(Ok(snapshot)),
            _ => None,
        });
        answers.await.remove(0)
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        let answers = self.calls.run("list", vec![Operation::List(filter.clone())], |_, answer| match answer {
            Answer::Listed(page) => Some(Ok(page)),
            _ => None,
        });
        answers.await.remove(0)
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        let answers = self.calls.run("break", vec![Operation::Break(resource.clone())], |_, answer| match answer {
            Answer::Broken(count) => Some(Ok(count)),
            _ => None,
        });
        answers.await.remove(0)
    }

    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        self.findings().await
    }

    fn events(&self) -> EventStream {
        self.events.stream()
    }
}

impl fmt::Debug for SqliteBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBackend").field("config", &self.config).finish_non_exhaustive()
    }
}
