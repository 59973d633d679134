//! The options of a lock.

use std::time::Duration;

use crate::contract::{LeaseData, Ttl};
use crate::driver::{Defaults, QueuePlace};
use crate::error::InvalidConfig;
use crate::watchdog::{Plan, WatchdogConfig};

/// The options of a lock: its TTL, its watchdog, and the time to wait for it.
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
    watchdog: Option<bool>,
    watchdog_interval: Option<Duration>,
    watchdog_config: Option<WatchdogConfig>,
    wait: Option<Duration>,
    hold_at_least: Duration,
    hold_at_most: Option<Duration>,
    data: Option<Vec<u8>>,
    label: Option<String>,
    place: Option<QueuePlace>,
}

impl LockOptions {
    /// The defaults of the client. Unless [its builder](crate::ClientBuilder) sets others, these are a TTL of 30 s, a
    /// watchdog that extends every third of the TTL, and no time limit for the wait.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the life of the lease on the store's clock after each extension. A crashed holder blocks the others for
    /// this long. From [`Ttl::MIN`] (10 ms) to [`Ttl::MAX`] (365 days). The default is the client's
    /// [`default_ttl`](crate::ClientBuilder::default_ttl), which is 30 s by default.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets whether a watchdog extends the lease until it is released. The default is the client's
    /// [`default_watchdog`](crate::ClientBuilder::default_watchdog), which is true by default. Without a watchdog the
    /// lock is lost when its TTL ends, unless the caller [extends](crate::Guard::extend) it.
    #[must_use]
    pub fn watchdog(mut self, on: bool) -> Self {
        self.watchdog = Some(on);
        self
    }

    /// Sets the time between two extensions. The default is that of the client's
    /// [`default_watchdog_config`](crate::ClientBuilder::default_watchdog_config), or a third of the TTL. At least
    /// [`WatchdogConfig::MIN_INTERVAL`], and shorter than the TTL.
    #[must_use]
    pub fn watchdog_interval(mut self, interval: Duration) -> Self {
        self.watchdog_interval = Some(interval);
        self
    }

    /// Sets the whole configuration of the watchdog, with its callbacks and the number of failures that it tolerates.
    /// The default is the client's
    /// [`default_watchdog_config`](crate::ClientBuilder::default_watchdog_config). Without both the watchdog continues
    /// until the deadline, however often it fails.
    ///
    /// Refused together with [`watchdog_interval`](Self::watchdog_interval) or `watchdog(false)`.
    #[must_use]
    pub fn watchdog_config(mut self, config: WatchdogConfig) -> Self {
        self.watchdog_config = Some(config);
        self
    }

    /// Sets a label that others see beside host and process when they inspect this lock, instead of the
    /// [client's](crate::ClientBuilder::label). Control characters are removed from the label, and it is cut to 255
    /// bytes.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets the maximum time to wait for the lock; zero is one try, and [`Duration::MAX`] is no limit. The default is
    /// the client's [`default_wait`](crate::ClientBuilder::default_wait), which is no limit by default.
    ///
    /// Without a maximum time the call fails if the first request has no answer within the client's
    /// [`retry_for`](crate::ClientBuilder::retry_for). With one, also with [`Duration::MAX`], it waits for that answer,
    /// up to the timeout of the backend for a request.
    #[doc(alias("timeout", "wait_timeout", "wait_time"))]
    #[must_use]
    pub fn wait(mut self, timeout: Duration) -> Self {
        self.wait = Some(timeout);
        self
    }

    /// Keeps the resource taken for at least `time` from the grant, also when the lock is released or lost before, or
    /// its holder dies. The resource has no holder for the rest of that time. A [break](crate::Client::break_leases)
    /// ends it, and a lock that is [given back](crate::Guard::give_back) has none. For jobs that run once per interval on
    /// hosts whose clocks differ.
    ///
    /// At most the TTL, for which the store keeps the lease of a dead holder: [`InvalidConfig::HoldBeyondTtl`] for
    /// more. Only for stores that [support it](crate::Capabilities::rest): [`InvalidConfig::NoRest`] for others.
    #[must_use]
    pub fn hold_at_least(mut self, time: Duration) -> Self {
        self.hold_at_least = time;
        self
    }

    /// Sets the time after which the lock is lost, counted from its grant: work that hangs does not keep it for ever. The loss
    /// has the reason [`HeldTooLong`](crate::LossReason::HeldTooLong). The watchdog ends with it; the store keeps the lease for
    /// the guard until that is dropped, or until the TTL ends. No limit by default.
    ///
    /// At least [`Ttl::MIN`] (10 ms) and [`hold_at_least`](Self::hold_at_least): [`InvalidConfig::HoldLimit`] otherwise. A
    /// [`LockSet`](crate::LockSet) refuses it ([`InvalidConfig::HoldLimitOfSet`]), because its locks are granted one by one.
    #[must_use]
    pub fn hold_at_most(mut self, time: Duration) -> Self {
        self.hold_at_most = Some(time);
        self
    }

    /// Shows the waiter's place in the queue to those who have a clone of `place`.
    #[must_use]
    pub fn queue_place(mut self, place: &QueuePlace) -> Self {
        self.place = Some(place.clone());
        self
    }

    /// Sets data for clients that inspect the resource, such as the address of the holder. At most 1 KiB. Only for
    /// stores that [keep them](crate::Capabilities::data): [`InvalidConfig::NoData`] for others.
    #[must_use]
    pub fn data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = Some(data.into());
        self
    }

    /// The same options, completed by the client's.
    pub(super) fn with_defaults(mut self, defaults: &Defaults) -> Self {
        self.ttl.get_or_insert(defaults.ttl.get());
        self.wait = self.wait.or(defaults.wait);
        let is_configured = self.watchdog_interval.is_some() || self.watchdog_config.is_some();
        let is_on = *self.watchdog.get_or_insert(is_configured || defaults.watchdog);
        if is_on && self.watchdog_config.is_none() {
            self.watchdog_config = defaults.watchdog_config.clone().map(|config| {
                let interval = self.watchdog_interval.take().or(config.interval);
                WatchdogConfig { interval, ..config }
            });
        }
        self
    }

    /// The same options for one try.
    pub(crate) fn one_try(self) -> Result<Self, InvalidConfig> {
        match self.wait {
            Some(wait) => Err(InvalidConfig::TryWithWait { wait }),
            None => Ok(self.wait(Duration::ZERO)),
        }
    }

    /// The same options without a wait, for repeated tries.
    pub(super) fn without_wait(mut self) -> Self {
        self.wait = None;
        self
    }

    pub(super) fn longest_wait(&self) -> Option<Duration> {
        self.wait
    }

    pub(super) fn has_limit(&self) -> bool {
        self.hold_at_most.is_some()
    }

    pub(super) fn has_watchdog(&self) -> bool {
        self.watchdog != Some(false)
    }

    pub(crate) fn parse(&self) -> Result<ValidOptions, InvalidConfig> {
        let ttl = self.ttl.map_or(Ok(Ttl::DEFAULT), Ttl::new)?;
        let watchdog = match (self.has_watchdog(), self.watchdog_interval, &self.watchdog_config) {
            (false, Some(_), _) => return Err(InvalidConfig::IntervalWithoutWatchdog),
            (false, None, Some(_)) => return Err(InvalidConfig::ConfigWithoutWatchdog),
            (false, None, None) => None,
            (true, Some(_), Some(_)) => return Err(InvalidConfig::IntervalTwice),
            (true, None, Some(config)) => Some(config.plan(ttl)?),
            (true, interval, None) => {
                let max_failures = u32::MAX; // it continues until the deadline
                Some(WatchdogConfig { interval, max_failures, ..WatchdogConfig::new() }.plan(ttl)?)
            }
        };
        if self.hold_at_least > ttl.get() {
            return Err(InvalidConfig::HoldBeyondTtl { hold: self.hold_at_least, ttl });
        }
        if let Some(limit) = self.hold_at_most.filter(|limit| *limit < Ttl::MIN.get().max(self.hold_at_least)) {
            return Err(InvalidConfig::HoldLimit { limit, hold: self.hold_at_least });
        }
        let data = self.data.as_ref().map(LeaseData::new).transpose()?;
        let Self { hold_at_least, hold_at_most, ref label, ref place, .. } = *self;
        Ok(ValidOptions {
            ttl,
            watchdog,
            wait: self.longest_wait(),
            hold_at_least,
            hold_at_most,
            data,
            label: label.clone(),
            place: place.clone(),
        })
    }
}

/// Valid options.
#[derive(Clone)]
pub(crate) struct ValidOptions {
    pub(crate) ttl: Ttl,
    pub(crate) watchdog: Option<Plan>,
    pub(crate) wait: Option<Duration>,
    pub(crate) hold_at_least: Duration,
    pub(crate) hold_at_most: Option<Duration>,
    pub(crate) data: Option<LeaseData>,
    pub(crate) label: Option<String>,
    pub(crate) place: Option<QueuePlace>,
}
