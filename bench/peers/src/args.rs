//! The command line.

use std::time::Duration;

use clap::Parser;
use rlock_testkit::bench::{Benchmark, Plan, cpu};

/// Measures other lock libraries beside rlock
#[derive(Debug, Parser)]
pub struct Args {
    /// The store: redis://, etcd://, postgres:// or sqlite:, which makes a file in a temporary folder if it has no path
    pub url: String,

    /// The duration of each measurement of a round
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    seconds: f64,

    /// Number of rounds in which all libraries take turns
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,

    /// The numbers of tasks that lock and unlock at the same time, each with its own name
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 8, 64, 256])]
    pub tasks: Vec<usize>,

    /// The connections in the pool of each Postgres peer; a lock occupies one for as long as it is held
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub pool: u32,

    /// The average pause of a polling peer between two attempts, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub poll: u64,

    /// Number of threads of the callers' runtime; `rlock bench` has 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
}

impl Args {
    /// The benchmarks of one round, with `Benchmark::Cycle` for each number of tasks.
    pub fn steps(&self) -> Vec<(Benchmark, Plan)> {
        let plan = Plan {
            time: Duration::from_secs_f64(self.seconds.clamp(0.01, 3_600.0)),
            waiters: vec![1],
            servers: cpu::servers_of(&self.url),
            ..Plan::default()
        };
        let cycles = self.tasks.iter().map(|&tasks| (Benchmark::Cycle, Plan { tasks: vec![tasks], ..plan.clone() }));
        let others =
            [Benchmark::Cpu, Benchmark::HandOver, Benchmark::Contention].map(|benchmark| (benchmark, plan.clone()));
        cycles.chain(others).collect()
    }
}
