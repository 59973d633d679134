//! Claims, for waiters.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::leases::NoEntry;
use super::quietly::quietly;
use super::step::Sending;
use super::watch::Watch;
use super::{Driver, LockRequest, Slot};
use crate::clock::Moment;
use crate::contract::{BackendError, Failure, LeaseId, LeaseKey, ResourceName, Token};
use crate::error::{InvalidConfig, LockError};
use crate::lease::{Effects, Input, Lease, LossReason, Phase, Refusal, Terms, Verb};
use crate::metrics::{AcquireOutcome, LockKind};

/// The outcome of a claim.
pub(crate) enum Claimed {
    Granted(Token),
    /// The lease ended before the waiter got its lock.
    Ended(LossReason),
    Failed(LockError),
}

impl Driver {
    /// Registers a lease and sends its claim.
    pub(crate) fn claim(self: &Arc<Self>, request: &LockRequest, now: Moment) -> Result<Arc<Slot>, LockError> {
        self.claim_lease(None, request, now)
    }

    /// Registers a lease and sends its claim. The store answers a claim of an `adopted` lease with the lease that it has.
    pub(super) fn claim_lease(
        self: &Arc<Self>,
        adopted: Option<(LeaseId, Token)>,
        request: &LockRequest,
        now: Moment,
    ) -> Result<Arc<Slot>, LockError> {
        self.check_max(request.ttl)?;
        let id = adopted.map_or_else(LeaseId::random, |(id, _)| id);
        let key = LeaseKey { resource: request.resource.clone(), id };
        let watch = request.watchdog.clone().map(|plan| Watch::start(plan, self.new_number()));
        let (renewal, watch) = watch.unzip();
        let can = self.backend.capabilities();
        if !request.hold_at_least.is_zero() && !can.rest {
            return Err(InvalidConfig::NoRest { backend: can.backend }.into());
        }
        if request.data.is_some() && !can.data {
            return Err(InvalidConfig::NoData { backend: can.backend }.into());
        }
        let terms = Terms {
            ttl: request.ttl,
            wait: request.wait,
            retry_for: self.settings.retry_for,
            renewal,
            hold_at_least: request.hold_at_least,
            hold_at_most: request.hold_at_most,
            adopts: adopted.map(|(_, token)| token),
            queues: can.queue,
            pushes: can.push,
            seed: u64::try_from(id.as_u128() >> 64).expect("64 bits"),
        };
        // The first claim of a request is made at its beginning.
        let claim = if request.since < now { Lease::again } else { Lease::new };
        let lease = claim(terms, request.since, &mut Effects::new());
        let slot = Arc::new(Slot::new(key, request, lease, watch));
        let resource = || request.resource.clone();
        match self.leases.insert(&slot) {
            Ok(()) => {}
            Err(NoEntry::Closed) => return Err(LockError::Closed { resource: resource() }),
            Err(NoEntry::Known) => return Err(self.already_known(&slot.key)),
        }
        self.send(Verb::Claim, &slot, now, true);
        if self.is_dead.load(Ordering::Acquire) {
            self.step(&slot, Input::Abandon, Sending::Later);
        }
        Ok(slot)
    }

    /// The error for an adoption of a lease that this client has already.
    fn already_known(&self, key: &LeaseKey) -> LockError {
        let reason = "this client still has this lock: use its guard, or adopt the handle after its release";
        let source = BackendError::Rejected(Failure::new("adopt", self.store.clone(), reason));
        LockError::Rejected { resource: key.resource.clone(), source }
    }

    /// The outcome of a claim; `None` while it is open.
    pub(crate) fn claimed(self: &Arc<Self>, slot: &Arc<Slot>) -> Option<Claimed> {
        let is_lost = self.loss(slot).is_some();
        let mut state = slot.lock();
        let resource = || slot.key.resource.clone();
        if let Some(refusal) = state.refusal.take() {
            let refused = match refusal {
                Refusal::Ended(reason) => return Some(Claimed::Ended(reason)),
                Refusal::Busy { waited: wait } => {
                    drop(state);
                    return Some(Claimed::Failed(self.timed_out(&slot.key.resource, wait)));
                }
                Refusal::Unanswered { waited: wait } => LockError::Unanswered { resource: resource(), wait },
                Refusal::Closed => LockError::Closed { resource: resource() },
                Refusal::Rejected => {
                    let source = self.last_error(&state, "acquire");
                    LockError::Rejected { resource: resource(), source }
                }
                Refusal::Unavailable => {
                    let source = self.last_error(&state, "acquire");
                    LockError::Unavailable { resource: resource(), source }
                }
            };
            return Some(Claimed::Failed(refused));
        }
        match state.lease.phase() {
            Phase::Held(held) if !is_lost => Some(Claimed::Granted(held.token())),
            Phase::Ended(ended) => Some(Claimed::Ended(ended.reason())),
            Phase::Forgotten => Some(Claimed::Failed(LockError::Closed { resource: resource() })),
            _ => None,
        }
    }

    /// The error after a wait of `wait` while the resource was held.
    pub(crate) fn timed_out(&self, resource: &ResourceName, wait: Duration) -> LockError {
        let held_here = if wait.is_zero() { None } else { self.held_here(resource) };
        LockError::TimedOut { resource: resource.clone(), wait, held_here }
    }

    /// The longest time for which this client has held the resource, or a part of it.
    fn held_here(&self, resource: &ResourceName) -> Option<Duration> {
        let now = self.now();
        let held_for = |slot: &Arc<Slot>| match slot.lock().lease.phase() {
            Phase::Held(held) => Some(now.since(held.since())),
            _ => None,
        };
        // Outside of the mutex of `leases`, which may be taken while a slot's is held.
        self.leases.held_of(resource).iter().filter_map(held_for).max()
    }

    /// Measures an acquisition that has ended: by a grant if there is no `error`.
    pub(crate) fn acquire_ended(&self, kind: LockKind, error: Option<&LockError>, started: Moment) {
        let how = match error {
            None => AcquireOutcome::Acquired,
            Some(LockError::TimedOut { wait, .. }) if wait.is_zero() => AcquireOutcome::Busy,
            Some(error) if error.is_timeout() => AcquireOutcome::TimedOut,
            Some(_) => AcquireOutcome::Failed,
        };
        self.metrics.acquire_ended(kind, how, self.now().since(started));
    }

    /// Gives up a lock that a user waited for.
    pub(crate) fn give_up(self: &Arc<Self>, slot: &Arc<Slot>, started: Moment) {
        slot.forget_user();
        self.leave(slot, Input::GiveUp);
        quietly(|| self.metrics.acquire_ended(slot.kind, AcquireOutcome::Dropped, self.now().since(started)));
    }
}
