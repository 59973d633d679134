//! The status of a watchdog.

use std::time::SystemTime;

use super::ExtensionFailure;

/// The extensions of a watchdog so far.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WatchdogStatus {
    /// Whether the watchdog still extends the lease.
    pub is_running: bool,
    /// The number of successful extensions.
    pub extend_count: u64,
    /// The number of scheduled extensions that have failed in a row, with all their retries.
    pub failure_count: u32,
    /// The time of the last successful extension, by the system's clock.
    pub last_extend_time: Option<SystemTime>,
    /// The time of the next extension, by the system's clock; `None` once the watchdog has ended.
    pub next_extend_time: Option<SystemTime>,
    /// The last failure; `None` after a success.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialized::optional_text"))]
    pub last_error: Option<ExtensionFailure>,
}
