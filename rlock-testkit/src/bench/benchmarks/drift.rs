//! Compares the cost of a cycle after many cycles with the cost of the first.

use crate::bench::benchmark::Benchmark;
use crate::bench::error::BenchError;
use crate::bench::load::{Cycle, Pair, Until, load, names};
use crate::bench::plan::Plan;
use crate::bench::row::{Row, Unit, quotient};
use crate::bench::subject::{Observer, Subject, usual_home};

const TASKS: usize = 64;
/// The number of cycles in each of the two samples.
const WINDOW: usize = 5_000;

pub(in crate::bench) async fn drift<S: Subject>(
    subject: &S,
    plan: &Plan,
    observer: &mut dyn Observer,
) -> Result<(), BenchError> {
    let (pair, cycle) = (Pair(subject.baseline()), Cycle(subject.connect(usual_home(subject), None).await?));
    // Only the names are new, so that the client is already warm.
    let warm_up = names("drift-warm-up", TASKS);
    load(&pair, &warm_up, Until::Time(plan.time / 10)).await?;
    load(&cycle, &warm_up, Until::Time(plan.time / 10)).await?;
    let (bare_names, names) = (names("drift-bare", TASKS), names("drift", TASKS));
    let window = WINDOW.min(plan.drift_cycles / 2).max(TASKS);
    observer.begins(&format!("drift, the first {window} cycles"));
    let bare_first = load(&pair, &bare_names, Until::Count(window)).await?;
    let first = load(&cycle, &names, Until::Count(window)).await?;
    let mut done = first.count();
    while done < plan.drift_cycles {
        observer.begins(&format!("drift, {done} of {} cycles", plan.drift_cycles));
        done += load(&cycle, &names, Until::Count(window)).await?.count();
    }
    let last = load(&cycle, &names, Until::Count(window)).await?;
    let bare_last = load(&pair, &bare_names, Until::Count(window)).await?;
    let mut row = Row::new(Benchmark::Drift, "cycles after many others", TASKS).of(&last).wall_beside(&last, &first);
    if let Some(first) = first.per_second() {
        row.figure("first_per_second", format!("cycles/s in the first {window}"), first, Unit::Count);
    }
    // Names that are not locked drift only with the machine and the store.
    if let Some(ratio) = quotient(bare_first.per_second(), bare_last.per_second()) {
        row.figure("bare_ratio", "for bare pairs at the same moments", ratio, Unit::Times);
    }
    row.figure("cycles_before", format!("cycles before the last {window}"), done as f64, Unit::Count);
    observer.row(row);
    Ok(())
}
