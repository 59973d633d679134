//! One step of a lease, and its effects.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::observe::{Report, Seen, Stage};
use super::quietly::quietly;
use super::slot::State;
use super::{Driver, QueuePlace, Slot};
use crate::clock::Moment;
use crate::contract::{BackendError, Failure};
use crate::error::ExtendError;
use crate::lease::{Effect, Effects, ExtendOutcome, Hint, Input, LossReason, Lost, Phase, Refusal};
use crate::metrics::{Counted, count};
use crate::watchdog::{ExtensionFailure, WatchdogFailure};

/// The way to send the requests of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// At once, by workers.
    Now,
    /// At once and alone by this task, which then waits for the outcome, if the lane is quiet; otherwise as
    /// [`Now`](Self::Now). In a poll of several futures, with their requests at its end.
    Here,
    /// With the next [`start`](Driver::start) of their lanes, together with the requests of other steps.
    Later,
}

/// The outcome of an extension that the holder requested.
type Extended = Result<(), ExtendError>;

/// The part of a step's effects that needs the slot's state. It is carried out after the slot's mutex is released.
#[derive(Default)]
struct Aftermath {
    replies: SmallVec<[(oneshot::Sender<Extended>, Extended); 1]>,
    failure: Option<WatchdogFailure>,
    /// Errors of earlier failures.
    replaced: Vec<ExtensionFailure>,
    callbacks: Option<Arc<super::callbacks::Queue>>,
    dropped: Option<Arc<super::callbacks::Queue>>,
    stale_timers: usize,
}

impl Driver {
    /// Applies one input to a lease.
    pub(super) fn step(self: &Arc<Self>, slot: &Arc<Slot>, input: Input, sending: Sending) {
        self.step_with(slot, input, None, sending, |_, _| {});
    }

    /// Applies one input to a lease. With a `report` the input is an answer of the store. `prepare` runs first, under
    /// the slot's mutex.
    pub(super) fn step_with(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        input: Input,
        report: Option<Report>,
        sending: Sending,
        prepare: impl FnOnce(&mut State, Moment),
    ) {
        let is_hint = matches!(input, Input::Hint(Hint::Granted(_)));
        let (is_close, is_drain) = (matches!(input, Input::Close), matches!(input, Input::Drain));
        let mut effects = Effects::new();
        let reported = QueuePlace::reported_by(&input);
        let mut state = slot.lock();
        let now = report.as_ref().map_or_else(|| self.now(), |report| report.at);
        let before = Stage::of(&state.lease);
        prepare(&mut state, now);
        let mut old_error = None;
        if let Some(report) = &report {
            old_error = std::mem::replace(&mut state.last_error, report.error.clone().map(Box::new));
        }
        match state.lease.phase() {
            // The waiter may not have seen its grant.
            Phase::Held(held) if is_close || is_drain && held.deadline() <= now => {
                state.refusal = Some(Refusal::Closed);
            }
            Phase::Ended(_) if is_close || is_drain => state.refusal = Some(Refusal::Closed),
            _ => {}
        }
        state.lease.step(now, input, &mut effects);
        let after = Stage::of(&state.lease);
        let aftermath = self.absorb(slot, &mut state, &effects, report.as_ref());
        before.count_change(after, &effects);
        if let Some(place) = &slot.place {
            place.note(reported, before.is_queued, after.is_queued);
        }
        slot.publish(&state);
        if effects.iter().any(|effect| matches!(effect, Effect::Forget)) {
            // Before the user is notified, and under the mutex: a lease that its user knows to be released is never
            // counted as open.
            self.leases.remove(slot.key.id);
        } else if sending == Sending::Later || !effects.iter().any(|effect| matches!(effect, Effect::Send(_))) {
            self.set_timer(slot, &mut state); // for a request that is sent now, `send` sets it
        }
        drop(state);
        quietly(|| drop(old_error)); // a type of the backend's author
        self.carry_out(slot, &effects, aftermath, (sending, now), |driver| {
            driver.observe(slot, &effects, Seen { before, after, now, is_hint }, report.as_ref());
        });
        if self.is_dead.load(Ordering::Acquire) && !slot.is_forgotten() && before != after {
            self.step(slot, Input::Abandon, Sending::Later);
        }
    }

    /// Updates the slot's state for the effects, under its mutex.
    fn absorb(&self, slot: &Slot, state: &mut State, effects: &Effects, report: Option<&Report>) -> Aftermath {
        let mut aftermath = Aftermath::default();
        if let Some(error) = report.and_then(|report| report.error.clone())
            && let Some(watch) = state.watch.as_mut().filter(|_| matches!(state.lease.phase(), Phase::Held(_)))
        {
            aftermath.replaced.extend(watch.last_error.replace(error.into()));
        }
        for effect in effects {
            match *effect {
                Effect::Lose(reason) => slot.lose(reason),
                Effect::Refuse(refusal) => state.refusal = Some(refusal),
                Effect::Confirm(outcome) => state.release = Some(outcome),
                Effect::Reply(number, outcome) => {
                    let Some(at) = state.tickets.iter().position(|(ticket, _)| *ticket == number) else { continue };
                    let (_, sender) = state.tickets.swap_remove(at);
                    aftermath.replies.push((sender, self.reply(slot, state, outcome)));
                }
                Effect::Renewed => {
                    let took = report.map(|report| report.took).unwrap_or_default();
                    count(Counted::Extended(took));
                    let Some(watch) = &mut state.watch else { continue };
                    aftermath.replaced.extend(watch.last_error.take());
                    watch.succeeded();
                    if let Some(callbacks) = &watch.callbacks {
                        callbacks.success();
                        aftermath.callbacks = Some(callbacks.clone());
                    }
                }
                Effect::Failed(fault) => {
                    count(Counted::ExtensionFailed);
                    let Some(watch) = &mut state.watch else { continue };
                    aftermath.replaced.extend(watch.last_error.take());
                    let failure = watch.failed(&slot.key.resource, fault, state.last_error.as_deref());
                    if let Some(callbacks) = &watch.callbacks {
                        aftermath.replaced.extend(callbacks.failure(failure.clone()).map(|oldest| oldest.cause));
                        aftermath.callbacks = Some(callbacks.clone());
                    }
                    aftermath.failure = Some(failure);
                }
                Effect::Unreleased if self.is_dead.load(Ordering::Acquire) => {
                    self.abandoned.fetch_add(1, Ordering::Relaxed); // before the last lease is removed
                }
                Effect::Forget => {
                    aftermath.stale_timers = std::mem::take(&mut state.timers).len();
                    // The user's closures must not be dropped under a mutex. If they stayed in the slot, they could be.
                    aftermath.dropped = state.watch.as_mut().and_then(|watch| watch.callbacks.take());
                }
                Effect::Send(_)
                | Effect::Grant(_)
                | Effect::Released(_)
                | Effect::Unreleased
                | Effect::Begun { .. } => {}
            }
        }
        aftermath
    }

    fn reply(&self, slot: &Slot, state: &State, outcome: ExtendOutcome) -> Result<(), ExtendError> {
        let resource = slot.key.resource.clone();
        let source = || self.last_error(state, "extend");
        match outcome {
            ExtendOutcome::Extended => Ok(()),
            ExtendOutcome::Unconfirmed => Err(ExtendError::Unconfirmed { resource, source: source() }),
            ExtendOutcome::Over => {
                let reason = slot.loss().unwrap_or(LossReason::Released);
                Err(Lost { resource, reason }.into())
            }
        }
    }

    /// The last failure of a request, or the error that it was not answered.
    pub(super) fn last_error(&self, state: &State, operation: &'static str) -> BackendError {
        state.last_error.as_deref().cloned().unwrap_or_else(|| {
            let reason = "the store has not answered; check that it is reachable";
            BackendError::Unknown(Failure::new(operation, self.store.clone(), reason))
        })
    }

    /// Adds the lease's timer to the schedule, unless the schedule has an earlier one.
    pub(super) fn set_timer(&self, slot: &Arc<Slot>, state: &mut State) {
        if let Some(at) = state.missing_timer() {
            state.timers.push(at);
            self.schedule.add(at, slot);
        }
    }

    /// Carries out the effects of a step, after the slot's mutex is released: the signal of a loss first, the user's
    /// code last.
    fn carry_out(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        effects: &Effects,
        aftermath: Aftermath,
        (sending, now): (Sending, Moment),
        observe: impl FnOnce(&Arc<Self>),
    ) {
        let is = |wanted: fn(&Effect) -> bool| effects.iter().any(wanted);
        let is_lost = is(|effect| matches!(effect, Effect::Lose(_)));
        if let Some(signals) = slot.signals.get() {
            if slot.deadline().is_none() {
                quietly(|| signals.ended.cancel());
            }
            if is_lost {
                quietly(|| signals.lost.cancel()); // last, because a user's waker may block
            }
        }
        let is_forgotten = is(|effect| matches!(effect, Effect::Forget));
        if aftermath.stale_timers > 0 {
            self.schedule.forgotten(aftermath.stale_timers);
        }
        let is_news = |effect: &Effect| matches!(effect, Effect::Grant(_) | Effect::Refuse(_) | Effect::Confirm(_));
        if is_lost || is_forgotten || effects.iter().any(is_news) {
            quietly(|| slot.user.wake());
        }
        for (sender, reply) in aftermath.replies {
            quietly(|| drop(sender.send(reply)));
        }
        for effect in effects {
            match (effect, sending) {
                (Effect::Send(verb), Sending::Now) => self.send(*verb, slot, now, false),
                (Effect::Send(verb), Sending::Here) => self.send(*verb, slot, now, true),
                (Effect::Send(verb), Sending::Later) => _ = self.lanes(*verb).push(*verb, slot),
                _ => {}
            }
        }
        observe(self);
        if let Some(failure) = aftermath.failure {
            self.log.add(&self.runtime, move || {
                tracing::warn!(resource = %failure.resource, error = %failure, "a lock was not extended");
            });
        }
        if let Some(callbacks) = &aftermath.callbacks {
            self.callbacks.run(&self.runtime, callbacks);
        }
        aftermath.replaced.into_iter().for_each(|error| _ = quietly(|| drop(error)));
        quietly(|| drop((aftermath.callbacks, aftermath.dropped)));
    }
}
