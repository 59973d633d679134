//! Panics of the user's code.

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
