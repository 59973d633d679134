//! Held locks, for guards and watchdogs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::quietly::quietly;
use super::slot::Signals;
use super::step::Sending;
use super::watch::Watch;
use super::{Driver, Slot};
use crate::contract::Ttl;
use crate::error::{ExtendError, StartWatchdogError};
use crate::lease::{End, Input, LossReason, Lost, Phase};
use crate::watchdog::{WatchdogConfig, WatchdogStatus};

impl Driver {
    /// The reason for the loss of the lock, by an answer of the store or by the clock; `None` while it is held.
    pub(crate) fn loss(self: &Arc<Self>, slot: &Arc<Slot>) -> Option<LossReason> {
        if let Some(deadline) = slot.deadline() {
            if self.now() < deadline {
                return None;
            }
            self.step(slot, Input::Timer, Sending::Now);
        }
        slot.loss()
    }

    /// The time until the deadline.
    pub(crate) fn remaining(&self, slot: &Slot) -> Duration {
        slot.deadline().map(|deadline| deadline.since(self.now())).unwrap_or_default()
    }

    /// A token that is cancelled when the lock is lost.
    pub(crate) fn lost_signal(self: &Arc<Self>, slot: &Arc<Slot>) -> CancellationToken {
        self.signals(slot).lost.child_token()
    }

    /// The token that is cancelled when the lock is lost or released. Wait for it with a
    /// [`QuietWaker`](super::QuietWaker).
    pub(crate) fn end_signal(self: &Arc<Self>, slot: &Arc<Slot>) -> CancellationToken {
        self.signals(slot).ended.clone()
    }

    fn signals<'a>(self: &Arc<Self>, slot: &'a Arc<Slot>) -> &'a Signals {
        let signals = slot.signals.get_or_init(Signals::default);
        // An end before this line found no signals to cancel. A later end finds them.
        drop(slot.lock());
        let is_lost = self.loss(slot).is_some();
        if slot.deadline().is_none() {
            quietly(|| signals.ended.cancel());
        }
        if is_lost {
            quietly(|| signals.lost.cancel()); // last, because a user's waker may block
        }
        signals
    }

    /// The end of a lock; `None` while it is held.
    pub(crate) fn end(self: &Arc<Self>, slot: &Arc<Slot>) -> Option<End> {
        if let Some(reason) = self.loss(slot) {
            return Some(End::Lost(reason));
        }
        // A loss between these lines is recorded before the deadline is cleared.
        slot.deadline().is_none().then(|| slot.loss().map_or(End::Released, End::Lost))
    }

    /// Extends the lock, in addition to the extensions of its watchdog.
    pub(crate) async fn extend(self: &Arc<Self>, slot: &Arc<Slot>, ttl: Ttl) -> Result<(), ExtendError> {
        self.check_max(ttl)?;
        let (sender, reply) = oneshot::channel();
        let ticket = self.new_number();
        slot.lock().tickets.push((ticket, sender));
        let retry_until = self.now().after(self.settings.retry_for);
        self.step(slot, Input::Extend { ttl, ticket, retry_until }, Sending::Here);
        reply.await.unwrap_or_else(|_| {
            let reason = slot.loss().unwrap_or(LossReason::Shutdown);
            Err(Lost { resource: slot.key.resource.clone(), reason }.into())
        })
    }

    /// Starts a watchdog, which replaces the running one, and returns its number.
    pub(crate) fn start_watchdog(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        config: &WatchdogConfig,
    ) -> Result<u64, StartWatchdogError> {
        let plan = config.plan(slot.lock().lease.terms().ttl)?;
        self.check_max(plan.extend_by)?;
        let generation = self.new_number();
        let (renewal, watch) = Watch::start(plan, generation);
        let (mut is_held, mut replaced) = (false, None);
        self.step_with(slot, Input::Watch(renewal), None, Sending::Now, |state, now| {
            is_held = matches!(state.lease.phase(), Phase::Held(held) if now < held.deadline());
            if is_held {
                replaced = state.watch.replace(watch);
            }
        });
        drop(replaced); // the user's closures, after the slot's mutex is released
        if is_held {
            return Ok(generation);
        }
        let reason = slot.loss().unwrap_or(LossReason::Released);
        Err(Lost { resource: slot.key.resource.clone(), reason }.into())
    }

    /// The number of the running watchdog.
    pub(crate) fn running_watchdog(&self, slot: &Slot) -> Option<u64> {
        match slot.lock().lease.phase() {
            Phase::Held(held) => held.watchdog().map(|watchdog| watchdog.renewal().generation),
            _ => None,
        }
    }

    /// Stops the watchdog of that number, if it is still running.
    pub(crate) fn stop_watchdog(self: &Arc<Self>, slot: &Arc<Slot>, generation: u64) {
        self.step(slot, Input::Unwatch { generation }, Sending::Now);
    }

    pub(crate) fn watchdog_status(&self, slot: &Slot, generation: u64) -> WatchdogStatus {
        let state = slot.lock();
        let Some(watch) = state.watch.as_ref().filter(|watch| watch.generation == generation) else {
            return WatchdogStatus::default();
        };
        let running = match state.lease.phase() {
            Phase::Held(held) => held.watchdog().filter(|watchdog| watchdog.renewal().generation == generation),
            _ => None,
        };
        let next = running.map(|watchdog| watchdog.next_at().since(self.now()));
        WatchdogStatus {
            is_running: running.is_some(),
            extend_count: watch.extend_count,
            failure_count: watch.failures,
            last_extend_time: watch.last_extend,
            next_extend_time: next.and_then(|next| SystemTime::now().checked_add(next)),
            last_error: watch.last_error.clone(),
        }
    }
}
