//! The steps of a lease, in metrics and logs.

use std::sync::Arc;
use std::time::Duration;

use super::quietly::quietly;
use super::{Driver, Slot};
use crate::clock::Moment;
use crate::contract::{BackendError, Released, Token};
use crate::lease::{Effect, Effects, Lease, LossReason, Phase, Refusal};
use crate::metrics::{ClientMetrics, Counted, RequestOutcome, WakeUp, count};

/// The part of a store's answer that the machine does not read.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) at: Moment,
    /// The time from before the request to its answer.
    pub(super) took: Duration,
    pub(super) error: Option<BackendError>,
    /// The outcome of an extension.
    pub(super) extension: Option<RequestOutcome>,
}

/// The part of a lease's state that metrics count and logs show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) is_queued: bool,
    /// The moment from which the user waits, while the lease is claimed or queued.
    waiting_since: Option<Moment>,
    /// The moment of the grant, while the lease is held.
    held_since: Option<Moment>,
    /// The token, while the lease is held.
    token: Option<Token>,
    /// The number of the running watchdog.
    watchdog: Option<u64>,
}

/// A step, beside its effects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) before: Stage,
    pub(super) after: Stage,
    pub(super) now: Moment,
    pub(super) is_hint: bool,
}

impl Stage {
    const NONE: Self = Self { is_queued: false, waiting_since: None, held_since: None, token: None, watchdog: None };

    pub(super) fn of(lease: &Lease) -> Self {
        match lease.phase() {
            Phase::Claiming(claiming) => Self { waiting_since: Some(claiming.since()), ..Self::NONE },
            Phase::Queued(queued) => Self { is_queued: true, waiting_since: Some(queued.since()), ..Self::NONE },
            Phase::Held(held) => {
                let watchdog = held.watchdog().map(|watchdog| watchdog.renewal().generation);
                Self { held_since: Some(held.since()), token: Some(held.token()), watchdog, ..Self::NONE }
            }
            _ => Self::NONE,
        }
    }

    /// The time for which the user has waited; zero if the user does not wait.
    fn waited_for(self, now: Moment) -> Duration {
        self.waiting_since.map(|since| now.since(since)).unwrap_or_default()
    }

    /// The time since the grant; zero if the lease is not held.
    fn held_for(self, now: Moment) -> Duration {
        self.held_since.map(|since| now.since(since)).unwrap_or_default()
    }

    /// Counts a change for the statistics of the process.
    pub(super) fn count_change(self, after: Self, effects: &Effects) {
        match (self.is_queued, after.is_queued) {
            (false, true) => count(Counted::Queued),
            (true, false) => count(Counted::Unqueued),
            _ => {}
        }
        match (self.watchdog, after.watchdog) {
            (None, Some(_)) => count(Counted::WatchdogStarted),
            (Some(_), None) => count(Counted::WatchdogEnded),
            _ => {}
        }
        if effects.iter().any(|effect| matches!(effect, Effect::Grant(_))) {
            count(Counted::Granted);
        }
        if effects.iter().any(|effect| matches!(effect, Effect::Lose(_))) {
            count(Counted::Lost);
        } else if self.held_since.is_some() && after.held_since.is_none() {
            count(Counted::GivenBack);
        }
    }
}

impl Driver {
    /// Reports a step to metrics, and to logs.
    ///
    /// A recorder or a subscriber that blocks must delay neither the signal of another loss nor a renewal. So failures
    /// are reported on another thread, and so are all steps while the log wants to see each of them. An ordinary step
    /// allocates nothing and takes no mutex here.
    pub(super) fn observe(&self, slot: &Arc<Slot>, effects: &Effects, seen: Seen, report: Option<&Report>) {
        let is_failure = effects.iter().any(is_failure);
        if is_failure {
            measure(self.failures.metrics(), slot, effects, seen, report);
            let failures = self.failures.clone();
            self.measurements.add_once(&self.runtime, move || failures.publish());
        } else {
            quietly(|| measure(&self.metrics, slot, effects, seen, report));
        }
        if is_failure || quietly(is_wanted).unwrap_or_default() {
            let (slot, effects, report) = (slot.clone(), effects.clone(), report.cloned());
            let log = move || log(&slot, &effects, seen, report.as_ref());
            if is_failure { self.log.add(&self.runtime, log) } else { self.log.add_detail(&self.runtime, log) }
        } else {
            quietly(|| log(slot, effects, seen, report)); // the filter may name single lines
        }
    }
}

fn measure(metrics: &ClientMetrics, slot: &Slot, effects: &Effects, seen: Seen, report: Option<&Report>) {
    let Seen { before, after, now, is_hint } = seen;
    match (before.is_queued, after.is_queued) {
        (false, true) => metrics.queued(),
        (true, false) => metrics.no_longer_queued(),
        _ => {}
    }
    match (before.watchdog, after.watchdog) {
        (None, Some(_)) => metrics.watchdog_started(),
        (Some(_), None) => metrics.watchdog_ended(),
        _ => {}
    }
    let held_for = before.held_for(now);
    let mut is_lost = false;
    for effect in effects {
        match *effect {
            Effect::Grant(_) => {
                metrics.granted();
                if before.is_queued {
                    metrics.woken(if is_hint { WakeUp::Pushed } else { WakeUp::Asked });
                }
            }
            Effect::Lose(reason) => {
                is_lost = true;
                metrics.lost(slot.kind, reason, held_for);
            }
            Effect::Released(Released::Released) => metrics.released(RequestOutcome::Done),
            Effect::Released(Released::Absent) => metrics.released(RequestOutcome::Gone),
            Effect::Unreleased => metrics.released(RequestOutcome::Failed),
            Effect::Begun { late } => metrics.extension_begun(late),
            Effect::Send(_)
            | Effect::Refuse(_)
            | Effect::Reply(..)
            | Effect::Confirm(_)
            | Effect::Renewed
            | Effect::Failed(_)
            | Effect::Forget => {}
        }
    }
    if before.held_since.is_some() && after.held_since.is_none() && !is_lost {
        metrics.given_back(slot.kind, held_for);
    }
    if let Some(report) = report
        && let (Some(outcome), Some(_)) = (report.extension, before.held_since)
    {
        metrics.extension_answered(outcome, report.took);
    }
}

/// Whether the subscriber wants to see each step, or the logger of the crate `log`, which gets the events of a program
/// without a subscriber if a dependency switches that on.
fn is_wanted() -> bool {
    tracing::enabled!(tracing::Level::DEBUG) || log::log_enabled!(log::Level::Debug)
}

/// Whether the effect is part of a failure, which is logged as a warning.
fn is_failure(effect: &Effect) -> bool {
    matches!(effect, Effect::Lose(_) | Effect::Unreleased | Effect::Refuse(Refusal::Ended(LossReason::Gone)))
}

fn log(slot: &Slot, effects: &Effects, Seen { before, after, now, .. }: Seen, report: Option<&Report>) {
    let resource = &slot.key.resource;
    if let Some(error) = report.and_then(|report| report.error.as_ref()) {
        tracing::debug!(%resource, %error, "a request failed");
    }
    if !before.is_queued && after.is_queued {
        tracing::debug!(%resource, "waiting for the lock");
    }
    let is_lost = effects.iter().any(|effect| matches!(effect, Effect::Lose(_)));
    if before.held_since.is_some() && after.held_since.is_none() && !is_lost {
        let (token, held_for) = (before.token.map(Token::get), before.held_for(now));
        tracing::debug!(%resource, token, ?held_for, "releasing the lock");
    }
    for effect in effects {
        match *effect {
            Effect::Grant(token) => {
                let waited_for = before.waited_for(now);
                tracing::debug!(%resource, %token, ?waited_for, "acquired the lock");
            }
            Effect::Lose(reason) => {
                let (token, held_for) = (before.token.map(Token::get), before.held_for(now));
                tracing::warn!(%resource, %reason, token, ?held_for, "lost the lock");
            }
            Effect::Refuse(Refusal::Ended(LossReason::Gone)) => {
                tracing::warn!(%resource, "the store lost a place in the queue; queuing again");
            }
            Effect::Unreleased => tracing::warn!(%resource, "a lock was not released; it ends with its TTL"),
            Effect::Renewed => tracing::trace!(%resource, "extended the lock"),
            _ => {}
        }
    }
}
