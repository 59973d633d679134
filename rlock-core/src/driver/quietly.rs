//! Panics of the user's code.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code that may call the user's code, and catches its panic.
pub(super) fn quietly(run: impl FnOnce()) {
    drop(catch_unwind(AssertUnwindSafe(run)));
}
