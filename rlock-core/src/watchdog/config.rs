//! The configuration of a watchdog.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::WatchdogFailure;
use crate::contract::Ttl;
use crate::error::{InvalidConfig, MIN_INTERVAL};

/// How a watchdog keeps a lock alive.
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
    /// The time between two extensions; a third of the lock's TTL if not given. At least
    /// [`MIN_INTERVAL`](Self::MIN_INTERVAL), and less than `extend_by`.
    ///
    /// The first extension comes a little earlier, at random, so that locks taken together are not extended
    /// together for ever.
    pub interval: Option<Duration>,
    /// The life that the lease has left after each extension, at least; the lock's TTL if not given.
    pub extend_by: Option<Duration>,
    /// How many scheduled extensions in a row may fail, with all their retries, before the watchdog gives up and
    /// the lock is lost with [`LossReason::GaveUp`](crate::LossReason::GaveUp); 3 by default, at least 1.
    ///
    /// With the default interval the deadline passes first. Failed tries are repeated with growing, jittered
    /// pauses until the next extension is due, and count once together.
    pub max_failures: u32,
    /// Called after a scheduled extension failed with all its retries, on a thread where it may block.
    pub on_failure: Option<FailureCallback>,
    /// Called after each extension that succeeded, on a thread where it may block.
    pub on_success: Option<SuccessCallback>,
}

/// What [`WatchdogConfig::on_failure`] calls.
pub type FailureCallback = Arc<dyn Fn(&WatchdogFailure) + Send + Sync>;

/// What [`WatchdogConfig::on_success`] calls.
pub type SuccessCallback = Arc<dyn Fn() + Send + Sync>;

impl WatchdogConfig {
    /// The shortest interval: 1 ms.
    pub const MIN_INTERVAL: Duration = MIN_INTERVAL;

    /// The defaults: a third of the TTL, the TTL, 3 failures, no callbacks.
    pub fn new() -> Self {
        Self { interval: None, extend_by: None, max_failures: 3, on_failure: None, on_success: None }
    }

    /// Sets [`on_failure`](Self#structfield.on_failure). A panic in it ends nothing but the call.
    #[must_use]
    pub fn on_failure(mut self, call: impl Fn(&WatchdogFailure) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Arc::new(call));
        self
    }

    /// Sets [`on_success`](Self#structfield.on_success). A panic in it ends nothing but the call.
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

/// A configuration that works, for a lock of a known TTL.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) interval: Duration,
    pub(crate) extend_by: Ttl,
    /// `None` to go on until the deadline.
    pub(crate) max_failures: Option<u32>,
    pub(crate) on_failure: Option<FailureCallback>,
    pub(crate) on_success: Option<SuccessCallback>,
}
