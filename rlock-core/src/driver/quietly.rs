//! Panics of the user's code.

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Wake, Waker};

/// Runs code that may call the user's code, and catches its panic. `None` after a panic.
pub(crate) fn quietly<T>(run: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(output) => Some(output),
        Err(payload) => {
            // The drop of a payload may panic as well, and so may the drop of that panic's payload.
            forget(catch_unwind(AssertUnwindSafe(|| drop(payload))));
            None
        }
    }
}

/// Wakes the future of a user, and catches the panic of the user's waker. A signal that wakes several futures would
/// otherwise wake none after the first panic.
#[derive(Default)]
pub(crate) struct QuietWaker(Option<Arc<Quiet>>);

struct Quiet(Waker);

impl QuietWaker {
    /// Returns a waker that wakes `waker`.
    pub(crate) fn of(&mut self, waker: &Waker) -> Waker {
        let known = self.0.take().filter(|quiet| quiet.0.will_wake(waker));
        let quiet = known.unwrap_or_else(|| Arc::new(Quiet(waker.clone())));
        Waker::from(self.0.insert(quiet).clone())
    }
}

impl Wake for Quiet {
    fn wake(self: Arc<Self>) {
        quietly(|| self.0.wake_by_ref());
        quietly(|| drop(self));
    }
}
