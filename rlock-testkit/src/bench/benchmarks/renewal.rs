//! Measures the renewal of many leases.

use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rlock_core::UnlockError;
use tokio::time::sleep;

use crate::bench::benchmark::Benchmark;
use crate::bench::cpu;
use crate::bench::error::BenchError;
use crate::bench::lag::WorstLag;
use crate::bench::locks::Locks;
use crate::bench::plan::Plan;
use crate::bench::row::{Row, Unit, quotient};
use crate::bench::subject::{Observer, Subject, usual_home};

/// The number of leases that are acquired or released at a time.
const AT_A_TIME: usize = 512;
/// The number of leases between two reports of progress.
const STEP: usize = 10_000;

pub(in crate::bench) async fn renewal<S: Subject>(
    subject: &S,
    plan: &Plan,
    observer: &mut dyn Observer,
) -> Result<(), BenchError> {
    let lag = WorstLag::default();
    let client = lag.while_connecting(subject.connect(usual_home(subject), Some(plan.ttl))).await?;
    drop(client.acquire("renewal/first").await?); // the first one allocates memory that later ones share
    let baseline = subject.baseline();
    let (before, size_before) = (cpu::resident_bytes(), baseline.size().await?);
    let acquire = async |number: usize| client.acquire(&format!("renewal/{number}")).await;
    let mut acquired = stream::iter(0..plan.leases).map(acquire).buffer_unordered(AT_A_TIME);
    let (mut held, begun) = (Vec::with_capacity(plan.leases), Instant::now());
    while let Some(one) = acquired.try_next().await? {
        if held.len() % STEP == 0 {
            observer.begins(&format!("renewal, {} of {} leases", held.len(), plan.leases));
        }
        held.push(one);
    }
    drop(acquired);
    let acquiring = begun.elapsed();
    let memory = growth(cpu::resident_bytes(), before);
    let size_held = growth(baseline.size().await?, size_before);

    let window = plan.ttl / 3;
    observer.begins(&format!("renewal of {} leases for {window:.0?}", plan.leases));
    lag.take();
    let (used, begun) = (cpu::of_this_process(), Instant::now());
    let server = cpu::of_trees(&plan.servers);
    sleep(window).await;
    let took = begun.elapsed().as_secs_f64();
    let share = |used: std::time::Duration| 100.0 * used.as_secs_f64() / took;
    let client_share = share(cpu::of_this_process().saturating_sub(used));
    let server = cpu::of_trees(&plan.servers).zip(server).map(|(now, then)| share(now.saturating_sub(then)));
    let worst = lag.take();

    observer.begins(&format!("releasing {} leases", plan.leases));
    let release = async |held| client.release(held).await;
    let mut released = stream::iter(held).map(release).buffer_unordered(AT_A_TIME);
    let mut lost = 0_usize;
    while let Some(released) = released.next().await {
        match released {
            Err(BenchError::Unlock(UnlockError::Lost(_))) => lost += 1,
            released => released?,
        }
    }
    let size_idle = growth(baseline.size().await?, size_before);
    let mut row = Row::new(Benchmark::Renewal, "renewal", plan.leases);
    row.figure("client_core_percent", "of a core, the client", client_share, Unit::Percent);
    if let Some(share) = server {
        row.figure("server_core_percent", "of a core, the server", share, Unit::Percent);
    }
    let sizes = [
        ("bytes_per_lease", "a lease", memory),
        ("store_bytes_per_lease", "of the store a lease", size_held),
        ("store_bytes_per_idle_name", "of the store a released name", size_idle),
    ];
    for (name, label, bytes) in sizes {
        if let Some(bytes) = bytes {
            row.figure(name, label, bytes as f64 / plan.leases.max(1) as f64, Unit::Bytes);
        }
    }
    if let Some(worst) = worst {
        row.figure("worst_lag_us", "worst lag", worst.as_secs_f64() * 1e6, Unit::Micros);
    }
    row.samples = plan.leases;
    row.per_second = quotient(Some(plan.leases as f64), Some(acquiring.as_secs_f64()));
    row.figure("lost", "lost", lost as f64, Unit::Count);
    observer.row(row);
    Ok(())
}

fn growth(now: Option<u64>, before: Option<u64>) -> Option<u64> {
    Some(now?.saturating_sub(before?))
}
