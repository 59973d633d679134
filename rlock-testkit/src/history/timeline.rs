//! The entries of a history in their order, with the attempts and the faults among them.

use std::time::Duration;

use super::asking::Asking;
use super::entry::Entry;
use super::error::HistoryError;
use super::fates::Fates;

/// The entries of a history, in the order of their instants.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    pub(super) entries: Vec<Entry>,
    pub(super) askings: Vec<Asking>,
    pub(super) fates: Fates,
}

impl Timeline {
    /// Sorts the entries. Those of the same instant keep their order.
    ///
    /// # Errors
    ///
    /// Returns a [`HistoryError`] if the entries contradict each other.
    pub(super) fn new(mut entries: Vec<Entry>) -> Result<Self, HistoryError> {
        entries.sort_by_key(|entry| entry.at);
        let (askings, fates) = (Asking::all(&entries)?, Fates::of(&entries));
        Ok(Self { entries, askings, fates })
    }

    /// The instant of the last entry.
    pub(super) fn last(&self) -> Duration {
        self.entries.last().map_or(Duration::ZERO, |entry| entry.at)
    }
}
