//! The status of a watchdog.

use std::time::SystemTime;

use super::ExtensionFailure;

/// What a watchdog has done so far.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WatchdogStatus {
    /// Whether it still extends the lease.
    pub is_running: bool,
    /// How many extensions have succeeded.
    pub extend_count: u64,
    /// How many scheduled extensions have failed in a row, with all their retries.
    pub failure_count: u32,
    /// When the last extension succeeded, by the system's clock.
    pub last_extend_time: Option<SystemTime>,
    /// When the next one is due, by the system's clock; `None` once it has ended.
    pub next_extend_time: Option<SystemTime>,
    /// What went wrong last; `None` after a success.
    pub last_error: Option<ExtensionFailure>,
}
