//! A lock that its user has not seen.

use super::Guard;

/// A held lock that its user has not seen. Dropping it releases the lock, without the rest of
/// [`hold_at_least`](crate::LockOptions::hold_at_least): no work was done under it.
pub(super) struct Unseen(Option<Guard>);

impl Unseen {
    pub(super) fn new(guard: Guard) -> Self {
        Self(Some(guard))
    }

    pub(super) fn guard(&self) -> &Guard {
        self.0.as_ref().expect("only `show` and the drop take it")
    }

    /// The guard, for the user.
    pub(super) fn show(mut self) -> Guard {
        self.0.take().expect("only `show` and the drop take it")
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        if let Some(guard) = self.0.take() {
            guard.give_back();
        }
    }
}
