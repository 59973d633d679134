//! The duration and the load of a benchmark.

use std::time::Duration;

/// The duration and the load of a benchmark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The duration of one measurement of one kind of operation. The warm-up takes another tenth of it.
    pub time: Duration,
    /// The numbers of tasks that lock at the same time, each with its own name.
    pub tasks: Vec<usize>,
    /// The numbers of waiters in the queues that hand-overs and the requests of a waiter are measured in.
    pub waiters: Vec<usize>,
    /// The number of leases that are renewed.
    pub leases: usize,
    /// The TTL of these leases. Each is renewed within a third of it, which is also the time of measurement.
    pub ttl: Duration,
    /// The number of cycles after which the speed is compared with that of the first cycles.
    pub drift_cycles: usize,
    /// The processes of the servers, if they run on this host. Their CPU time is measured with that of all their
    /// descendants.
    pub servers: Vec<u32>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(2),
            tasks: vec![1, 8, 64, 256],
            waiters: vec![1, 1_000],
            leases: 100_000,
            ttl: Duration::from_secs(30),
            drift_cycles: 100_000,
            servers: Vec::new(),
        }
    }
}
