//! The parts of a benchmark.

use std::fmt;

/// A part of a benchmark, which can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Line {
    /// The cheapest request.
    RoundTrip,
    /// The two writes that no lock can do without.
    Pair,
    /// Locking and unlocking names that only one task uses.
    Cycle,
    /// CPU time of the client and of the server.
    Cpu,
    /// From an unlock to the guard of the next holder.
    HandOver,
    /// Many tasks on one name.
    Contention,
    /// Keeping many leases alive.
    Renewal,
    /// The cost of a cycle after many cycles.
    Drift,
}

impl Line {
    /// Each once, in the order of measuring.
    pub const ALL: [Self; 8] = [
        Self::RoundTrip,
        Self::Pair,
        Self::Cycle,
        Self::Cpu,
        Self::HandOver,
        Self::Contention,
        Self::Renewal,
        Self::Drift,
    ];

    /// Its name on a command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundTrip => "round-trip",
            Self::Pair => "pair",
            Self::Cycle => "cycle",
            Self::Cpu => "cpu",
            Self::HandOver => "hand-over",
            Self::Contention => "contention",
            Self::Renewal => "renewal",
            Self::Drift => "drift",
        }
    }

    /// The line with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|line| line.name() == name)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
