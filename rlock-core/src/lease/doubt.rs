//! Doubt about a lease.

use super::Hint;

/// A reason to ask the store about a lease: an event that is newer than the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Doubt {
    /// The lease was granted, or events were lost.
    Changed,
    /// The lease was ended by force.
    Broken,
}

impl From<Hint> for Doubt {
    fn from(hint: Hint) -> Self {
        match hint {
            Hint::Granted(_) | Hint::Resync => Self::Changed,
            Hint::Broken => Self::Broken,
        }
    }
}
