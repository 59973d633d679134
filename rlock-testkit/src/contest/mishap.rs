//! Kinds of faults.

use std::fmt;
use std::str::FromStr;

/// The kinds of faults in an [`Arena`](super::Arena).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mishap {
    /// A process is killed, and replaced by another one.
    ProcessKilled,
    /// A process is frozen for a while.
    ProcessFrozen,
    /// The connections of a process are reset, and refused for a while.
    Cut,
    /// Bytes between a process and the server are held back for a while, one way or both.
    Stalled,
    /// Bytes between a process and the server get lost for a while, one way or both, and the connections stay dead
    /// afterwards.
    HalfOpen,
    /// Bytes between a process and the server are delayed for a while.
    Slow,
    /// Requests on the open connections of a process are held back for a while, so that later requests on new
    /// connections overtake them.
    Reordered,
    /// The server is paused for a while.
    ServerPaused,
    /// The server is killed and restarted with its data.
    ServerKilled,
    /// The server is killed and restarted without its data.
    DataLost,
}

impl Mishap {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::ProcessKilled,
        Self::ProcessFrozen,
        Self::Cut,
        Self::Stalled,
        Self::HalfOpen,
        Self::Slow,
        Self::Reordered,
        Self::ServerPaused,
        Self::ServerKilled,
        Self::DataLost,
    ];

    /// Whether the arena has to own the server for it.
    pub const fn is_of_the_server(self) -> bool {
        matches!(self, Self::ServerPaused | Self::ServerKilled | Self::DataLost)
    }

    /// Whether it needs a proxy in front of the store.
    pub const fn is_of_the_network(self) -> bool {
        matches!(self, Self::Cut | Self::Stalled | Self::HalfOpen | Self::Slow | Self::Reordered)
    }

    /// The name on a command line: `process-killed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProcessKilled => "process-killed",
            Self::ProcessFrozen => "process-frozen",
            Self::Cut => "cut",
            Self::Stalled => "stalled",
            Self::HalfOpen => "half-open",
            Self::Slow => "slow",
            Self::Reordered => "reordered",
            Self::ServerPaused => "server-paused",
            Self::ServerKilled => "server-killed",
            Self::DataLost => "data-lost",
        }
    }
}

impl fmt::Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mishap {
    type Err = UnknownMishap;

    fn from_str(name: &str) -> Result<Self, UnknownMishap> {
        let found = Self::ALL.into_iter().find(|mishap| mishap.as_str() == name);
        found.ok_or_else(|| UnknownMishap { name: name.to_owned() })
    }
}

/// A name that no [`Mishap`] has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no fault is called {name:?}: there are {}", Mishap::ALL.map(Mishap::as_str).join(", "))]
pub struct UnknownMishap {
    /// The name.
    pub name: String,
}
