//! The statistics and the callbacks of one watchdog.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::callbacks::Queue;
use crate::contract::{BackendError, ResourceName};
use crate::lease::{Renewal, WatchdogFault};
use crate::watchdog::{ExtensionFailure, Plan, WatchdogFailure};

/// The statistics and the callbacks of one watchdog. They outlive the watchdog, as long as its lease is known.
pub(super) struct Watch {
    pub(super) generation: u64,
    max_failures: Option<u32>,
    pub(super) extend_count: u64,
    pub(super) failures: u32,
    pub(super) last_extend: Option<SystemTime>,
    pub(super) last_error: Option<ExtensionFailure>,
    /// The callbacks, if there are any.
    pub(super) callbacks: Option<Arc<Queue>>,
}

impl Watch {
    /// Creates the settings and the statistics of a watchdog that starts.
    pub(super) fn start(plan: Plan, generation: u64) -> (Renewal, Box<Self>) {
        let Plan { interval, extend_by, max_failures, on_failure, on_success } = plan;
        let callbacks = (on_failure.is_some() || on_success.is_some()).then(|| Queue::new(on_failure, on_success));
        let watch = Self {
            generation,
            max_failures,
            extend_count: 0,
            failures: 0,
            last_extend: None,
            last_error: None,
            callbacks,
        };
        (Renewal { generation, interval, extend_by, max_failures }, Box::new(watch))
    }

    /// Records the success of a scheduled extension. The caller takes the last error.
    pub(super) fn succeeded(&mut self) {
        self.extend_count += 1;
        self.failures = 0;
        self.last_extend = Some(SystemTime::now());
    }

    /// Records the failure of a scheduled extension with all its retries, the last of them with `error`.
    pub(super) fn failed(
        &mut self,
        resource: &ResourceName,
        fault: WatchdogFault,
        error: Option<&BackendError>,
    ) -> WatchdogFailure {
        let silence = |lasting: Duration| match error {
            Some(error) => ExtensionFailure::Backend(error.clone()),
            None => ExtensionFailure::NoAnswer(lasting),
        };
        let (failures, cause) = match fault {
            WatchdogFault::Silence { failures, lasting } => (failures, silence(lasting)),
            WatchdogFault::Lost { failures, reason } => (failures, ExtensionFailure::Lost(reason)),
        };
        self.failures = failures;
        self.last_error = Some(cause.clone());
        let max_failures = self.max_failures.unwrap_or(u32::MAX);
        WatchdogFailure { resource: resource.clone(), failures, max_failures, cause }
    }
}
