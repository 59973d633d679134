//! Calls of the thread that works on the file.

use std::sync::Arc;
use std::time::Duration;
use std::{io, process, thread};

use rlock_core::{BackendError, Cause, Events};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::SqliteConfig;
use crate::error::{CallError, Kind};
use crate::jobs::{Job, Jobs};
use crate::request::{Answer, Operation};
use crate::worker::Worker;

/// How many operations are one job, so that other clients can write between them.
const PART: usize = 64;

/// Calls a thread, which ends when this is dropped.
pub(crate) struct Calls {
    jobs: Arc<Jobs>,
    store: Arc<str>,
    /// For a disk that does not answer: everything else has its own limit.
    longest: Duration,
    process: u32,
}

impl Calls {
    /// Starts the thread, and returns once it has opened the file.
    pub(crate) async fn start(
        config: &Arc<SqliteConfig>,
        store: &Arc<str>,
        events: &Events,
    ) -> Result<Self, CallError> {
        let failed = |error: io::Error| {
            let reason = format!("the system has no room for another client: {error}");
            CallError { kind: Kind::Undone, cause: Cause::new(reason).caused_by(error) }
        };
        let jobs = Jobs::new().map(Arc::new).map_err(failed)?;
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
        is_open.await.unwrap_or_else(|_| Err(ended()))?;
        Ok(Self { jobs, store: store.clone(), longest: 4 * config.timeout, process: process::id() })
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
        let longest = self.longest;
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

    /// Whether this process is a fork of the one that made this. It has no thread for this.
    fn is_forked(&self) -> bool {
        process::id() != self.process
    }
}

impl Drop for Calls {
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
