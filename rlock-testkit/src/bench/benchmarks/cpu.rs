//! Measures the CPU time of the client and of the server.

use std::time::Duration;

use super::counters::Counters;
use super::cycle::{TURNS, in_each_home};
use crate::bench::benchmark::Benchmark;
use crate::bench::cpu as process;
use crate::bench::error::BenchError;
use crate::bench::load::{Operation, Pair, Until, load, names};
use crate::bench::plan::Plan;
use crate::bench::row::{Row, Unit, quotient};
use crate::bench::subject::{Observer, Subject};

const TASKS: [usize; 2] = [1, 64];

pub(in crate::bench) async fn cpu(
    subject: &impl Subject,
    plan: &Plan,
    observer: &mut dyn Observer,
) -> Result<(), BenchError> {
    let pair = Pair(subject.baseline());
    let cycles = in_each_home(subject).await?;
    for tasks in TASKS {
        observer.begins(&format!("CPU time, {tasks} at a time"));
        let names = names(&format!("cpu/{tasks}"), tasks);
        load(&pair, &names, Until::Time(plan.time / 10)).await?;
        for (_, cycle) in &cycles {
            load(cycle, &names, Until::Time(plan.time / 10)).await?;
        }
        let mut bare = Used::by(subject, &pair, &names, plan).await?;
        let mut owns = Vec::new();
        for (_, cycle) in &cycles {
            owns.push(Used::by(subject, cycle, &names, plan).await?);
        }
        for _ in 1..TURNS {
            bare.and_then(&Used::by(subject, &pair, &names, plan).await?);
            for ((_, cycle), own) in cycles.iter().zip(&mut owns) {
                own.and_then(&Used::by(subject, cycle, &names, plan).await?);
            }
        }
        observer.row(bare.row("CPU of a bare pair", tasks, None).bare());
        for ((home, _), own) in cycles.iter().zip(&owns) {
            observer.row(own.row(&format!("CPU of a cycle, {}", home.says()), tasks, Some(&bare)));
        }
    }
    Ok(())
}

/// The CPU time of a number of operations.
struct Used {
    count: usize,
    client: Duration,
    server: Option<Duration>,
    counters: Counters,
}

impl Used {
    /// Measures the CPU time of one turn.
    async fn by(
        subject: &impl Subject,
        operation: &impl Operation,
        names: &[String],
        plan: &Plan,
    ) -> Result<Self, BenchError> {
        let counted = Counters::read(subject).await?;
        let server = process::of_trees(&plan.servers);
        let client = process::of_this_process();
        let samples = load(operation, names, Until::Time(plan.time / TURNS)).await?;
        let client = process::of_this_process().saturating_sub(client);
        let server = process::of_trees(&plan.servers).zip(server).map(|(now, then)| now.saturating_sub(then));
        let counters = Counters::read(subject).await?.since(&counted);
        Ok(Self { count: samples.count(), client, server, counters })
    }

    /// Adds another turn to this one.
    fn and_then(&mut self, other: &Self) {
        self.count += other.count;
        self.client += other.client;
        self.server = self.server.zip(other.server).map(|(all, more)| all + more);
        self.counters.and_then(&other.counters);
    }

    fn row(&self, what: &str, tasks: usize, bare: Option<&Self>) -> Row {
        let mut row = Row::new(Benchmark::Cpu, what, tasks);
        row.samples = self.count;
        let mut add = |name: &str, label: &str, own: Option<f64>, bare: Option<f64>| {
            let Some(own) = own else { return };
            row.figure(format!("{name}_cpu_us"), format!("of {label}"), own, Unit::Micros);
            if let Some(ratio) = quotient(Some(own), bare) {
                row.figure(format!("{name}_cpu_ratio"), String::new(), ratio, Unit::Times);
            }
        };
        add("client", "the client", Some(self.micros(self.client)), bare.map(|bare| bare.micros(bare.client)));
        let of_server = |used: &Self| used.server.map(|time| used.micros(time));
        add("server", "the server", of_server(self), bare.and_then(of_server));
        self.counters.add_to(&mut row, self.count, "cycle");
        row
    }

    fn micros(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.count.max(1) as f64
    }
}
