//! Whether the requests of a verb are likely to need the sets of their resources.

use std::sync::atomic::{AtomicU32, Ordering};

/// The number of batches that get sets at once, after a call without sets has left many entries undecided.
const BATCHES: u32 = 16;
/// One undecided entry among this number of entries is worth a second call. More of them cost more than the sets do.
const MANY: usize = 16;

/// The recent use of sets, for each verb.
#[derive(Debug, Default)]
pub(crate) struct SetUses {
    pub(crate) extend: SetUse,
    pub(crate) release: SetUse,
}

/// The recent use of sets by the requests of one verb.
#[derive(Debug, Default)]
pub(crate) struct SetUse {
    /// The number of next batches that get sets at once.
    likely: AtomicU32,
}

impl SetUse {
    /// Whether the next batch may omit the sets.
    pub(crate) fn may_omit(&self) -> bool {
        self.likely.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |batches| batches.checked_sub(1)).is_err()
    }

    /// Records a call without sets that left this number of entries undecided.
    pub(crate) fn record(&self, undecided: usize, entries: usize) {
        if undecided * MANY > entries {
            self.likely.store(BATCHES, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_sent_while_many_entries_need_them() {
        let set_use = SetUse::default();
        set_use.record(2, 32);
        assert!(set_use.may_omit(), "few entries were undecided");
        set_use.record(3, 32);
        assert!((0..BATCHES).all(|_| !set_use.may_omit()));
        assert!(set_use.may_omit(), "a batch tries without them again");
    }
}
