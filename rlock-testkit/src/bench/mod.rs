//! The measurements of `rlock bench`: the speed of locks on a store, and the parts of their time.
//!
//! A [`Subject`] makes clients of a store, and has the [`Baseline`](rlock_core::Baseline) of the store: its cost
//! without locks. [`run`] measures [`Line`]s one after the other, and passes each result to an [`Observer`] as a
//! [`Row`] of plain data. A lock library is measured through [`Locks`]. An rlock [`Client`](rlock_core::Client)
//! implements it, and an adapter of another library can, so that one process measures both in the same way.
//!
//! Figures that are compared come from alternating turns within one line, so that a slower machine affects both.

mod counted;
pub mod cpu;
mod error;
mod lag;
mod line;
mod lines;
mod load;
mod locks;
mod plan;
mod row;
mod samples;
mod subject;

pub use counted::{Counted, Requests};
pub use error::BenchError;
pub use line::Line;
pub use locks::Locks;
pub use plan::Plan;
pub use row::{Figure, Row, Unit};
pub use samples::Samples;
pub use subject::{Home, Observer, Subject};

/// Measures `lines` of `subject`, in the order of [`Line::ALL`], each once.
///
/// The clients of a line are closed before the next line begins. The load stops by itself: a line takes a few times
/// [`Plan::time`], or its number of cycles or leases.
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
    lines: &[Line],
    observer: &mut dyn Observer,
) -> Result<(), BenchError> {
    for line in Line::ALL.into_iter().filter(|line| lines.contains(line)) {
        let measured = match line {
            Line::RoundTrip => lines::round_trip(subject, plan, observer).await,
            // The cycles are measured beside the pairs that they are compared with.
            Line::Pair if lines.contains(&Line::Cycle) => Ok(()),
            Line::Pair => lines::pair(subject, plan, observer).await,
            Line::Cycle => lines::cycle(subject, plan, observer).await,
            Line::Cpu => lines::cpu(subject, plan, observer).await,
            Line::HandOver => lines::hand_over(subject, plan, observer).await,
            Line::Contention => lines::contention(subject, plan, observer).await,
            Line::Renewal => lines::renewal(subject, plan, observer).await,
            Line::Drift => lines::drift(subject, plan, observer).await,
        };
        let closed = subject.close().await;
        measured?;
        closed?;
    }
    Ok(())
}
