//! Measures lock and unlock beside the two writes that every lock needs.

use std::time::Instant;

use crate::bench::benchmark::Benchmark;
use crate::bench::error::BenchError;
use crate::bench::load::{Cycle, Operation, Pair, Until, load, names, timed};
use crate::bench::plan::Plan;
use crate::bench::row::Row;
use crate::bench::samples::Samples;
use crate::bench::subject::{Home, Observer, Subject};

/// The number of turns in which the pairs and the cycles of several tasks are measured.
pub(super) const TURNS: u32 = 4;

const PAIR: &str = "bare pair";

/// Measures the pairs alone.
pub(in crate::bench) async fn pair(
    subject: &impl Subject,
    plan: &Plan,
    observer: &mut dyn Observer,
) -> Result<(), BenchError> {
    let pair = Pair(subject.baseline());
    for &tasks in &plan.tasks {
        observer.begins(&format!("{PAIR}, {}", counted(tasks)));
        let names = names(&format!("pair/{tasks}"), tasks);
        load(&pair, &names, Until::Time(plan.time / 10)).await?;
        let samples = load(&pair, &names, Until::Time(plan.time)).await?;
        observer.row(Row::new(Benchmark::Pair, PAIR, tasks).bare().of(&samples));
    }
    Ok(())
}

/// Connects a client in each home that the subject has.
pub(super) async fn in_each_home<S: Subject>(subject: &S) -> Result<Vec<(Home, Cycle<S::Locks>)>, BenchError> {
    let mut cycles = Vec::new();
    for &home in subject.homes() {
        cycles.push((home, Cycle(subject.connect(home, None).await?)));
    }
    Ok(cycles)
}

/// Measures the pairs and the cycles.
pub(in crate::bench) async fn cycle(
    subject: &impl Subject,
    plan: &Plan,
    observer: &mut dyn Observer,
) -> Result<(), BenchError> {
    let pair = Pair(subject.baseline());
    let cycles = in_each_home(subject).await?;
    for &tasks in &plan.tasks {
        observer.begins(&format!("lock + unlock, {}", counted(tasks)));
        let names = names(&format!("cycle/{tasks}"), tasks);
        load(&pair, &names, Until::Time(plan.time / 10)).await?;
        for (_, cycle) in &cycles {
            load(cycle, &names, Until::Time(plan.time / 10)).await?;
        }
        let all: Vec<_> = cycles.iter().map(|(_, cycle)| cycle).collect();
        let (bare, owns) = match tasks {
            1 => one_by_one(&pair, &all, &names[0], plan).await?,
            _ => in_turns(&pair, &all, &names, plan).await?,
        };
        observer.row(Row::new(Benchmark::Pair, PAIR, tasks).bare().of(&bare));
        for ((home, _), own) in cycles.iter().zip(&owns) {
            let row = Row::new(Benchmark::Cycle, format!("lock + unlock, {}", home.says()), tasks).of(own);
            observer.row(if tasks == 1 { row.median_beside(own, &bare) } else { row.wall_beside(own, &bare) });
        }
    }
    Ok(())
}

/// Alternates one pair with one cycle of each client.
async fn one_by_one<C: Operation>(
    pair: &Pair,
    cycles: &[&C],
    name: &str,
    plan: &Plan,
) -> Result<(Samples, Vec<Samples>), BenchError> {
    let (mut bare, mut owns) = (Samples::default(), vec![Samples::default(); cycles.len()]);
    let begun = Instant::now();
    while begun.elapsed() < plan.time * share(cycles.len()) {
        timed(&mut bare, pair.run(name)).await?;
        for (cycle, own) in cycles.iter().zip(&mut owns) {
            timed(own, cycle.run(name)).await?;
        }
    }
    Ok((bare, owns))
}

/// Alternates a time of pairs with the same time of cycles of each client.
async fn in_turns<C: Operation>(
    pair: &Pair,
    cycles: &[&C],
    names: &[String],
    plan: &Plan,
) -> Result<(Samples, Vec<Samples>), BenchError> {
    let (mut bare, mut owns) = (Samples::default(), vec![Samples::default(); cycles.len()]);
    let until = Until::Time(plan.time / TURNS);
    for _ in 0..TURNS {
        bare.and_then(load(pair, names, until).await?);
        for (cycle, own) in cycles.iter().zip(&mut owns) {
            own.and_then(load(*cycle, names, until).await?);
        }
    }
    Ok((bare, owns))
}

fn share(clients: usize) -> u32 {
    u32::try_from(clients + 1).unwrap_or(1)
}

fn counted(tasks: usize) -> String {
    if tasks == 1 { "1 task".into() } else { format!("{tasks} tasks") }
}
