//! The watchdogs of the whole process.

use crate::metrics::{self, WatchdogStats};

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
