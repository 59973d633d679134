//! How a lock is taken.

use std::time::Duration;

use crate::contract::{LeaseData, Ttl};
use crate::error::InvalidConfig;
use crate::watchdog::{Plan, WatchdogConfig};

/// How a lock is taken: for how long, how it is kept alive, and how long to wait for it.
///
/// ```
/// # use std::time::Duration;
/// use rlock_core::LockOptions;
///
/// let options = LockOptions::new()
///     .ttl(Duration::from_secs(30))
///     .watchdog_interval(Duration::from_secs(10))
///     .wait(Duration::from_secs(60));
/// ```
#[derive(Debug, Clone, Default)]
pub struct LockOptions {
    ttl: Option<Duration>,
    watchdog_off: bool,
    watchdog_interval: Option<Duration>,
    watchdog_config: Option<WatchdogConfig>,
    wait: Option<Duration>,
    hold_at_least: Duration,
    data: Option<Vec<u8>>,
    label: Option<String>,
}

impl LockOptions {
    /// The client's TTL, a watchdog that extends at a third of it, and waiting for ever.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the lease lives on the store's clock after each extension: what a crashed holder costs the
    /// others. From [`Ttl::MIN`] (10 ms) to [`Ttl::MAX`] (365 days), 30 s by default.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Whether a watchdog extends the lease until it is released; it does by default. Without one the lock is
    /// lost when its TTL ends, unless it is [extended](crate::Guard::extend) by hand.
    #[must_use]
    pub fn watchdog(mut self, on: bool) -> Self {
        self.watchdog_off = !on;
        self
    }

    /// The time between two extensions; a third of the TTL by default. At least
    /// [`WatchdogConfig::MIN_INTERVAL`], and shorter than the TTL.
    #[must_use]
    pub fn watchdog_interval(mut self, interval: Duration) -> Self {
        self.watchdog_interval = Some(interval);
        self
    }

    /// The whole configuration of the watchdog, with callbacks and the failures that it outlives. Without this it goes on until
    /// the deadline, however often it fails.
    ///
    /// Refused beside [`watchdog_interval`](Self::watchdog_interval), and beside `watchdog(false)`.
    #[must_use]
    pub fn watchdog_config(mut self, config: WatchdogConfig) -> Self {
        self.watchdog_config = Some(config);
        self
    }

    /// A label that others see beside host and process when they look at who holds this lock, in place of the
    /// [client's](crate::ClientBuilder::label). Control characters are left out of it, and what exceeds 255 bytes.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// How long to wait for the lock at most; zero is one try. Without this it is waited for ever.
    #[must_use]
    pub fn wait(mut self, timeout: Duration) -> Self {
        self.wait = Some(timeout);
        self
    }

    /// Keeps the resource taken for at least `time` from the grant, also when the lock is released or lost before, or its
    /// holder dies. Nobody holds it in the rest of that time; a [break](crate::Client::break_leases) ends it. For jobs that are
    /// to run once an interval over hosts whose clocks differ.
    ///
    /// At most the TTL, by which the store keeps the lease of a dead holder: [`InvalidConfig::HoldBeyondTtl`] for more. Only on
    /// stores that [can](crate::Capabilities::rest): [`InvalidConfig::NoRest`] elsewhere.
    #[must_use]
    pub fn hold_at_least(mut self, time: Duration) -> Self {
        self.hold_at_least = time;
        self
    }

    /// Data for those who look at the resource, such as the address of the holder: at most 1 KiB. Only on stores that
    /// [keep them](crate::Capabilities::data): [`InvalidConfig::NoData`] elsewhere.
    #[must_use]
    pub fn data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = Some(data.into());
        self
    }

    /// The same with `ttl`, where none was set.
    pub(crate) fn with_default_ttl(mut self, ttl: Ttl) -> Self {
        self.ttl.get_or_insert(ttl.get());
        self
    }

    /// The same for one try.
    pub(crate) fn one_try(self) -> Result<Self, InvalidConfig> {
        match self.wait {
            Some(wait) => Err(InvalidConfig::TryWithWait { wait }),
            None => Ok(self.wait(Duration::ZERO)),
        }
    }

    /// The same for ever new tries.
    pub(super) fn without_wait(mut self) -> Self {
        self.wait = None;
        self
    }

    pub(super) fn longest_wait(&self) -> Option<Duration> {
        self.wait
    }

    pub(super) fn has_watchdog(&self) -> bool {
        !self.watchdog_off
    }

    pub(crate) fn parse(&self) -> Result<Terms, InvalidConfig> {
        let ttl = self.ttl.map_or(Ok(Ttl::DEFAULT), Ttl::new)?;
        let watchdog = match (self.watchdog_off, self.watchdog_interval, &self.watchdog_config) {
            (true, Some(_), _) => return Err(InvalidConfig::IntervalWithoutWatchdog),
            (true, None, Some(_)) => return Err(InvalidConfig::ConfigWithoutWatchdog),
            (true, None, None) => None,
            (false, Some(_), Some(_)) => return Err(InvalidConfig::IntervalTwice),
            (false, None, Some(config)) => Some(config.plan(ttl)?),
            (false, interval, None) => {
                let max_failures = u32::MAX; // it goes on until the deadline
                Some(WatchdogConfig { interval, max_failures, ..WatchdogConfig::new() }.plan(ttl)?)
            }
        };
        if self.hold_at_least > ttl.get() {
            return Err(InvalidConfig::HoldBeyondTtl { hold: self.hold_at_least, ttl });
        }
        let data = self.data.as_ref().map(LeaseData::new).transpose()?;
        let (wait, hold_at_least, label) = (self.wait, self.hold_at_least, self.label.clone());
        Ok(Terms { ttl, watchdog, wait, hold_at_least, data, label })
    }
}

/// Options that work.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) ttl: Ttl,
    pub(crate) watchdog: Option<Plan>,
    pub(crate) wait: Option<Duration>,
    pub(crate) hold_at_least: Duration,
    pub(crate) data: Option<LeaseData>,
    pub(crate) label: Option<String>,
}
