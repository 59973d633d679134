//! The handle of a running watchdog.

use std::sync::Arc;

use crate::driver::{Driver, Slot};
use crate::watchdog::WatchdogStatus;

/// The handle of a running watchdog. Dropping the handle leaves the watchdog running: it ends with its lock, or by
/// [`stop`](Self::stop).
#[derive(Debug, Clone)]
pub struct Watchdog {
    pub(crate) driver: Arc<Driver>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) generation: u64,
}

impl Watchdog {
    /// Stops the extensions. The lock is then held until its deadline, and lost unless it is released before.
    ///
    /// No extension is scheduled after this has returned. An extension that is on its way may still take effect.
    /// Stopping twice, or after the lock has ended, does nothing.
    pub fn stop(&self) {
        self.driver.stop_watchdog(&self.slot, self.generation);
    }

    /// The status of the extensions so far.
    pub fn status(&self) -> WatchdogStatus {
        self.driver.watchdog_status(&self.slot, self.generation)
    }
}
