//! Measures other lock libraries beside rlock, in one process and one run.
//!
//! All of them run the measurements of `rlock bench`. They take turns in short rounds, so that a slower machine affects
//! all alike, and the table shows medians over the rounds.

mod args;
mod library;
mod measured;
mod peers;
mod point;
mod rlock_itself;
mod rounds;
mod table;
mod target;

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use clap::Parser as _;
use rlock_testkit::bench::Home;

use crate::args::Args;
use crate::library::measured;
use crate::measured::Measured;
use crate::peers::{AdvisoryLock, DistributedLockPostgres, DistributedLockRedis, EtcdLock, Flock, Rslock};
use crate::target::Target;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // As in `rlock bench`, one thread does the work of all callers unless the arguments ask for more.
    let runtime = match args.threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        threads => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    };
    runtime.context("the operating system refused to start a runtime")?.block_on(compare(args))
}

async fn compare(args: Args) -> anyhow::Result<()> {
    let target = Arc::new(Target::connect(&args).await?);
    let subjects = subjects(&target)?;
    let measured = tokio::select! {
        measured = rounds::run(&args, &subjects) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted; the blocks above are complete")),
    };
    target.baseline.clean_up().await?;
    measured
}

/// rlock in both of its homes, and the other libraries for the store.
fn subjects(target: &Arc<Target>) -> anyhow::Result<Vec<Box<dyn Measured>>> {
    let mut subjects = vec![rlock_itself::measured(Home::Caller, target), rlock_itself::measured(Home::Own, target)];
    match target.scheme() {
        "redis" => subjects.extend([measured::<Rslock>(target), measured::<DistributedLockRedis>(target)]),
        "etcd" => subjects.push(measured::<EtcdLock>(target)),
        "postgres" | "postgresql" => {
            subjects.extend([measured::<AdvisoryLock>(target), measured::<DistributedLockPostgres>(target)]);
        }
        "sqlite" => subjects.push(measured::<Flock>(target)),
        other => bail!("no peer is known for {other}: use a redis://, etcd://, postgres:// or sqlite: URL"),
    }
    Ok(subjects)
}
