//! A lease that is being released.

use std::time::Duration;

use super::pause::pause;
use super::request_state::RequestState;
use super::{Context, Effect, ExtendOutcome, Fault, Input, Order, Phase, ReleaseOutcome, STRAY, Verb, earliest};
use crate::clock::Moment;
use crate::contract::{Acquired, Released};

/// The shortest time after which an unanswered release is reported as unconfirmed.
const PATIENCE: Duration = Duration::from_secs(1);

/// A lease that is being released, until the store has confirmed the release or the lease has ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Releasing {
    since: Moment,
    /// The claim under way, whose answer decides whether there is a lease to release.
    claim: Option<ClaimUnderWay>,
    call: RequestState<()>,
    /// The store may keep the lease until then.
    alive_until: Moment,
    /// The resource has to stay taken until then.
    rest_until: Option<Moment>,
    /// The client retries a failing store until then, before it reports the failure to the user.
    retry_until: Moment,
    /// The moment of the next retry.
    retry: Option<Moment>,
    /// Releases in a row that failed.
    failed_tries: u32,
    /// The answer to an earlier release was lost. That release may have ended the lease.
    is_unknown: bool,
    /// The store has answered a release.
    is_answered: bool,
    /// The user still waits for the outcome of the release.
    is_user_waiting: bool,
}

/// A claim whose answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ClaimUnderWay {
    call: u32,
    /// The answer to an earlier claim was lost, which may have made a lease to release.
    is_repeated: bool,
}

impl Releasing {
    /// Releases a lease that the store may keep until `alive_until`, and whose resource rests until `rest_until`.
    pub(super) fn start(
        alive_until: Moment,
        is_user_waiting: bool,
        rest_until: Option<Moment>,
        context: &mut Context<'_>,
    ) -> Phase {
        let mut releasing = Self::new(alive_until, is_user_waiting, context);
        releasing.rest_until = rest_until.filter(|until| *until > context.now);
        releasing.send(context);
        Phase::Releasing(releasing)
    }

    /// Waits for the answer to the claim `call`.
    pub(super) fn after_claim(call: u32, is_repeated: bool, alive_until: Moment, context: &Context<'_>) -> Self {
        let mut releasing = Self::new(alive_until, false, context);
        releasing.claim = Some(ClaimUnderWay { call, is_repeated });
        releasing
    }

    fn new(alive_until: Moment, is_user_waiting: bool, context: &Context<'_>) -> Self {
        Self {
            since: context.now,
            claim: None,
            call: RequestState::Idle,
            alive_until,
            rest_until: None,
            retry_until: context.now.after(context.terms.retry_for),
            retry: None,
            failed_tries: 0,
            is_unknown: false,
            is_answered: false,
            is_user_waiting,
        }
    }

    pub(super) fn send_now(&mut self, call: u32, now: Moment) -> Option<Order> {
        if !self.call.is_wanted() {
            return None;
        }
        self.call = RequestState::UnderWay(call, ());
        // A lease that a later release finds is the work of a stray claim. Its share was not used and need not rest.
        let rest_until = self.rest_until.filter(|_| !self.is_answered);
        Some(Order::Release { rest: rest_until.map(|until| until.since(now)).unwrap_or_default() })
    }

    pub(super) fn timer(&self) -> Option<Moment> {
        earliest([self.retry, self.is_user_waiting.then(|| self.give_up())])
    }

    /// The moment to report an unanswered release as unconfirmed to the user.
    fn give_up(&self) -> Moment {
        self.retry_until.max(self.since.after(PATIENCE))
    }

    pub(super) fn step(mut self, input: Input, context: &mut Context<'_>) -> Phase {
        match input {
            Input::Claimed(call, answer) => match self.claim.take_if(|claim| claim.call == call) {
                Some(claim) => self.claimed(claim, answer, context),
                None => Phase::Releasing(self),
            },
            Input::Released(call, answer) => match self.call.answered(call) {
                Some(()) => self.answered(answer, context),
                None => Phase::Releasing(self),
            },
            Input::Timer => {
                if self.give_up() <= context.now {
                    self.tell(ReleaseOutcome::Unconfirmed, context);
                }
                if self.retry.is_some_and(|retry| retry <= context.now) {
                    self.retry = None;
                    self.send(context);
                }
                Phase::Releasing(self)
            }
            Input::Abandon => {
                self.tell(ReleaseOutcome::Closed, context);
                self.forget_unreleased(context)
            }
            Input::Extend { ticket, .. } => {
                context.effects.push(Effect::Reply(ticket, ExtendOutcome::Over));
                Phase::Releasing(self)
            }
            Input::Extended(..)
            | Input::Hint(_)
            | Input::Watch(_)
            | Input::Unwatch { .. }
            | Input::LetGo
            | Input::GiveUp
            | Input::HandOver
            | Input::Adopt
            | Input::Close
            | Input::Drain => Phase::Releasing(self),
        }
    }

    fn claimed(mut self, claim: ClaimUnderWay, answer: Result<Acquired, Fault>, context: &mut Context<'_>) -> Phase {
        if answer == Err(Fault::Unknown) {
            *context.stray_until = Some(context.now.after(STRAY));
        }
        let adopts = context.terms.adopts;
        let is_there = match answer {
            // A lease that could not be adopted stays in the store.
            Ok(Acquired::Held(grant)) => adopts != Some(grant.token),
            Ok(Acquired::Queued(_)) => true,
            Ok(Acquired::Busy) => false,
            Err(fault) => fault == Fault::Unknown && adopts.is_none(),
        };
        if !is_there && !claim.is_repeated {
            return Phase::forget(context);
        }
        self.since = context.now;
        let granted = if let Ok(Acquired::Held(grant)) = answer { grant.ttl } else { Duration::ZERO };
        self.alive_until = context.now.after(granted.max(context.terms.ttl.get()));
        self.retry_until = context.now.after(context.terms.retry_for);
        self.send(context);
        Phase::Releasing(self)
    }

    fn answered(mut self, answer: Result<Released, Fault>, context: &mut Context<'_>) -> Phase {
        match answer {
            Ok(released) => {
                if !std::mem::replace(&mut self.is_answered, true) {
                    context.effects.push(Effect::Released(released));
                }
                // If an earlier release got no answer and the lease is absent now, that release ended it.
                let is_ours = released == Released::Released || self.is_unknown;
                self.tell(if is_ours { ReleaseOutcome::Released } else { ReleaseOutcome::Absent }, context);
                // A claim without an answer may still be on its way, and its lease must not outlive this release.
                let is_stray = context.stray_until.is_some_and(|until| context.now < until);
                if is_stray && context.now < self.alive_until.min(self.retry_until) {
                    return self.again_later(context);
                }
                Phase::forget(context)
            }
            Err(fault) => {
                self.is_unknown |= fault == Fault::Unknown;
                let is_over = !fault.is_transient() || context.now >= self.alive_until;
                if is_over || context.now >= self.retry_until {
                    self.tell(ReleaseOutcome::Unconfirmed, context);
                }
                if is_over { self.forget_unreleased(context) } else { self.again_later(context) }
            }
        }
    }

    /// Retries after a pause. The pauses grow with the time that has passed, up to a minute, so that after a long
    /// outage not all leases are released at once.
    fn again_later(mut self, context: &Context<'_>) -> Phase {
        const LONGEST: Duration = Duration::from_secs(60);
        let most = (context.terms.ttl.get() / 4).clamp(Duration::from_millis(10), Duration::from_secs(2));
        let most = most.max(context.now.since(self.since) / 8).min(LONGEST);
        let wait = pause(context.terms.seed, self.failed_tries, Duration::from_millis(20), most);
        self.failed_tries = self.failed_tries.saturating_add(1);
        self.retry = Some(context.now.after(wait).min(self.alive_until));
        Phase::Releasing(self)
    }

    fn forget_unreleased(self, context: &mut Context<'_>) -> Phase {
        if self.is_answered { Phase::forget(context) } else { Phase::forget_unreleased(context) }
    }

    fn tell(&mut self, outcome: ReleaseOutcome, context: &mut Context<'_>) {
        if std::mem::take(&mut self.is_user_waiting) {
            context.effects.push(Effect::Confirm(outcome));
        }
    }

    fn send(&mut self, context: &mut Context<'_>) {
        self.call = RequestState::Wanted;
        context.effects.push(Effect::Send(Verb::Release));
    }
}
