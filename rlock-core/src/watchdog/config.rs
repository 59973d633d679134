//! The configuration of a watchdog.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::WatchdogFailure;
use crate::contract::Ttl;
use crate::error::{InvalidConfig, MIN_INTERVAL};

/// The configuration of a watchdog.
///
/// ```
/// # use std::time::Duration;
/// use rlock_core::WatchdogConfig;
///
/// let config = WatchdogConfig {
///     interval: Some(Duration::from_secs(5)),
///     extend_by: Some(Duration::from_secs(60)),
///     max_failures: 5,
///     ..WatchdogConfig::default()
/// }
/// .on_failure(|failure| eprintln!("{failure}"));
/// ```
#[derive(Clone)]
pub struct WatchdogConfig {
    /// The time between two extensions; by default a third of the lock's TTL, or of `extend_by` if that is shorter. At
    /// least [`MIN_INTERVAL`](Self::MIN_INTERVAL), and less than `extend_by`.
    ///
    /// The first extension comes a little earlier, by a random time, so that locks that were acquired together are not
    /// always extended together.
    pub interval: Option<Duration>,
    /// The life that the lease has left after each extension, at least; the lock's TTL by default.
    pub extend_by: Option<Duration>,
    /// The number of scheduled extensions in a row that may fail, with all their retries, before the watchdog gives up
    /// and the lock is lost with [`LossReason::GaveUp`](crate::LossReason::GaveUp). 3 by default, at least 1.
    ///
    /// With the default interval the deadline passes first. The watchdog retries a failed extension with growing,
    /// jittered pauses until the next extension is due. All these retries count as one failure.
    pub max_failures: u32,
    /// Called after a scheduled extension failed with all its retries, and after a loss, unless the reason is
    /// [`HeldTooLong`](crate::LossReason::HeldTooLong) or [`Shutdown`](crate::LossReason::Shutdown). The callback runs on a
    /// thread where it may block. The latest 64 failures wait for it meanwhile.
    pub on_failure: Option<FailureCallback>,
    /// Called after each successful extension. The callback runs on a thread where it may block. It is then called once
    /// for each extension that succeeded meanwhile.
    pub on_success: Option<SuccessCallback>,
}

/// The type of [`WatchdogConfig::on_failure`].
pub type FailureCallback = Arc<dyn Fn(&WatchdogFailure) + Send + Sync>;

/// The type of [`WatchdogConfig::on_success`].
pub type SuccessCallback = Arc<dyn Fn() + Send + Sync>;

impl WatchdogConfig {
    /// The shortest interval: 1 ms.
    pub const MIN_INTERVAL: Duration = MIN_INTERVAL;

    /// The defaults: an interval of a third of the TTL, extensions by the TTL, 3 failures, no callbacks.
    pub fn new() -> Self {
        Self { interval: None, extend_by: None, max_failures: 3, on_failure: None, on_success: None }
    }

    /// Sets [`on_failure`](Self#structfield.on_failure). A panic in the callback ends only that call.
    #[must_use]
    pub fn on_failure(mut self, call: impl Fn(&WatchdogFailure) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Arc::new(call));
        self
    }

    /// Sets [`on_success`](Self#structfield.on_success). A panic in the callback ends only that call.
    #[must_use]
    pub fn on_success(mut self, call: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_success = Some(Arc::new(call));
        self
    }

    pub(crate) fn plan(&self, ttl: Ttl) -> Result<Plan, InvalidConfig> {
        let extend_by = self.extend_by.map_or(Ok(ttl), Ttl::new)?;
        let interval = self.interval.unwrap_or(extend_by.get().min(ttl.get()) / 3);
        if interval >= extend_by.get().saturating_sub(extend_by.margin()) {
            return Err(InvalidConfig::IntervalTooLong { interval, extend_by: extend_by.get() });
        }
        if interval < Self::MIN_INTERVAL {
            return Err(InvalidConfig::IntervalTooShort { interval });
        }
        if self.max_failures == 0 {
            return Err(InvalidConfig::NoFailureAllowed);
        }
        Ok(Plan {
            interval,
            extend_by,
            max_failures: (self.max_failures < u32::MAX).then_some(self.max_failures),
            on_failure: self.on_failure.clone(),
            on_success: self.on_success.clone(),
        })
    }
}

impl Default for WatchdogConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WatchdogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchdogConfig")
            .field("interval", &self.interval)
            .field("extend_by", &self.extend_by)
            .field("max_failures", &self.max_failures)
            .finish_non_exhaustive()
    }
}

/// A valid configuration, for a lock of a known TTL.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) interval: Duration,
    pub(crate) extend_by: Ttl,
    /// `None` to continue until the deadline.
    pub(crate) max_failures: Option<u32>,
    pub(crate) on_failure: Option<FailureCallback>,
    pub(crate) on_success: Option<SuccessCallback>,
}
