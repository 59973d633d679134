//! The options that a client gives to its locks.

use std::time::Duration;

use crate::contract::Ttl;
use crate::watchdog::WatchdogConfig;

/// The options of the locks whose own options do not set them.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    pub(crate) ttl: Ttl,
    /// The maximum time to wait; `None` for no limit.
    pub(crate) wait: Option<Duration>,
    /// Whether a lock has a watchdog.
    pub(crate) watchdog: bool,
    /// The configuration of these watchdogs; `None` for one that continues until the deadline.
    pub(crate) watchdog_config: Option<WatchdogConfig>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { ttl: Ttl::DEFAULT, wait: None, watchdog: true, watchdog_config: None }
    }
}
