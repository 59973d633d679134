//! From asking for a lock to its grant.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Engine;
use super::lease::{Lease, Phase, State};
use super::renewal::{Renewal, pause};
use crate::guard::Guard;
use crate::handle::Handle;
use crate::lock_kind::LockKind;
use crate::metrics::{AcquireOutcome, WakeUp};
use crate::ttl::margin;
use crate::{
    Acquired, BackendError, Claim, Failure, Grant, IfBusy, InvalidConfig, LeaseId, LeaseKey, LockError, LockOptions,
    LossReason, Moment, Place, ResourceName, Share, Token, Ttl,
};

/// What somebody asks for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) resource: ResourceName,
    pub(crate) share: Share,
    pub(crate) kind: LockKind,
    pub(crate) options: LockOptions,
}

impl Request {
    pub(crate) fn one_try(mut self) -> Result<Self, InvalidConfig> {
        self.options = self.options.one_try()?;
        Ok(self)
    }
}

/// A lock that somebody waits for. Dropping it gives up the lock and the place in the queue.
#[derive(Debug)]
pub(crate) struct Pending {
    client: Arc<Handle>,
    lease: Arc<Lease>,
    request: Request,
    started: Moment,
    /// How many grants have run out before anybody looked.
    run_out: u32,
    over: bool,
}

impl Pending {
    pub(crate) fn new(client: Arc<Handle>, request: Request) -> Result<Self, LockError> {
        let started = client.engine.now();
        let lease = client.engine.claim(&request, started)?;
        Ok(Self { client, lease, request, started, run_out: 0, over: false })
    }

    pub(crate) async fn granted(mut self) -> Result<Guard, LockError> {
        loop {
            self.lease.changed.notified().await;
            let engine = &self.client.engine;
            let outcome = match engine.outcome(&self.lease) {
                Outcome::Open => continue,
                Outcome::Granted(token) => Ok(token),
                Outcome::Ended(reason) => match self.begin_again(reason) {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                Outcome::Failed(error) => Err(error),
            };
            let engine = &self.client.engine;
            self.over = true;
            engine.acquire_ended(&self.lease, &outcome, self.started);
            return outcome.map(|token| Guard::new(self.client.clone(), self.lease.clone(), token));
        }
    }

    /// Claims the lock anew, by another lease, after one that ended before it was anybody's lock: the store lost its
    /// place in the queue, or the grant ran out before anybody looked.
    fn begin_again(&mut self, reason: LossReason) -> Result<(), LockError> {
        const MOST: u32 = 3;
        let engine = &self.client.engine;
        engine.let_go(&self.lease);
        if reason == LossReason::Expired {
            self.run_out += 1;
        }
        if self.run_out == MOST {
            let reason = "each grant ran out before it could be used: the TTL is too short for the time that the \
                          store takes to answer, or the caller to look; use a longer TTL";
            let source = BackendError::NotApplied(Failure::new("acquire", engine.store.clone(), reason));
            return Err(LockError::Unavailable { resource: self.request.resource.clone(), source });
        }
        self.lease = engine.claim(&self.request, self.started)?;
        Ok(())
    }
}

/// What has come of a claim.
enum Outcome {
    Open,
    Granted(Token),
    /// The lease ended before it was anybody's lock.
    Ended(LossReason),
    Failed(LockError),
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.over {
            let engine = &self.client.engine;
            let took = engine.now().since(self.started);
            engine.metrics.acquire_ended(self.lease.kind, AcquireOutcome::Dropped, took);
            engine.let_go(&self.lease);
        }
    }
}

impl Engine {
    /// Registers a lease and sends its claim.
    fn claim(self: &Arc<Self>, request: &Request, started: Moment) -> Result<Arc<Lease>, LockError> {
        let terms = request.options.parse()?;
        self.check_max(terms.ttl)?;
        let key = LeaseKey { resource: request.resource.clone(), id: LeaseId::random() };
        let mut state = State::new(terms.ttl, terms.watchdog, started, terms.wait);
        state.retry_until = self.now().after(self.settings.retry_for);
        let lease = Arc::new(Lease::new(key, request.share, request.kind, state));
        {
            let mut table = self.table();
            if self.closed.load(Ordering::Acquire) {
                return Err(LockError::Closed { resource: request.resource.clone() });
            }
            table.insert(lease.key.id, lease.clone());
        }
        let mut state = lease.lock();
        self.send_claim(&lease, &mut state);
        self.reschedule(&lease, &mut state);
        drop(state);
        Ok(lease)
    }

    pub(super) fn send_claim(self: &Arc<Self>, lease: &Arc<Lease>, state: &mut State) {
        state.due = None;
        state.claiming = true;
        self.claims.push(lease.clone());
        if let Some(first) = self.claims.start() {
            self.work(first, |engine| &engine.claims, Self::run_claims);
        }
    }

    async fn run_claims(self: Arc<Self>, mut batch: Vec<Arc<Lease>>) {
        batch.retain(|lease| self.is_still_wanted(lease));
        if batch.is_empty() {
            return;
        }
        let queues = self.backend.capabilities().queue;
        let claim = |lease: &Arc<Lease>| {
            let state = lease.lock();
            Claim {
                key: lease.key.clone(),
                share: lease.share,
                ttl: state.ttl,
                if_busy: if state.waits && queues { IfBusy::Queue } else { IfBusy::Refuse },
                owner: self.owner.clone(),
            }
        };
        let claims: Vec<Claim> = batch.iter().map(claim).collect();
        let sent = self.now();
        let answers = self.call("acquire", claims.len(), async { self.backend.acquire(&claims).await }).await;
        for (lease, answer) in batch.iter().zip(answers) {
            self.claim_answered(lease, sent, answer);
        }
        self.send_extensions();
    }

    /// Whether a claim should be sent after it has waited for its turn.
    fn is_still_wanted(self: &Arc<Self>, lease: &Arc<Lease>) -> bool {
        let mut state = lease.lock();
        if state.phase == Phase::Asking {
            return true;
        }
        state.claiming = false;
        if state.claim_unknown {
            self.send_release(lease, &mut state);
        } else {
            self.settle(lease, &mut state);
        }
        false
    }

    fn claim_answered(self: &Arc<Self>, lease: &Arc<Lease>, sent: Moment, answer: Result<Acquired, BackendError>) {
        let mut state = lease.lock();
        state.claiming = false;
        if answer.as_ref().is_err_and(BackendError::may_have_been_applied) {
            state.claim_unknown = true;
            state.first_sent.get_or_insert(sent);
        }
        let may_be_there = state.claim_unknown || matches!(answer, Ok(Acquired::Held(_) | Acquired::Queued(_)));
        match (state.phase, answer) {
            (Phase::Asking, Ok(Acquired::Held(grant))) => {
                state.first_sent = None;
                let full = grant.ttl >= state.ttl.get().mul_f64(0.9);
                state.alive_until = deadline(sent, state.ttl, grant);
                self.grant(lease, &mut state, grant.token, full);
            }
            (Phase::Asking, Ok(Acquired::Queued(place))) => {
                // An earlier claim whose answer got lost has put it there, and its life counts from that one. It is
                // extended at once.
                let first_sent = state.first_sent.take();
                state.granted_early |= first_sent.is_some();
                self.queued(lease, &mut state, first_sent.unwrap_or(sent), place);
            }
            (Phase::Asking, Ok(Acquired::Busy)) if state.waits => {
                let (polls, now) = (state.polls, self.now());
                state.polls += 1;
                state.tries = 0;
                state.last_error = None;
                state.retry_until = now.after(self.settings.retry_for);
                state.due = Some(now.after(pause(polls, Duration::from_millis(5), Duration::from_millis(250))));
            }
            (Phase::Asking, Ok(Acquired::Busy)) => {
                let wait = Duration::ZERO;
                self.fail(lease, &mut state, LockError::TimedOut { resource: lease.key.resource.clone(), wait });
            }
            (Phase::Asking, Err(error)) if error.is_transient() => self.retry_claim(lease, &mut state, error),
            (Phase::Asking, Err(source)) => {
                let resource = lease.key.resource.clone();
                self.fail(lease, &mut state, LockError::Rejected { resource, source });
            }
            (Phase::Releasing, _) if may_be_there => self.send_release(lease, &mut state),
            (Phase::Releasing, _) => self.settle(lease, &mut state),
            _ => {}
        }
        self.reschedule(lease, &mut state);
    }

    fn retry_claim(self: &Arc<Self>, lease: &Arc<Lease>, state: &mut State, source: BackendError) {
        let now = self.now();
        if now >= state.retry_until {
            let resource = lease.key.resource.clone();
            self.fail(lease, state, LockError::Unavailable { resource, source });
            return;
        }
        tracing::debug!(resource = %lease.key.resource, error = %source, "asking for the lock again");
        let pause = pause(state.tries, Duration::from_millis(10), Duration::from_secs(1));
        state.tries += 1;
        state.last_error = Some(Box::new(source));
        state.due = Some(now.after(pause).min(state.retry_until));
    }

    /// The store has put the lease into its queue, or has kept it there.
    pub(super) fn queued(self: &Arc<Self>, lease: &Arc<Lease>, state: &mut State, sent: Moment, place: Place) {
        let now = self.now();
        if state.phase != Phase::Queued {
            tracing::debug!(resource = %lease.key.resource, ahead = place.ahead, "waiting for the lock");
            self.enter(lease, state, Phase::Queued);
        }
        state.tries = 0;
        state.last_error = None;
        state.alive_until = sent.after(state.ttl.get()).before(state.ttl.margin());
        let ttl = state.ttl.get();
        let mut next = pause(0, ttl / 3, ttl / 3).min(place.ask_again + Duration::from_millis(1));
        if !self.backend.capabilities().push {
            let often = (ttl / 30).clamp(Duration::from_millis(5), Duration::from_millis(500));
            next = next.min(pause(0, often, often));
        }
        if std::mem::take(&mut state.granted_early) {
            next = Duration::ZERO;
        }
        state.due = Some(now.after(next));
    }

    pub(super) fn granted_by_event(self: &Arc<Self>, lease: &Arc<Lease>, token: Token) {
        let mut state = lease.lock();
        match state.phase {
            Phase::Asking => state.granted_early = true,
            Phase::Queued => {
                let left = state.alive_until.since(self.now());
                if left >= state.ttl.get() / 4 {
                    self.metrics.woken(WakeUp::Pushed);
                    self.grant(lease, &mut state, token, false);
                } else {
                    state.due = Some(self.now());
                    self.keep_place(lease, &mut state, self.now());
                }
            }
            _ => {}
        }
        self.reschedule(lease, &mut state);
    }

    /// The lease is held. `full` says that the store has given it its whole life.
    pub(super) fn grant(self: &Arc<Self>, lease: &Arc<Lease>, state: &mut State, token: Token, full: bool) {
        let now = self.now();
        // Of which not much may be left: the answer has taken its time.
        let interval = state.plan.as_ref().map_or(state.ttl.get() / 3, |plan| plan.interval);
        let enough = interval + state.ttl.get().saturating_sub(interval) / 2;
        let full = full && state.alive_until.since(now) >= enough;
        let generation = state.plan.as_ref().map(|_| self.new_generation());
        let renewal = state.plan.take().zip(generation);
        let renewal = renewal.map(|(plan, generation)| Box::new(Renewal::start(plan, generation, now, !full)));
        self.enter(lease, state, Phase::Held(token));
        state.since = now;
        state.tries = 0;
        state.last_error = None;
        state.wait_until = None;
        state.refresh = renewal.is_none() && !full;
        state.due = if state.refresh { Some(now) } else { renewal.as_ref().map(|renewal| renewal.due()) };
        if renewal.is_some() {
            self.metrics.watchdog_started();
        }
        state.renewal = renewal;
        if !full {
            self.keep_alive(lease, state, now);
        }
        tracing::debug!(resource = %lease.key.resource, %token, "acquired the lock");
        lease.changed.notify_one();
    }

    fn outcome(self: &Arc<Self>, lease: &Arc<Lease>) -> Outcome {
        let lost = self.loss(lease).is_some();
        let mut state = lease.lock();
        match (state.phase, state.outcome.take()) {
            (_, Some(error)) => Outcome::Failed(error),
            (Phase::Lost, None) => Outcome::Ended(state.lost.unwrap_or(LossReason::Gone)),
            (Phase::Held(token), None) if !lost => Outcome::Granted(token),
            _ => Outcome::Open,
        }
    }

    fn acquire_ended(&self, lease: &Lease, outcome: &Result<Token, LockError>, started: Moment) {
        let how = match outcome {
            Ok(_) => AcquireOutcome::Acquired,
            Err(LockError::TimedOut { wait, .. }) if wait.is_zero() => AcquireOutcome::Busy,
            Err(LockError::TimedOut { .. }) => AcquireOutcome::TimedOut,
            Err(_) => AcquireOutcome::Failed,
        };
        self.metrics.acquire_ended(lease.kind, how, self.now().since(started));
    }

    /// The wait is over, and the lock was not granted.
    pub(super) fn time_out(self: &Arc<Self>, lease: &Arc<Lease>, state: &mut State) {
        let resource = lease.key.resource.clone();
        let error = match (state.phase, state.last_error.take()) {
            (Phase::Asking, Some(source)) => LockError::Unavailable { resource, source: *source },
            _ => {
                let wait = state.wait_until.map(|until| until.since(state.since)).unwrap_or_default();
                LockError::TimedOut { resource, wait }
            }
        };
        self.fail(lease, state, error);
    }

    /// Ends a claim without a grant.
    pub(super) fn fail(self: &Arc<Self>, lease: &Arc<Lease>, state: &mut State, error: LockError) {
        state.outcome = Some(error);
        lease.changed.notify_one();
        self.give_back(lease, state);
    }
}

/// The deadline that a grant gives: from the instant *before* the request was sent, less the margin.
pub(super) fn deadline(sent: Moment, asked: Ttl, grant: Grant) -> Moment {
    let life = asked.get().min(grant.ttl);
    sent.after(life).before(margin(life))
}

impl Engine {
    /// Why the lease was lost, by the store's word or the clock's; `None` while it is held.
    pub(crate) fn loss(self: &Arc<Self>, lease: &Arc<Lease>) -> Option<LossReason> {
        if lease.deadline().is_some_and(|deadline| self.now() < deadline) {
            return None;
        }
        let mut state = lease.lock();
        if matches!(state.phase, Phase::Held(_)) && self.now() >= state.alive_until {
            self.lose(lease, &mut state, LossReason::Expired);
            self.reschedule(lease, &mut state);
        }
        state.lost
    }
}
