//! The watchdogs of the whole process.

use std::time::Duration;

use crate::metrics;

/// The watchdogs of every client in this process.
#[derive(Debug)]
pub struct WatchdogManager(());

static GLOBAL: WatchdogManager = WatchdogManager(());

impl WatchdogManager {
    /// The only one.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// What all watchdogs of the process have done since it started.
    pub fn stats(&self) -> WatchdogStats {
        metrics::global().stats().watchdog
    }
}

/// What the watchdogs of the process have done since it started.
///
/// `total_extends` is the sum of `successful_extends` and `failed_extends`; the numbers are read one after
/// another, so that sum is exact only while nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WatchdogStats {
    /// Watchdogs that are running.
    pub active_watchdogs: u64,
    /// Scheduled extensions that have ended, well or not.
    pub total_extends: u64,
    /// Those that succeeded, at the first try or a later one.
    pub successful_extends: u64,
    /// Those that failed with all their retries, and those that found the lease gone.
    pub failed_extends: u64,
    /// From sending a successful extension to its answer, on average.
    pub average_extend_time: Duration,
}
