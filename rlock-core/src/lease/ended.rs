//! A lease that has ended without having been released.

use super::{Context, Effect, ExtendOutcome, Input, LossReason, Phase, ReleaseOutcome, Releasing};
use crate::clock::Moment;

/// A lease that has ended, while its guard or its waiter is still there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ended {
    reason: LossReason,
    /// The store may still have the lease, so it has to be released.
    may_be_there: bool,
    /// The store may have the lease until then, if that is later than a TTL after the release.
    kept_until: Option<Moment>,
    /// The resource has to stay taken until then, if the store still has the lease.
    rest_until: Option<Moment>,
    /// The lease is another client's, until the user has adopted it.
    is_adopting: bool,
}

impl Ended {
    /// A lease that the store does not have any more.
    pub(super) fn gone(reason: LossReason) -> Self {
        Self { reason, may_be_there: false, kept_until: None, rest_until: None, is_adopting: false }
    }

    /// A lease that the store may still have.
    pub(super) fn kept_by_the_store(reason: LossReason) -> Self {
        Self { reason, may_be_there: true, kept_until: None, rest_until: None, is_adopting: false }
    }

    /// A lease that the store may have until `until`.
    pub(super) fn kept_until(mut self, until: Moment, context: &Context<'_>) -> Self {
        self.kept_until = Some(until).filter(|until| *until > context.now.after(context.terms.ttl.get()));
        self
    }

    pub(super) fn resting_until(mut self, until: Moment) -> Self {
        self.rest_until = Some(until);
        self
    }

    pub(super) fn adopting(mut self, is_adopting: bool) -> Self {
        self.is_adopting = is_adopting;
        self
    }

    pub(crate) fn reason(&self) -> LossReason {
        self.reason
    }

    pub(super) fn step(mut self, input: Input, context: &mut Context<'_>) -> Phase {
        match input {
            Input::GiveUp | Input::Close | Input::Drain if self.is_adopting => Phase::forget(context),
            Input::LetGo | Input::GiveUp | Input::Close | Input::Drain => {
                context.effects.push(Effect::Confirm(ReleaseOutcome::Lost(self.reason)));
                if self.may_be_there || context.stray_until.is_some_and(|until| context.now < until) {
                    let a_ttl = context.now.after(context.terms.ttl.get());
                    let alive_until = self.kept_until.map_or(a_ttl, |until| until.max(a_ttl));
                    let rest_until = self.rest_until.filter(|_| input != Input::GiveUp);
                    return Releasing::start(alive_until, false, rest_until, context);
                }
                Phase::forget(context)
            }
            Input::Extend { ticket, .. } => {
                context.effects.push(Effect::Reply(ticket, ExtendOutcome::Over));
                Phase::Ended(self)
            }
            Input::Adopt => {
                self.is_adopting = false;
                Phase::Ended(self)
            }
            _ => Phase::Ended(self),
        }
    }
}
