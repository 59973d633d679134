//! The duration and the load of a benchmark.

use std::time::Duration;

/// The duration and the load of a benchmark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The duration of one measurement of one kind of operation. A tenth of it more is for warming up.
    pub time: Duration,
    /// The numbers of tasks that lock at the same time, each a name of its own.
    pub tasks: Vec<usize>,
    /// The numbers of waiters in the queue of a name that is handed over.
    pub waiters: Vec<usize>,
    /// The number of leases that are kept alive.
    pub leases: usize,
    /// The TTL of these leases. Each is renewed in a third of it, which is how long they are watched.
    pub ttl: Duration,
    /// After how many cycles the speed is compared with that of the first.
    pub drift_cycles: usize,
    /// The server's process, where it runs on this host: its CPU time is measured with that of all its descendants.
    pub server: Option<u32>,
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
            server: None,
        }
    }
}
