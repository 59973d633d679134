//! The schedule of a watchdog.

use std::time::Duration;

use super::pause::fraction;
use super::{Context, Effect, LossReason, WatchdogFault};
use crate::clock::Moment;
use crate::contract::Ttl;

/// The settings of a watchdog.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Renewal {
    /// The number of this watchdog, unique in its client.
    pub(crate) generation: u64,
    pub(crate) interval: Duration,
    /// The life that each extension requests.
    pub(crate) extend_by: Ttl,
    /// The number of scheduled extensions in a row that may fail; `None` if only the deadline limits them.
    pub(crate) max_failures: Option<u32>,
}

/// The schedule of a running watchdog: one extension at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RenewalSchedule {
    renewal: Renewal,
    /// The moment of the next scheduled extension.
    next_at: Moment,
    /// The moment when the last scheduled extension began; `None` once any extension has succeeded since, even one that
    /// was sent before.
    begun: Option<Moment>,
    /// The moment when the last scheduled extension began; `None` once an extension has succeeded that was sent since.
    wanted: Option<Moment>,
    /// Scheduled extensions that failed in a row.
    failures: u32,
}

/// The next action of a watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Next {
    /// Send an extension.
    Extend,
    /// Give up, because too many scheduled extensions have failed.
    GiveUp,
}

impl RenewalSchedule {
    /// A watchdog whose first extension comes at once, or after a half to the whole of its interval, depending on
    /// `seed`. So locks that were acquired together are not extended together.
    pub(super) fn start(renewal: Renewal, seed: u64, now: Moment, at_once: bool) -> Self {
        let part = 0.5 + 0.5 * fraction(seed, u32::MAX);
        let first = if at_once { Duration::ZERO } else { renewal.interval.mul_f64(part) };
        Self { renewal, next_at: now.after(first), begun: None, wanted: None, failures: 0 }
    }

    pub(crate) fn renewal(&self) -> &Renewal {
        &self.renewal
    }

    pub(crate) fn next_at(&self) -> Moment {
        self.next_at
    }

    /// The moment to begin the extension that is scheduled at `next_at`: a little earlier, on a grid as coarse as the
    /// interval allows. So extensions that are due at about the same time are sent together.
    pub(super) fn due(&self) -> Moment {
        const COARSEST: u64 = 1 << 26; // 67 ms
        let fine = u64::try_from(self.renewal.interval.as_nanos() / 32).unwrap_or(COARSEST).clamp(1, COARSEST);
        let grid = 1 << fine.ilog2();
        let past_grid = self.next_at.since(Moment::default()).as_nanos() % grid;
        self.next_at.before(Duration::from_nanos(u64::try_from(past_grid).expect("less than the grid")))
    }

    /// Whether an extension that is sent after the last scheduled one began still has to succeed.
    pub(super) fn is_extending(&self) -> bool {
        self.wanted.is_some()
    }

    /// Begins the scheduled extension. The previous one counts as failed if it has not succeeded by now.
    pub(super) fn begin(&mut self, context: &mut Context<'_>) -> Next {
        let now = context.now;
        if let Some(begun) = self.begun {
            self.failures = self.failures.saturating_add(1);
            let fault = WatchdogFault::Silence { failures: self.failures, lasting: now.since(begun) };
            context.effects.push(Effect::Failed(fault));
            if self.renewal.max_failures.is_some_and(|most| self.failures >= most) {
                return Next::GiveUp;
            }
        }
        context.effects.push(Effect::Begun { late: now.since(self.next_at) });
        self.begun = Some(now);
        self.wanted = Some(now);
        self.next_at = self.next_at.after(self.renewal.interval).max(now.after(self.renewal.interval / 2));
        Next::Extend
    }

    /// Handles the success of an extension that was sent at `sent` and requested `ttl`. Any extension that requested
    /// enough life shows that the store serves this lease. Only one that was sent after the last scheduled extension
    /// began completes that extension.
    pub(super) fn succeeded(&mut self, sent: Moment, ttl: Ttl, context: &mut Context<'_>) {
        if ttl < self.renewal.extend_by {
            return;
        }
        self.wanted = self.wanted.filter(|wanted| sent < *wanted);
        self.failures = 0;
        if self.begun.take().is_some() {
            context.effects.push(Effect::Renewed);
        }
    }

    /// Reports the loss of the lock, unless the watchdog gave up, the lock reached its limit, or the client shut down.
    pub(super) fn lost(&self, reason: LossReason, context: &mut Context<'_>) {
        if !matches!(reason, LossReason::GaveUp | LossReason::HeldTooLong | LossReason::Shutdown) {
            let failures = self.failures.saturating_add(1);
            context.effects.push(Effect::Failed(WatchdogFault::Lost { failures, reason }));
        }
    }
}
