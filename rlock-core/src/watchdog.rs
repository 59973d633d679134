//! The watchdog: what keeps a held lease alive, and what it tells about itself.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::engine::{Engine, Lease};
use crate::{BackendError, InvalidConfig, LossReason, ResourceName, Ttl};

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
    /// the lock is lost with [`LossReason::GaveUp`]; 3 by default, at least 1.
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
    pub const MIN_INTERVAL: Duration = Duration::from_millis(1);

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
        if interval >= extend_by.get() {
            return Err(InvalidConfig::IntervalTooLong { interval, extend_by: extend_by.get() });
        }
        if interval < Self::MIN_INTERVAL {
            return Err(InvalidConfig::IntervalTooShort { interval });
        }
        if self.max_failures == 0 {
            return Err(InvalidConfig::NoFailureAllowed);
        }
        Ok(Plan { interval, extend_by, config: self.clone() })
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
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) interval: Duration,
    pub(crate) extend_by: Ttl,
    pub(crate) config: WatchdogConfig,
}

/// A scheduled extension that failed with all its retries.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the watchdog of {resource:?} failed {failures} of at most {max_failures} times in a row: {cause}")]
pub struct WatchdogFailure {
    /// The resource.
    pub resource: ResourceName,
    /// How many scheduled extensions have failed in a row, this one included.
    pub failures: u32,
    /// How many the watchdog bears, that one included.
    pub max_failures: u32,
    /// What went wrong last.
    #[source]
    pub cause: ExtensionFailure,
}

/// What became of an extension that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionFailure {
    /// The store failed to answer, or refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// No answer has come yet.
    #[error("the store has not answered for {0:?}")]
    NoAnswer(Duration),
    /// The lock was lost.
    #[error("the lock was lost: {0}")]
    Lost(LossReason),
}

impl ExtensionFailure {
    /// Whether it may pass by itself: the store could not be reached or did not answer.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Backend(error) => error.is_transient(),
            Self::NoAnswer(_) => true,
            Self::Lost(_) => false,
        }
    }
}

/// A running watchdog. Dropping this leaves it running: it ends with its lock, or by [`stop`](Self::stop).
#[derive(Debug, Clone)]
pub struct Watchdog {
    pub(crate) engine: Arc<Engine>,
    pub(crate) lease: Arc<Lease>,
    pub(crate) generation: u64,
}

impl Watchdog {
    /// Ends the extensions. The lock is then held until its deadline, and lost unless it is released before.
    ///
    /// No extension is scheduled after this has returned; one that is on its way may still take effect. Stopping
    /// twice, or after the lock has ended, does nothing.
    pub fn stop(&self) {
        self.engine.stop_watchdog(&self.lease, self.generation);
    }

    /// What it has done so far.
    pub fn status(&self) -> WatchdogStatus {
        self.engine.watchdog_status(&self.lease, self.generation)
    }
}

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
