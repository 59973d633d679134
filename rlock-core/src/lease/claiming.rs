//! A lease that is being claimed.

use std::time::Duration;

use super::doubt::Doubt;
use super::extending::Extending;
use super::pause::pause;
use super::request_state::RequestState;
use super::{
    Context, Effect, Ended, ExtendOutcome, Fault, Held, Input, LossReason, Order, Phase, Queued, Refusal, Releasing,
    STRAY, Terms, Verb, Wait, earliest,
};
use crate::clock::Moment;
use crate::contract::Acquired;

/// The shortest time after which the client gives up a claim without an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// A lease that is being claimed: the store has not said yet that it is held or queued.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Claiming {
    /// The moment from which the user waits.
    since: Moment,
    /// The store has answered the claim of an earlier lease for the same user.
    was_answered: bool,
    /// The claim, and the moment when it was sent.
    call: RequestState<Moment>,
    /// The moment of the next claim.
    retry: Option<Moment>,
    /// The moment to give up a store that fails.
    give_up: Moment,
    /// The moment to give up the claim under way, if it has no answer by then.
    hung: Moment,
    /// Claims in a row that failed.
    failed_tries: u32,
    /// Refusals by a store without a queue.
    refusals: u32,
    /// The moment when the first claim was sent whose answer was lost. If that claim was applied, the life of the lease
    /// counts from this moment.
    first_lost: Option<Moment>,
    /// An event came before the answer. The answer may be older, so an extension follows it at once.
    doubt: Option<Doubt>,
}

impl Claiming {
    pub(super) fn new(since: Moment) -> Self {
        Self {
            since,
            was_answered: false,
            call: RequestState::Wanted,
            retry: None,
            give_up: since,
            hung: since,
            failed_tries: 0,
            refusals: 0,
            first_lost: None,
            doubt: None,
        }
    }

    /// A claim that follows an earlier one for the same user.
    pub(super) fn again(since: Moment) -> Self {
        Self { was_answered: true, ..Self::new(since) }
    }

    /// The moment from which the user waits.
    pub(crate) fn since(&self) -> Moment {
        self.since
    }

    pub(super) fn begin(&mut self, call: u32, now: Moment, terms: &Terms) -> Option<Order> {
        if !self.call.is_wanted() {
            return None;
        }
        if self.failed_tries == 0 {
            self.give_up = now.after(terms.retry_for);
        }
        self.hung = self.give_up.max(now.after(PATIENCE));
        self.call = RequestState::UnderWay(call, now);
        Some(Order::Claim { ttl: terms.ttl, queue: terms.queues && terms.wait != Wait::Never })
    }

    pub(super) fn timer(&self, terms: &Terms) -> Option<Moment> {
        earliest([terms.wait.until(), self.retry, self.hung(terms)])
    }

    /// The moment to give up a claim without an answer; `None` with a limited wait, which also limits the wait for the
    /// answer.
    fn hung(&self, terms: &Terms) -> Option<Moment> {
        self.call.under_way().filter(|_| terms.wait.until().is_none()).map(|_| self.hung)
    }

    pub(super) fn step(mut self, input: Input, context: &mut Context<'_>) -> Phase {
        match input {
            Input::Claimed(call, answer) => match self.call.answered(call) {
                Some(sent) => self.answered(sent, answer, context),
                None => Phase::Claiming(self),
            },
            Input::Timer => self.timed(context),
            Input::Hint(hint) => {
                self.doubt = self.doubt.max(Some(hint.into()));
                Phase::Claiming(self)
            }
            Input::Close | Input::Drain => self.refuse(Refusal::Closed, context),
            Input::LetGo | Input::GiveUp => self.give_back(context),
            Input::Abandon => Phase::forget_unreleased(context),
            Input::Extend { ticket, .. } => {
                context.effects.push(Effect::Reply(ticket, ExtendOutcome::Over));
                Phase::Claiming(self)
            }
            Input::Extended(..)
            | Input::Released(..)
            | Input::Watch(_)
            | Input::Unwatch { .. }
            | Input::HandOver
            | Input::Adopt => Phase::Claiming(self),
        }
    }

    fn answered(mut self, sent: Moment, answer: Result<Acquired, Fault>, context: &mut Context<'_>) -> Phase {
        match answer {
            Ok(Acquired::Held(grant)) if context.terms.adopts.is_some_and(|token| token != grant.token) => {
                ended_before(grant.ttl, context)
            }
            Ok(Acquired::Queued(_)) if context.terms.adopts.is_some() => ended_before(Duration::ZERO, context),
            Ok(Acquired::Held(grant)) => {
                let deadline = grant.deadline(sent, context.terms.ttl);
                if context.now >= deadline {
                    context.effects.push(Effect::Refuse(Refusal::Ended(LossReason::Expired)));
                    let is_adopting = context.terms.adopts.is_some();
                    return Phase::Ended(Ended::kept_by_the_store(LossReason::Expired).adopting(is_adopting));
                }
                let is_whole = grant.ttl >= context.terms.ttl.get().mul_f64(0.9);
                Held::granted(grant, deadline, is_whole, self.doubt, Extending::new(), context)
            }
            Ok(Acquired::Queued(place)) => {
                let doubt = self.doubt.or(self.first_lost.map(|_| Doubt::Changed));
                Queued::joined(self.since, self.first_lost.unwrap_or(sent), place, doubt, context)
            }
            Ok(Acquired::Busy) if context.terms.wait == Wait::Never => {
                self.refuse(Refusal::Busy { waited: Duration::ZERO }, context)
            }
            Ok(Acquired::Busy) => {
                let wait =
                    pause(context.terms.seed, self.refusals, Duration::from_millis(5), Duration::from_millis(250));
                self.refusals = self.refusals.saturating_add(1);
                self.failed_tries = 0;
                self.retry = Some(context.now.after(wait));
                Phase::Claiming(self)
            }
            Err(fault) => self.failed(sent, fault, context),
        }
    }

    fn failed(mut self, sent: Moment, fault: Fault, context: &mut Context<'_>) -> Phase {
        if fault == Fault::Unknown {
            self.first_lost.get_or_insert(sent);
            *context.stray_until = Some(context.now.after(STRAY));
        }
        if !fault.is_transient() {
            return self.refuse(Refusal::Rejected, context);
        }
        if context.now >= self.give_up {
            return self.refuse(Refusal::Unavailable, context);
        }
        let wait = pause(context.terms.seed, self.failed_tries, Duration::from_millis(10), Duration::from_secs(1));
        self.failed_tries = self.failed_tries.saturating_add(1);
        self.retry = Some(context.now.after(wait).min(self.give_up));
        Phase::Claiming(self)
    }

    fn timed(mut self, context: &mut Context<'_>) -> Phase {
        let now = context.now;
        if context.terms.wait.until().is_some_and(|until| until <= now) {
            let waited = now.since(self.since);
            let refusal = match (self.failed_tries, self.refusals) {
                (0, 0) if !self.was_answered => Refusal::Unanswered { waited },
                (0, _) => Refusal::Busy { waited },
                _ => Refusal::Unavailable,
            };
            return self.refuse(refusal, context);
        }
        if self.hung(context.terms).is_some_and(|hung| hung <= now) {
            return self.refuse(Refusal::Unavailable, context);
        }
        if self.retry.is_some_and(|retry| retry <= now) {
            self.retry = None;
            self.call = RequestState::Wanted;
            context.effects.push(Effect::Send(Verb::Claim));
        }
        Phase::Claiming(self)
    }

    fn refuse(self, refusal: Refusal, context: &mut Context<'_>) -> Phase {
        context.effects.push(Effect::Refuse(refusal));
        self.give_back(context)
    }

    /// Releases the lease if there may be one. The answer to a claim under way decides that. A lease that could not be
    /// adopted stays in the store. After a lost answer, the store may have that lease.
    fn give_back(self, context: &mut Context<'_>) -> Phase {
        let may_be_there = self.first_lost.is_some() && context.terms.adopts.is_none();
        let alive_until = context.now.after(context.terms.ttl.get());
        match self.call {
            RequestState::UnderWay(call, _) => {
                Phase::Releasing(Releasing::after_claim(call, may_be_there, alive_until, context))
            }
            _ if may_be_there => Releasing::start(alive_until, false, None, context),
            _ => Phase::forget(context),
        }
    }
}

/// Refuses an adoption whose lease has ended, and releases the lease of the life `life` that the claim has made instead.
fn ended_before(life: Duration, context: &mut Context<'_>) -> Phase {
    context.effects.push(Effect::Refuse(Refusal::Ended(LossReason::Gone)));
    Releasing::start(context.now.after(life.max(context.terms.ttl.get())), false, None, context)
}
