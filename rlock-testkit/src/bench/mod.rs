//! The measurements of `rlock bench`: the speed of locks on a store, and the parts of their time.
//!
//! A [`Subject`] makes clients of a store, and has the [`Baseline`](rlock_core::Baseline) of the store: its cost
//! without locks. [`run`] runs [`Benchmark`]s one after the other, and passes each result to an [`Observer`] as a
//! [`Row`] of plain data. A lock library is measured through [`Locks`]. An rlock [`Client`](rlock_core::Client)
//! implements it, and an adapter of another library can, so that one process measures both in the same way.
//!
//! Figures that are compared come from alternating turns within one benchmark, so that a slower machine affects both.

mod benchmark;
mod benchmarks;
mod counted;
pub mod cpu;
mod error;
mod lag;
mod load;
mod locks;
mod plan;
mod row;
mod samples;
mod subject;

pub use benchmark::Benchmark;
pub use counted::{Counted, Requests};
pub use error::BenchError;
pub use locks::Locks;
pub use plan::Plan;
pub use row::{Figure, Row, Unit};
pub use samples::Samples;
pub use subject::{Home, Observer, Subject};

/// Runs `benchmarks` on `subject`, in the order of [`Benchmark::ALL`], each once.
///
/// The clients of a benchmark are closed before the next one begins. The load stops by itself: a benchmark takes a few
/// times [`Plan::time`], or its number of cycles or leases.
///
/// # Errors
///
/// The first failure of the store or of a lock. The observer has the earlier rows, and the clients are closed.
///
/// # Cancel safety
///
/// Dropping the future ends the load. The clients stay open until [`Subject::close`].
pub async fn run<S: Subject>(
    subject: &S,
    plan: &Plan,
    benchmarks: &[Benchmark],
    observer: &mut dyn Observer,
) -> Result<(), BenchError> {
    for benchmark in Benchmark::ALL.into_iter().filter(|benchmark| benchmarks.contains(benchmark)) {
        let measured = match benchmark {
            Benchmark::RoundTrip => benchmarks::round_trip(subject, plan, observer).await,
            // The cycles are measured beside the pairs that they are compared with.
            Benchmark::Pair if benchmarks.contains(&Benchmark::Cycle) => Ok(()),
            Benchmark::Pair => benchmarks::pair(subject, plan, observer).await,
            Benchmark::Cycle => benchmarks::cycle(subject, plan, observer).await,
            Benchmark::Cpu => benchmarks::cpu(subject, plan, observer).await,
            Benchmark::HandOver => benchmarks::hand_over(subject, plan, observer).await,
            Benchmark::Queue => benchmarks::queue(subject, plan, observer).await,
            Benchmark::Contention => benchmarks::contention(subject, plan, observer).await,
            Benchmark::Renewal => benchmarks::renewal(subject, plan, observer).await,
            Benchmark::Drift => benchmarks::drift(subject, plan, observer).await,
        };
        let closed = subject.close().await;
        measured?;
        closed?;
    }
    Ok(())
}
