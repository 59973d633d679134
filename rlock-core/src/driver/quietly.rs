//! Panics of the user's code.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code that may call the user's code, and catches its panic. `None` after a panic.
pub(crate) fn quietly<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}
