//! Keeping leases alive, queued and held, and noticing when one is gone.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Engine;
use super::claim::deadline;
use super::lease::{ByHand, Lease, Phase, State};
use super::renewal::pause;
use crate::metrics::{Answer, WakeUp};
use crate::{
    BackendError, ExtendError, Extended, Extension, ExtensionFailure, Grant, LockError, LossReason, Lost, Moment, Ttl,
    WatchdogFailure,
};

impl Engine {
    /// Asks about a queued lease, and keeps it in the queue by that.
    pub(super) fn keep_place(self: &Arc<Self>, lease: &Arc<Lease>, state: &mut State, now: Moment) {
        state.due = Some(now.after(pause(state.tries, state.ttl.get() / 12, state.ttl.get() / 6)));
        self.queue_extension(lease, state);
    }

    /// Extends a held lease: for its watchdog, or once to its full life.
    pub(super) fn keep_alive(self: &Arc<Self>, lease: &Arc<Lease>, state: &mut State, now: Moment) {
        if state.refresh {
            state.due = Some(now.after(state.ttl.get() / 6));
            self.queue_extension(lease, state);
            return;
        }
        let Some(renewal) = state.renewal.as_mut().filter(|renewal| renewal.running) else {
            state.due = None;
            return;
        };
        if now >= renewal.due() {
            if let Some(since) = renewal.unanswered_since {
                let silence = ExtensionFailure::NoAnswer(now.since(since));
                let cause = renewal.last_error.take().unwrap_or(silence);
                self.extension_failed(lease, state, cause);
                if !matches!(state.phase, Phase::Held(_)) {
                    return;
                }
            }
            let renewal = state.renewal.as_mut().expect("it was there, and the lease is still held");
            self.metrics.extension_begun(now.since(renewal.next_at));
            renewal.unanswered_since = Some(now);
            renewal.next_at = renewal.next_at.after(renewal.interval).max(now.after(renewal.interval / 2));
            state.tries = 0;
        }
        let renewal = state.renewal.as_ref().expect("it was there, and the lease is still held");
        state.due = Some(renewal.due().min(now.after(renewal.interval / 2)));
        self.queue_extension(lease, state);
    }

    /// A scheduled extension has failed with all its retries.
    fn extension_failed(self: &Arc<Self>, lease: &Arc<Lease>, state: &mut State, cause: ExtensionFailure) {
        let Some(renewal) = state.renewal.as_mut() else { return };
        renewal.failures += 1;
        renewal.last_error = Some(cause.clone());
        self.metrics.watchdog_failed();
        let failure = WatchdogFailure {
            resource: lease.key.resource.clone(),
            failures: renewal.failures,
            max_failures: renewal.max_failures,
            cause,
        };
        tracing::warn!(resource = %failure.resource, error = %failure, "a lock was not extended");
        let exhausted = failure.failures >= failure.max_failures;
        if let Some(call) = renewal.on_failure.clone() {
            self.callbacks.call(&self.runtime, move || call(&failure));
        }
        if exhausted {
            self.lose(lease, state, LossReason::GaveUp);
        }
    }

    /// Asks about a lease at once, because events may have been lost.
    pub(super) fn ask_again(self: &Arc<Self>, lease: &Arc<Lease>) {
        let mut state = lease.lock();
        match state.phase {
            Phase::Queued => self.keep_place(lease, &mut state, self.now()),
            Phase::Held(_) => self.queue_extension(lease, &mut state),
            _ => {}
        }
        self.reschedule(lease, &mut state);
    }

    pub(super) fn broken_by_event(self: &Arc<Self>, lease: &Arc<Lease>) {
        lease.lock().broken = true;
        self.ask_again(lease);
    }

    /// Puts a lease among those that are extended next. [`send_extensions`](Self::send_extensions) follows once all
    /// that are due now are among them, so that they go together.
    pub(super) fn queue_extension(&self, lease: &Arc<Lease>, state: &mut State) {
        if !std::mem::replace(&mut state.extend_queued, true) {
            self.extensions.push(lease.clone());
        }
    }

    pub(super) fn send_extensions(self: &Arc<Self>) {
        while let Some(first) = self.extensions.start() {
            self.work(first, |engine| &engine.extensions, Self::run_extensions);
        }
    }

    async fn run_extensions(self: Arc<Self>, batch: Vec<Arc<Lease>>) {
        let mut sending = Vec::with_capacity(batch.len());
        let mut extensions = Vec::with_capacity(batch.len());
        for lease in batch {
            if let Some((ttl, by_hand)) = self.next_extension(&lease) {
                extensions.push(Extension { key: lease.key.clone(), ttl });
                sending.push((lease, ttl, by_hand));
            }
        }
        if extensions.is_empty() {
            return;
        }
        let sent = self.now();
        let answers = self.call("extend", extensions.len(), async { self.backend.extend(&extensions).await }).await;
        for ((lease, ttl, by_hand), answer) in sending.into_iter().zip(answers) {
            self.extension_answered(&lease, sent, ttl, by_hand, answer);
        }
    }

    /// What to ask for on behalf of a lease whose turn has come: the longest that anybody wants.
    fn next_extension(&self, lease: &Arc<Lease>) -> Option<(Ttl, Vec<ByHand>)> {
        let mut state = lease.lock();
        state.extend_queued = false;
        let by_hand = std::mem::take(&mut state.by_hand);
        let watchdog = state.renewal.as_ref().filter(|renewal| renewal.running).map(|renewal| renewal.extend_by);
        let automatic = match state.phase {
            Phase::Queued => Some(state.ttl),
            // A lease that only its holder extends is asked about with the shortest TTL, which changes nothing.
            Phase::Held(_) => watchdog.or(Some(if state.refresh { state.ttl } else { Ttl::MIN })),
            _ => None,
        };
        drop(state);
        let Some(automatic) = automatic else {
            for (_, answer) in by_hand {
                let _nobody_waits = answer.send(Err(self.lost_error(lease).into()));
            }
            return None;
        };
        let longest = by_hand.iter().map(|(ttl, _)| *ttl).fold(automatic, Ttl::max);
        Some((longest, by_hand.into_iter().map(|(_, answer)| answer).collect()))
    }

    fn extension_answered(
        self: &Arc<Self>,
        lease: &Arc<Lease>,
        sent: Moment,
        ttl: Ttl,
        by_hand: Vec<ByHand>,
        answer: Result<Extended, BackendError>,
    ) {
        let failure = answer.as_ref().err().cloned();
        let mut state = lease.lock();
        match state.phase {
            Phase::Queued => self.place_answered(lease, &mut state, sent, ttl, answer),
            Phase::Held(_) => self.life_answered(lease, &mut state, sent, ttl, answer),
            _ => {}
        }
        self.reschedule(lease, &mut state);
        let held = matches!(state.phase, Phase::Held(_));
        drop(state);
        for waiting in by_hand {
            let told = match &failure {
                _ if !held => Err(self.lost_error(lease).into()),
                None => Ok(()),
                Some(source) => {
                    let resource = lease.key.resource.clone();
                    Err(ExtendError::Unconfirmed { resource, source: source.clone() })
                }
            };
            let _nobody_waits = waiting.send(told);
        }
    }

    fn place_answered(
        self: &Arc<Self>,
        lease: &Arc<Lease>,
        state: &mut State,
        sent: Moment,
        ttl: Ttl,
        answer: Result<Extended, BackendError>,
    ) {
        match answer {
            Ok(Extended::Held(grant)) => {
                state.alive_until = deadline(sent, ttl, grant);
                self.metrics.woken(WakeUp::Asked);
                self.grant(lease, state, grant.token, true);
            }
            Ok(Extended::Queued(place)) => self.queued(lease, state, sent, place),
            Ok(Extended::Gone { .. }) => {
                tracing::warn!(resource = %lease.key.resource, "the store lost a place in the queue; queuing again");
                // Whoever waits claims the lock anew by another lease: what was said of this one may still come in.
                state.lost = Some(LossReason::Gone);
                state.due = None;
                self.enter(lease, state, Phase::Lost);
                lease.changed.notify_one();
            }
            Err(error) if error.is_transient() => {
                tracing::debug!(resource = %lease.key.resource, %error, "asking about the place in the queue again");
                state.tries += 1;
                state.last_error = Some(Box::new(error));
                let most = (state.ttl.get() / 6).min(Duration::from_secs(1));
                state.due = Some(self.now().after(pause(state.tries, Duration::from_millis(10), most)));
            }
            Err(source) => {
                let resource = lease.key.resource.clone();
                self.fail(lease, state, LockError::Rejected { resource, source });
            }
        }
    }

    fn life_answered(
        self: &Arc<Self>,
        lease: &Arc<Lease>,
        state: &mut State,
        sent: Moment,
        ttl: Ttl,
        answer: Result<Extended, BackendError>,
    ) {
        if matches!(answer, Ok(Extended::Queued(_))) && sent <= state.since {
            return; // from before the grant, of which an event has told meanwhile
        }
        let now = self.now();
        let kind = match &answer {
            Ok(Extended::Held(_)) => Answer::Done,
            Ok(_) => Answer::Gone,
            Err(_) => Answer::Failed,
        };
        self.metrics.extension_answered(kind, now.since(sent));
        match answer {
            _ if now >= state.alive_until => self.lose(lease, state, LossReason::Expired),
            Ok(Extended::Held(grant)) if state.phase == Phase::Held(grant.token) => {
                self.extended(lease, state, sent, ttl, grant);
            }
            Ok(Extended::Gone { .. }) if state.broken => self.lose(lease, state, LossReason::Broken),
            Ok(Extended::Gone { taken: true }) => self.lose(lease, state, LossReason::TakenOver),
            // Held with another token, or back in the queue: the store lost the grant and has made another.
            Ok(other) => {
                state.still_there = !matches!(other, Extended::Gone { .. });
                self.lose(lease, state, LossReason::Gone);
            }
            Err(error) => {
                let interval = state.renewal.as_ref().map_or(state.ttl.get() / 3, |renewal| renewal.interval);
                let next = now.after(pause(state.tries, interval / 32, interval / 4));
                state.tries += 1;
                tracing::debug!(resource = %lease.key.resource, %error, "extending the lock again");
                if let Some(renewal) = state.renewal.as_mut().filter(|renewal| renewal.running) {
                    renewal.last_error = Some(error.into());
                    state.due = Some(next.min(renewal.due()));
                } else if state.refresh {
                    state.due = Some(next);
                }
            }
        }
    }

    fn extended(self: &Arc<Self>, lease: &Arc<Lease>, state: &mut State, sent: Moment, ttl: Ttl, grant: Grant) {
        let now = self.now();
        state.alive_until = state.alive_until.max(deadline(sent, ttl, grant));
        lease.publish_deadline(state);
        state.broken = false;
        state.tries = 0;
        state.refresh = state.refresh && ttl < state.ttl;
        let Some(renewal) = state.renewal.as_mut().filter(|renewal| renewal.running) else {
            state.due = state.due.filter(|_| state.refresh);
            return;
        };
        state.due = Some(renewal.due());
        renewal.failures = 0;
        renewal.last_error = None;
        if renewal.unanswered_since.take().is_none() {
            return; // extended by hand, or answered late
        }
        renewal.extend_count += 1;
        renewal.last_extend = Some(SystemTime::now());
        self.metrics.watchdog_extended(now.since(sent));
        tracing::trace!(resource = %lease.key.resource, "extended the lock");
        if let Some(call) = renewal.on_success.clone() {
            self.callbacks.call(&self.runtime, move || call());
        }
    }

    /// The lease has ended without having been released. Said once, and final.
    pub(super) fn lose(self: &Arc<Self>, lease: &Arc<Lease>, state: &mut State, reason: LossReason) {
        state.lost = Some(reason);
        state.due = None;
        let running = state.renewal.as_ref().is_some_and(|renewal| renewal.running);
        if running && !matches!(reason, LossReason::GaveUp | LossReason::Shutdown) {
            self.tell_of_loss(lease, state, reason);
        }
        self.enter(lease, state, Phase::Lost);
        tracing::warn!(resource = %lease.key.resource, %reason, "lost the lock");
        for (_, waiting) in state.by_hand.drain(..) {
            let _nobody_waits = waiting.send(Err(Lost { resource: lease.key.resource.clone(), reason }.into()));
        }
        if let Some(signal) = lease.lost_signal.get() {
            signal.cancel();
        }
        lease.changed.notify_one();
    }

    fn tell_of_loss(&self, lease: &Lease, state: &mut State, reason: LossReason) {
        let Some(renewal) = state.renewal.as_mut() else { return };
        renewal.failures += 1;
        renewal.last_error = Some(ExtensionFailure::Lost(reason));
        self.metrics.watchdog_failed();
        if let Some(call) = renewal.on_failure.clone() {
            let failure = WatchdogFailure {
                resource: lease.key.resource.clone(),
                failures: renewal.failures,
                max_failures: renewal.max_failures,
                cause: ExtensionFailure::Lost(reason),
            };
            self.callbacks.call(&self.runtime, move || call(&failure));
        }
    }
}
