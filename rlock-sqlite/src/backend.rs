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
use tokio::sync::{mpsc, oneshot};

use crate::error::{CallError, Kind};
use crate::keeper::{Job, Keeper};
use crate::table::{Answer, Operation};
use crate::{ConnectError, SqliteConfig};

/// How many jobs can be on their way.
const QUEUE: usize = 64;
/// How many operations are one job, so that others can write between them.
const PART: usize = 64;
/// A write takes as long as the disk, now and then.
const MIN_TTL: Duration = Duration::from_millis(50);

/// Leases in a file, for the processes of one host.
///
/// It belongs to the tokio runtime that it was connected on. Dropping it closes the file; leases that are held then live on
/// until they expire.
pub struct SqliteBackend {
    config: Arc<SqliteConfig>,
    store: Arc<str>,
    capabilities: Capabilities,
    jobs: mpsc::Sender<Job>,
    events: Events,
}

impl SqliteBackend {
    /// Opens the file. One that is not there is created, with its folders, for this user alone.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if that fails: for want of rights or room, on a network file system, or because the file is another
    /// program's, damaged, or of another version.
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
        let keeper = Keeper::open(config.clone(), events.clone()).await;
        let keeper = keeper.map_err(|error| error.into_connect_error(&store))?;
        let (jobs, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(keeper.keep(receiver));
        let capabilities = Capabilities {
            backend: "sqlite",
            min_ttl: Ttl::new(MIN_TTL).expect("a TTL that can be used"),
            max_ttl: Ttl::MAX,
            ttl_step: Duration::from_millis(1),
            expiry_lag: Duration::ZERO,
            queue: true,
            push: true,
            rest: false,
            data: false,
        };
        Ok(Self { config, store, capabilities, jobs, events })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.config.path
    }

    /// Has operations done, and `read`s the answers.
    pub(crate) async fn run<T>(
        &self,
        name: &'static str,
        operations: Vec<Operation>,
        read: impl Fn(&Operation, Answer) -> Option<Result<T, BackendError>>,
    ) -> Vec<Result<T, BackendError>> {
        let failed = |error: CallError| error.into_backend_error(name, &self.store);
        let mut sent = Vec::new();
        for operations in parts(operations) {
            let (reply, answers) = oneshot::channel();
            // If it cannot be sent, the reply goes away with it.
            let _keeper_gone = self.jobs.send(Job { operations: operations.clone(), reply }).await;
            sent.push((operations, answers));
        }
        let mut results = Vec::new();
        for (operations, answers) in sent {
            let ended = || Err(CallError::new(Kind::Uncertain, "the runtime that it was connected on has ended"));
            match answers.await.unwrap_or_else(|_| ended()) {
                Ok(answers) => {
                    let foreign = || Err(failed(CallError::new(Kind::Uncertain, "the answer is to something else")));
                    let pairs = operations.iter().zip(answers);
                    results.extend(pairs.map(|(operation, answer)| read(operation, answer).unwrap_or_else(foreign)));
                }
                Err(error) => results.extend(operations.iter().map(|_| Err(failed(error.clone())))),
            }
        }
        results
    }
}

/// Parts that need not be done in one transaction.
fn parts(mut operations: Vec<Operation>) -> Vec<Arc<[Operation]>> {
    let mut parts = Vec::with_capacity(operations.len().div_ceil(PART));
    while !operations.is_empty() {
        let later = operations.split_off(operations.len().min(PART));
        parts.push(operations.into());
        operations = later;
    }
    parts
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
                "the file is in the place of a deleted one, in which others may have held locks, for {left:?} yet"
            );
            CallError::new(Kind::Undone, reason).into_backend_error("acquire", &self.store)
        };
        self.run("acquire", claims.iter().map(acquire).collect(), |operation, answer| match (operation, answer) {
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
        self.run("extend", extensions.iter().map(extend).collect(), |_, answer| match answer {
            Answer::Extended(extended) => Some(Ok(extended)),
            _ => None,
        })
        .await
    }

    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        let operations = releases.iter().map(|release| Operation::Release(release.key.clone())).collect();
        self.run("release", operations, |_, answer| match answer {
            Answer::Released(released) => Some(Ok(released)),
            _ => None,
        })
        .await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        let answers = self.run("inspect", vec![Operation::Inspect(resource.clone())], |_, answer| match answer {
            Answer::Inspected(snapshot) => Some(Ok(snapshot)),
            _ => None,
        });
        answers.await.remove(0)
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        let answers = self.run("list", vec![Operation::List(filter.clone())], |_, answer| match answer {
            Answer::Listed(page) => Some(Ok(page)),
            _ => None,
        });
        answers.await.remove(0)
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        let answers = self.run("break", vec![Operation::Break(resource.clone())], |_, answer| match answer {
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
