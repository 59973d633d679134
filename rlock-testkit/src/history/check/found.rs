//! The violations of one rule.

use std::time::Duration;

use crate::history::breach::Breach;

/// The earliest of the violations of one rule, and their number.
#[derive(Default)]
pub(super) struct Found {
    pub(super) count: u64,
    pub(super) earliest: Option<FoundAt>,
}

/// The instant, the breach, and the indices of the entries that show it.
pub(super) type FoundAt = (Duration, Breach, Vec<usize>);

impl Found {
    pub(super) fn earliest(all: impl IntoIterator<Item = Self>) -> Option<FoundAt> {
        all.into_iter().filter_map(|found| found.earliest).min_by_key(|(at, ..)| *at)
    }

    /// Adds a violation at `at`.
    pub(super) fn add(&mut self, at: Duration, breach: impl FnOnce() -> Breach) {
        self.add_shown(at, || (breach(), Vec::new()));
    }

    /// Adds a violation at `at`, with the indices of the entries that show it.
    pub(super) fn add_shown(&mut self, at: Duration, breach: impl FnOnce() -> (Breach, Vec<usize>)) {
        self.count += 1;
        if self.earliest.as_ref().is_none_or(|(earliest, ..)| at < *earliest) {
            let (breach, shown) = breach();
            self.earliest = Some((at, breach, shown));
        }
    }
}
