//! Doubt about a held lease.

/// A reason to ask the store whether a lease is still held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Doubt {
    /// Events were lost.
    Resync,
    /// The lease was ended by force.
    Broken,
}
