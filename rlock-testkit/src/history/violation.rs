//! A breach of the contract, with the entries that show it.

use super::breach::Breach;
use super::entry::Entry;
use super::story;

/// A history broke the contract.
///
/// Its `Display` is the shortest story that shows the breach: one entry a line, with milliseconds since the first
/// entry. The last line names the rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", story::render(&self.story, &self.breach, self.more))]
pub struct Violation {
    /// The breach.
    pub breach: Breach,
    /// The entries that show it, in order.
    pub story: Vec<Entry>,
    /// The number of further violations.
    pub more: u64,
}
