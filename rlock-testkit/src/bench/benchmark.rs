//! The benchmarks.

use std::fmt;

/// A benchmark, which can run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Benchmark {
    /// The cheapest request.
    RoundTrip,
    /// The two writes that every lock needs.
    Pair,
    /// Locking and unlocking names, each used by only one task.
    Cycle,
    /// CPU time of the client and of the server.
    Cpu,
    /// The time from an unlock to the guard of the next holder.
    HandOver,
    /// The requests of a waiter, in a short queue and in a long one.
    Queue,
    /// Many tasks on one name.
    Contention,
    /// The renewal of many leases.
    Renewal,
    /// The cost of a cycle after many cycles.
    Drift,
}

impl Benchmark {
    /// All benchmarks, in the order of measurement.
    pub const ALL: [Self; 9] = [
        Self::RoundTrip,
        Self::Pair,
        Self::Cycle,
        Self::Cpu,
        Self::HandOver,
        Self::Queue,
        Self::Contention,
        Self::Renewal,
        Self::Drift,
    ];

    /// The name on a command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundTrip => "round-trip",
            Self::Pair => "pair",
            Self::Cycle => "cycle",
            Self::Cpu => "cpu",
            Self::HandOver => "hand-over",
            Self::Queue => "queue",
            Self::Contention => "contention",
            Self::Renewal => "renewal",
            Self::Drift => "drift",
        }
    }

    /// The benchmark with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|benchmark| benchmark.name() == name)
    }
}

impl fmt::Display for Benchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
