//! Measures many tasks on one name.

use futures_util::future::try_join_all;

use super::counters::Counters;
use crate::bench::benchmark::Benchmark;
use crate::bench::error::BenchError;
use crate::bench::load::{Cycle, Until, load};
use crate::bench::locks::Locks;
use crate::bench::plan::Plan;
use crate::bench::row::{Row, Unit};
use crate::bench::samples::Samples;
use crate::bench::subject::{Observer, Subject, usual_home};

const TASKS: usize = 64;
const CLIENTS: [usize; 2] = [1, 8];

pub(in crate::bench) async fn contention<S: Subject>(
    subject: &S,
    plan: &Plan,
    observer: &mut dyn Observer,
) -> Result<(), BenchError> {
    for clients in CLIENTS {
        let plural = if clients == 1 { "" } else { "s" };
        let what = format!("one name, {clients} client{plural}");
        observer.begins(&format!("{TASKS} tasks on {what}"));
        let mut cycles = Vec::new();
        for _ in 0..clients {
            cycles.push(Cycle(subject.connect(usual_home(subject), None).await?));
        }
        contend(&cycles, Until::Time(plan.time / 10)).await?;
        let requested = subject.requests().map(|requests| requests.count());
        let counted = Counters::read(subject).await?;
        let samples = contend(&cycles, Until::Time(plan.time)).await?;
        let counted = Counters::read(subject).await?.since(&counted);
        let mut row = Row::new(Benchmark::Contention, what, TASKS).of(&samples);
        if let Some((now, then)) = subject.requests().map(|requests| requests.count()).zip(requested) {
            let each = (now - then) as f64 / samples.count().max(1) as f64;
            row.figure("requests_per_turn", "requests a turn", each, Unit::Count);
        }
        counted.add_to(&mut row, samples.count(), "turn");
        observer.row(row);
        drop(cycles);
        subject.close().await?;
    }
    Ok(())
}

async fn contend<L: Locks>(cycles: &[Cycle<L>], until: Until) -> Result<Samples, BenchError> {
    let names = vec!["contention".to_owned(); TASKS / cycles.len()];
    let begun = std::time::Instant::now();
    let mut all = Samples::default();
    for samples in try_join_all(cycles.iter().map(|cycle| load(cycle, &names, until))).await? {
        all.beside(samples);
    }
    all.lasted(begun.elapsed());
    Ok(all)
}
