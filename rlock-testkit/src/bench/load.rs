//! The operations that are measured, and their load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rlock_core::Baseline;
use tokio::task::JoinSet;

use super::error::BenchError;
use super::locks::Locks;
use super::samples::Samples;

/// An operation that a load repeats.
pub(crate) trait Operation: Clone + Send + Sync + 'static {
    fn run(&self, name: &str) -> impl Future<Output = Result<(), BenchError>> + Send;
}

/// The two writes, without a lock.
#[derive(Debug, Clone)]
pub(crate) struct Pair(pub(crate) Arc<dyn Baseline>);

impl Operation for Pair {
    async fn run(&self, name: &str) -> Result<(), BenchError> {
        Ok(self.0.pair(name).await?)
    }
}

/// Lock and unlock.
#[derive(Debug, Clone)]
pub(crate) struct Cycle<L>(pub(crate) L);

impl<L: Locks> Operation for Cycle<L> {
    async fn run(&self, name: &str) -> Result<(), BenchError> {
        let held = self.0.acquire(name).await?;
        self.0.release(held).await
    }
}

/// The end of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// Each task stops with its first operation that ends after this time.
    Time(Duration),
    /// The tasks stop after this number of operations in total, rounded up to the same number for each.
    Count(usize),
}

/// Returns a name for each task.
pub(crate) fn names(front: &str, tasks: usize) -> Vec<String> {
    (0..tasks).map(|task| format!("{front}/{task}")).collect()
}

/// Runs a task for each name, which repeats an operation on that name.
pub(crate) async fn load(operation: &impl Operation, names: &[String], until: Until) -> Result<Samples, BenchError> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for name in names {
        let (operation, name, most) = (operation.clone(), name.clone(), names.len());
        tasks.spawn(async move {
            let mut samples = Samples::default();
            loop {
                let started = Instant::now();
                operation.run(&name).await?;
                samples.add(started.elapsed());
                let is_over = match until {
                    Until::Time(time) => begun.elapsed() >= time,
                    Until::Count(count) => samples.count() * most >= count,
                };
                if is_over {
                    return Ok::<_, BenchError>(samples);
                }
            }
        });
    }
    let mut samples = Samples::default();
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(of_task) => samples.beside(of_task?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    samples.lasted(begun.elapsed());
    Ok(samples)
}

/// Adds the time of one operation to `samples`.
pub(crate) async fn timed(
    samples: &mut Samples,
    operation: impl Future<Output = Result<(), BenchError>>,
) -> Result<(), BenchError> {
    let begun = Instant::now();
    operation.await?;
    samples.add(begun.elapsed());
    samples.lasted(begun.elapsed());
    Ok(())
}
