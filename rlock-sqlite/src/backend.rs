//! The contract of core, on a file.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::{process, thread};

use async_trait::async_trait;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, EventStream, Events, Extended, Extension, Finding,
    ListFilter, Page, Release, Released, ResourceName, Snapshot, Ttl,
};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::error::{CallError, Kind};
use crate::jobs::{Job, Jobs};
use crate::request::{Answer, Operation};
use crate::worker::Worker;
use crate::{ConnectError, SqliteConfig};

/// How many operations are one job, so that other clients can write between them.
const PART: usize = 64;
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
    jobs: Arc<Jobs>,
    process: u32,
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
        let (config, events, jobs) = (Arc::new(config), Events::default(), Jobs::new().map(Arc::new));
        let failed = |error: std::io::Error| {
            let reason = format!("the system has no room for another client: {error}");
            CallError::new(Kind::Undone, reason).caused_by(error).into_connect_error(&store)
        };
        let jobs = jobs.map_err(failed)?;
        let (opened, is_open) = oneshot::channel();
        let work = {
            let (config, events, jobs) = (config.clone(), events.clone(), jobs.clone());
            move || match Worker::open(config, events) {
                Ok(worker) => {
                    if opened.send(Ok(())).is_ok() {
                        worker.work(&jobs);
                    }
                }
                Err(error) => {
                    let _dropped = opened.send(Err(error));
                }
            }
        };
        thread::Builder::new().name("rlock-sqlite".into()).spawn(work).map_err(failed)?;
        let is_open = is_open.await.unwrap_or_else(|_| Err(ended()));
        is_open.map_err(|error| error.into_connect_error(&store))?;
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
        Ok(Self { config, store, capabilities, jobs, process: process::id(), events })
    }

    /// The file, with the links that lead to it.
    pub(crate) fn path(&self) -> &Path {
        &self.config.path
    }

    /// Whether this process is a fork of the one that made this. It has no thread for this.
    fn is_forked(&self) -> bool {
        process::id() != self.process
    }

    /// Has operations done, and `read`s the answers.
    pub(crate) async fn run<T>(
        &self,
        name: &'static str,
        operations: Vec<Operation>,
        read: impl Fn(&Operation, Answer) -> Option<Result<T, BackendError>>,
    ) -> Vec<Result<T, BackendError>> {
        let failed = |error: CallError| error.into_backend_error(name, &self.store);
        if self.is_forked() {
            let reason =
                "the client was made before a fork, and its thread is in the parent: connect again in the child";
            let forked = CallError::new(Kind::Refused, reason);
            return operations.iter().map(|_| Err(failed(forked.clone()))).collect();
        }
        let mut sent = Vec::new();
        for operations in parts(operations) {
            let (reply, answers) = oneshot::channel();
            self.jobs.send(Job { operations: operations.clone(), reply });
            sent.push((operations, answers));
        }
        // For a disk that does not answer: everything else has its own limit.
        let longest = 4 * self.config.timeout;
        let mut results = Vec::new();
        for (operations, answers) in sent {
            let late = |_| {
                let reason = format!("no answer within {longest:?}: the disk is stuck or slow");
                Ok(Err(CallError::new(Kind::Uncertain, reason)))
            };
            match timeout(longest, answers).await.unwrap_or_else(late).unwrap_or_else(|_| Err(ended())) {
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

impl Drop for SqliteBackend {
    fn drop(&mut self) {
        // The parent's thread may have held the mutex of the jobs during the fork, and the parent shares the alarm.
        if !self.is_forked() {
            self.jobs.close();
        }
    }
}

fn ended() -> CallError {
    CallError::new(Kind::Uncertain, "the thread that works on the file has ended")
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
                "the file, or its log, was deleted; others may have held locks in it, so nothing is granted for {left:?} yet"
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
        let operations = releases.iter().map(|release| Operation::Release(release.clone())).collect();
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
