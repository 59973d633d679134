//! The arguments of `rlock bench`.

use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use rlock::Ttl;
use rlock_testkit::bench::{Benchmark, Plan};

use super::store::Store;
use super::values::ttl;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The store; the same as --url
    #[arg(value_name = "URL")]
    pub(super) at: Option<String>,

    #[command(flatten)]
    pub(crate) store: Store,

    /// Runs this benchmark only; may be repeated
    #[arg(
        long,
        value_name = "BENCHMARK",
        value_parser = PossibleValuesParser::new(Benchmark::ALL.map(Benchmark::name)).map(|name| Benchmark::from_name(&name))
    )]
    only: Vec<Option<Benchmark>>,

    /// The duration of each measurement in seconds, from 0.01 to 3600; a benchmark has several
    #[arg(long, value_name = "N", default_value = "2", value_parser = seconds)]
    seconds: Duration,

    /// The number of tasks in the benchmarks pair and cycle; may be repeated [default: 1, 8, 64 and 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tasks: Vec<u32>,

    /// The number of waiters in the longer of the two queues of the benchmarks hand-over and queue
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    waiters: u32,

    /// The number of leases that the benchmark renewal keeps alive
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    leases: u32,

    /// The TTL of these leases; the measurement takes a third of it, in which each is renewed once
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = ttl)]
    ttl: Ttl,

    /// The number of cycles after which the benchmark drift compares the speed with that of the first
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    drift_cycles: u32,

    /// The server's process on this host, to measure its CPU time with that of its descendants; may be repeated. All
    /// primaries of a cluster have to be named, here or in the URL: others are not measured
    /// [default: the processes that listen on the URL's ports of this host]
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Vec<u32>,

    /// Prints JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
}

impl BenchArgs {
    /// The benchmarks to run.
    pub(crate) fn benchmarks(&self) -> Vec<Benchmark> {
        if self.only.is_empty() { Benchmark::ALL.into() } else { self.only.iter().copied().flatten().collect() }
    }

    /// The duration and the load, with the servers' processes that were given.
    pub(crate) fn plan(&self) -> Plan {
        let count = |number: u32| usize::try_from(number).expect("32 bits are a size here");
        let usual = Plan::default();
        let tasks: Vec<_> = self.tasks.iter().copied().map(count).collect();
        Plan {
            time: self.seconds,
            tasks: if tasks.is_empty() { usual.tasks } else { tasks },
            waiters: vec![1, count(self.waiters)],
            leases: count(self.leases),
            ttl: self.ttl.get(),
            drift_cycles: count(self.drift_cycles),
            servers: self.server_pid.clone(),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.01..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write a number of seconds from 0.01 to 3600".to_owned())
}
