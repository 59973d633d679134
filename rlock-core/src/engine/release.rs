//! Giving leases back, until the store has confirmed it or they have ended by themselves.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::lease::{Lease, Phase, State};
use super::renewal::pause;
use super::{CALL_LIMIT, Engine};
use crate::metrics::Answer;
use crate::{BackendError, LossReason, Lost, Released, UnlockError};

impl Engine {
    /// Releases a held lease. The release goes its way whether or not the answer is waited for.
    pub(crate) fn unlock(
        self: &Arc<Self>,
        lease: &Arc<Lease>,
    ) -> impl Future<Output = Result<(), UnlockError>> + use<> {
        let resource = lease.key.resource.clone();
        let (told, answer) = oneshot::channel();
        let lost = self.loss(lease);
        let mut state = lease.lock();
        if lost.is_none() && state.lost.is_none() {
            state.released = Some(told);
        }
        self.give_back(lease, &mut state);
        self.reschedule(lease, &mut state);
        let lost = state.lost;
        drop(state);
        async move {
            match lost {
                Some(reason) => Err(Lost { resource, reason }.into()),
                None => answer.await.unwrap_or(Err(UnlockError::Closed { resource })),
            }
        }
    }

    /// Releases a lease without a user. Has no effect on one that is being released already.
    pub(crate) fn let_go(self: &Arc<Self>, lease: &Arc<Lease>) {
        let mut state = lease.lock();
        self.give_back(lease, &mut state);
        self.reschedule(lease, &mut state);
    }

    /// Blocks this thread until no release or claim is under way, for the client's `drop_timeout` at most, and logs the
    /// number of releases that the store has not confirmed. Returns at once after a [shutdown](Self::shutdown), which has
    /// waited.
    pub(crate) fn wait_for_releases(&self) {
        let limit = self.settings.drop_timeout;
        if self.was_shut_down.load(Ordering::Acquire) {
            return;
        }
        let table = self.table_emptied.wait_timeout_while(self.table(), limit, |leases| !leases.is_empty());
        let (table, _) = table.unwrap_or_else(PoisonError::into_inner);
        let (unconfirmed, backend) = (table.len() + self.abandoned.load(Ordering::Relaxed), &self.store);
        drop(table);
        if unconfirmed > 0 && !limit.is_zero() {
            tracing::warn!(%backend, unconfirmed, ?limit, "releases are not confirmed; each lease ends with its TTL at the latest");
        }
    }

    /// Turns whatever a lease is in towards its end.
    pub(super) fn give_back(self: &Arc<Self>, lease: &Arc<Lease>, state: &mut State) {
        match state.phase {
            Phase::Releasing | Phase::Settled => return,
            // The claim's answer decides what there is to give back.
            Phase::Asking if state.claiming => {
                state.due = None;
                self.enter(lease, state, Phase::Releasing);
            }
            Phase::Asking if !state.claim_unknown => self.settle(lease, state),
            Phase::Lost if state.is_gone_for_good() => self.settle(lease, state),
            Phase::Asking | Phase::Queued | Phase::Held(_) | Phase::Lost => self.send_release(lease, state),
        }
        if self.dead.load(Ordering::Acquire) {
            self.abandon(lease, state);
        }
    }

    /// Forgets a lease that can no longer be given back. It ends with its TTL.
    pub(super) fn abandon(&self, lease: &Arc<Lease>, state: &mut State) {
        if state.phase == Phase::Releasing {
            if let Some(waiting) = state.released.take() {
                let _nobody_waits = waiting.send(Err(UnlockError::Closed { resource: lease.key.resource.clone() }));
            }
            self.metrics.released(Answer::Failed);
            self.abandoned.fetch_add(1, Ordering::Relaxed); // before the table is empty
            self.settle(lease, state);
        }
    }

    pub(super) fn send_release(self: &Arc<Self>, lease: &Arc<Lease>, state: &mut State) {
        if state.phase != Phase::Releasing || !state.release_started {
            let now = self.now();
            let extended_by = state.renewal.as_ref().map_or(state.ttl, |renewal| renewal.extend_by.max(state.ttl));
            state.release_started = true;
            // Nothing is on its way for so long.
            state.claim_unknown &= state.first_sent.is_some() || now.since(state.since) < CALL_LIMIT;
            state.release_until = state.alive_until.max(now.after(extended_by.get()));
            state.retry_until = now.after(self.settings.retry_for);
            state.tries = 0;
            self.enter(lease, state, Phase::Releasing);
        }
        state.due = None;
        self.releases.push(lease.clone());
        if let Some(first) = self.releases.start() {
            self.work(first, |engine| &engine.releases, Self::run_releases);
        }
    }

    async fn run_releases(self: Arc<Self>, batch: Vec<Arc<Lease>>) {
        let keys: Vec<_> = batch.iter().map(|lease| lease.key.clone()).collect();
        let answers = self.call("release", keys.len(), async { self.backend.release(&keys).await }).await;
        for (lease, answer) in batch.iter().zip(answers) {
            self.release_answered(lease, answer);
        }
    }

    fn release_answered(self: &Arc<Self>, lease: &Arc<Lease>, answer: Result<Released, BackendError>) {
        let mut state = lease.lock();
        if state.phase != Phase::Releasing {
            return;
        }
        let now = self.now();
        match answer {
            Ok(released) => {
                if !std::mem::replace(&mut state.release_counted, true) {
                    let kind = if released == Released::Released { Answer::Done } else { Answer::Gone };
                    self.metrics.released(kind);
                }
                // Absent after a release without an answer: that one has done it.
                let ours = released == Released::Released || state.release_unknown;
                self.confirm(lease, &mut state, ours);
                if state.claim_unknown && now < state.release_until.min(state.retry_until) {
                    // A claim whose answer never came may be on its way still, and must not outlive this.
                    self.release_later(&mut state);
                } else {
                    self.settle(lease, &mut state);
                }
            }
            Err(error) => {
                state.release_unknown |= error.may_have_been_applied();
                let given_up = !error.is_transient() || now >= state.release_until;
                if given_up || now >= state.retry_until {
                    let source = error.clone();
                    let resource = lease.key.resource.clone();
                    if let Some(waiting) = state.released.take() {
                        let _nobody_waits = waiting.send(Err(UnlockError::Unconfirmed { resource, source }));
                    }
                }
                if given_up {
                    tracing::warn!(resource = %lease.key.resource, %error, "a lock was not given back; it ends with its TTL");
                    self.metrics.released(Answer::Failed);
                    self.settle(lease, &mut state);
                } else {
                    self.release_later(&mut state);
                }
            }
        }
        self.reschedule(lease, &mut state);
    }

    fn release_later(&self, state: &mut State) {
        let most = (state.ttl.get() / 4).clamp(Duration::from_millis(10), Duration::from_secs(2));
        state.due =
            Some(self.now().after(pause(state.tries, Duration::from_millis(20), most)).min(state.release_until));
        state.tries += 1;
    }

    fn confirm(&self, lease: &Lease, state: &mut State, ours: bool) {
        let Some(waiting) = state.released.take() else { return };
        let resource = lease.key.resource.clone();
        let told = if ours { Ok(()) } else { Err(Lost { resource, reason: LossReason::Gone }.into()) };
        let _nobody_waits = waiting.send(told);
    }
}
