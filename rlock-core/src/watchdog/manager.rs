//! The watchdogs of the whole process.

use crate::metrics::{self, WatchdogStats};

/// The watchdogs of every client in this process.
#[derive(Debug)]
pub struct WatchdogManager(());

static GLOBAL: WatchdogManager = WatchdogManager(());

impl WatchdogManager {
    /// The only instance.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// The statistics of all watchdogs of the process since it started.
    pub fn stats(&self) -> WatchdogStats {
        metrics::global().stats().watchdog
    }
}
