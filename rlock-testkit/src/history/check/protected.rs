//! The violations of one rule that tokens protect from.

use std::time::Duration;

use super::found::Found;
use crate::history::breach::Breach;
use crate::history::fates::Fates;

/// The violations of one rule that tokens protect from: those in splits, and the others.
pub(super) struct Protected<'a> {
    fates: &'a Fates,
    pub(super) in_splits: Found,
    pub(super) elsewhere: Found,
}

impl<'a> Protected<'a> {
    pub(super) fn new(fates: &'a Fates) -> Self {
        Self { fates, in_splits: Found::default(), elsewhere: Found::default() }
    }

    /// Adds the violation by a grant that was noted at `at`.
    pub(super) fn add(&mut self, at: Duration, breach: impl FnOnce() -> Breach) {
        let found = if self.fates.is_split(at) { &mut self.in_splits } else { &mut self.elsewhere };
        found.add(at, breach);
    }

    pub(super) fn count(&self) -> u64 {
        self.in_splits.count + self.elsewhere.count
    }
}
