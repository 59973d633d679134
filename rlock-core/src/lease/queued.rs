//! A lease in the store's queue.

use std::time::Duration;

use super::doubt::Doubt;
use super::extending::{Answered, Extending, Sent};
use super::pause::pause;
use super::{
    Context, Effect, Ended, ExtendOutcome, Fault, Held, Hint, Input, LossReason, Order, Phase, Refusal, Releasing,
    Terms, earliest,
};
use crate::clock::Moment;
use crate::contract::{Extended, Place, Token, Ttl};

/// The time until an expiry that counts as at once. A store that repeats this answer is asked less and less often.
const SOON: Duration = Duration::from_millis(10);

/// A lease in the store's queue. Extensions keep its place, and their answers report the grant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Queued {
    since: Moment,
    /// The store keeps the lease until then at least.
    alive_until: Moment,
    extending: Extending<()>,
    /// The moment of the next extension.
    due: Moment,
    /// Extensions in a row that failed.
    failed_tries: u32,
    /// Answers in a row that the lease in front expires [at once](SOON).
    soon: u32,
    /// The moment of an event that reported a break. Older news is not trusted: events about the grant of this lease,
    /// and answers to requests that were sent before.
    doubted: Option<Moment>,
}

impl Queued {
    pub(super) fn joined(
        since: Moment,
        sent: Moment,
        place: Place,
        doubt: Option<Doubt>,
        context: &mut Context<'_>,
    ) -> Phase {
        let mut queued = Self {
            since,
            alive_until: alive_until(sent, context.terms.ttl),
            extending: Extending::new(),
            due: context.now,
            failed_tries: 0,
            soon: 0,
            doubted: (doubt == Some(Doubt::Broken)).then_some(context.now),
        };
        queued.schedule(place, context);
        if doubt.is_some() {
            queued.extending.ask(context);
        }
        Phase::Queued(queued)
    }

    /// The moment from which the user waits.
    pub(crate) fn since(&self) -> Moment {
        self.since
    }

    pub(super) fn begin(&mut self, call: u32, now: Moment, terms: &Terms) -> Option<Order> {
        if !self.extending.is_wanted() {
            return None;
        }
        let due = now.after(terms.ttl.get() / 6);
        self.extending.sent(call, Sent { at: now, ttl: terms.ttl, due, was_queued: true, wishes: () });
        Some(Order::Extend { ttl: terms.ttl })
    }

    pub(super) fn timer(&self, terms: &Terms) -> Option<Moment> {
        earliest([terms.wait.until(), self.extending.is_idle().then_some(self.due), self.extending.timer()])
    }

    pub(super) fn step(mut self, input: Input, context: &mut Context<'_>) -> Phase {
        match input {
            Input::Extended(call, answer) => match self.extending.answered(call) {
                Some(Answered::Current(sent)) => self.answered(sent.at, answer, context),
                Some(Answered::Overdue(overdue)) => self.answered_late(overdue.at, answer, context),
                None => Phase::Queued(self),
            },
            Input::Timer => self.timed(context),
            Input::Hint(Hint::Granted(token)) => self.granted(token, context),
            Input::Hint(hint @ (Hint::Broken | Hint::Resync)) => {
                if hint == Hint::Broken {
                    self.doubted = Some(context.now);
                }
                self.extending.ask(context);
                Phase::Queued(self)
            }
            Input::Close | Input::Drain => {
                context.effects.push(Effect::Refuse(Refusal::Closed));
                self.give_back(context)
            }
            Input::LetGo | Input::GiveUp => self.give_back(context),
            Input::Abandon => Phase::forget_unreleased(context),
            Input::Extend { ticket, .. } => {
                context.effects.push(Effect::Reply(ticket, ExtendOutcome::Over));
                Phase::Queued(self)
            }
            Input::Claimed(..)
            | Input::Released(..)
            | Input::Watch(_)
            | Input::Unwatch { .. }
            | Input::HandOver
            | Input::Adopt => Phase::Queued(self),
        }
    }

    fn answered(mut self, sent: Moment, answer: Result<Extended, Fault>, context: &mut Context<'_>) -> Phase {
        let terms = context.terms;
        match answer {
            Ok(Extended::Held(grant)) => {
                let deadline = grant.deadline(sent, terms.ttl);
                if context.now >= deadline {
                    context.effects.push(Effect::Refuse(Refusal::Ended(LossReason::Expired)));
                    return Phase::Ended(Ended::kept_by_the_store(LossReason::Expired));
                }
                let is_older = self.extending.take_again();
                if is_older && self.is_doubted() {
                    self.extending.ask(context);
                    return Phase::Queued(self);
                }
                let doubt = is_older.then_some(Doubt::Changed);
                Held::granted(grant, deadline, true, doubt, self.extending, context)
            }
            Ok(Extended::Queued(place)) => {
                self.failed_tries = 0;
                self.alive_until = self.alive_until.max(alive_until(sent, terms.ttl));
                self.schedule(place, context);
                if self.extending.take_again() {
                    self.extending.ask(context);
                } else {
                    self.doubted = None;
                }
                Phase::Queued(self)
            }
            Ok(Extended::Gone { .. }) => gone(context),
            Err(fault) if fault.is_transient() => {
                let most = (terms.ttl.get() / 6).min(Duration::from_secs(1));
                self.failed_tries = self.failed_tries.saturating_add(1);
                self.due = context.now.after(pause(terms.seed, self.failed_tries, Duration::from_millis(10), most));
                self.extending.take_again();
                Phase::Queued(self)
            }
            Err(_) => self.rejected(context),
        }
    }

    /// Schedules the next extension: before the lease expires, at the expiry of the lease in front, and often if the
    /// store does not report grants.
    fn schedule(&mut self, place: Place, context: &Context<'_>) {
        const FIRST: Duration = Duration::from_millis(5);
        const LONGEST: Duration = Duration::from_millis(50);
        let (terms, ttl) = (context.terms, context.terms.ttl.get());
        self.soon = if place.ask_again < SOON { self.soon.saturating_add(1) } else { 0 };
        let repeated = self.soon.saturating_sub(1);
        let pace = if repeated > 0 { pause(terms.seed, repeated, FIRST, LONGEST) } else { Duration::ZERO };
        let third = pause(terms.seed, 0, ttl / 3, ttl / 3);
        let at_expiry = place.ask_again.saturating_add(Duration::from_millis(1)).max(pace);
        let often = (ttl / 30).clamp(Duration::from_millis(5), Duration::from_millis(500));
        let poll = if terms.pushes { Duration::MAX } else { pause(terms.seed, 0, often, often) };
        self.due = context.now.after(third.min(at_expiry).min(poll));
    }

    /// Handles an answer that was overdue. Another extension has been requested since.
    fn answered_late(mut self, sent: Moment, answer: Result<Extended, Fault>, context: &mut Context<'_>) -> Phase {
        match answer {
            Ok(Extended::Queued(_)) => {
                self.failed_tries = 0;
                self.alive_until = self.alive_until.max(alive_until(sent, context.terms.ttl));
                Phase::Queued(self)
            }
            Ok(Extended::Held(grant)) => {
                let deadline = grant.deadline(sent, context.terms.ttl);
                if self.doubted.is_some_and(|doubted| sent <= doubted) || context.now >= deadline {
                    self.extending.ask(context);
                    return Phase::Queued(self);
                }
                let doubt = self.extending.take_again().then_some(Doubt::Changed);
                Held::granted(grant, deadline, true, doubt, self.extending, context)
            }
            Ok(Extended::Gone { .. }) => gone(context),
            Err(fault) if fault.is_transient() => Phase::Queued(self),
            Err(_) => self.rejected(context),
        }
    }

    fn timed(mut self, context: &mut Context<'_>) -> Phase {
        if context.terms.wait.until().is_some_and(|until| until <= context.now) {
            let waited = context.now.since(self.since);
            let refusal = if self.failed_tries == 0 { Refusal::Busy { waited } } else { Refusal::Unavailable };
            context.effects.push(Effect::Refuse(refusal));
            return self.give_back(context);
        }
        if self.extending.take_overdue(context.now).is_some() {
            self.failed_tries = self.failed_tries.saturating_add(1);
            self.extending.ask(context);
        } else if self.extending.is_idle() && self.due <= context.now {
            self.extending.ask(context);
        }
        Phase::Queued(self)
    }

    /// Handles the event that the store has granted the lease, with its remaining life.
    fn granted(mut self, token: Token, context: &mut Context<'_>) -> Phase {
        if self.is_doubted() || self.alive_until.since(context.now) < context.terms.ttl.get() / 4 {
            self.extending.ask(context);
            return Phase::Queued(self);
        }
        Held::granted_by_event(token, self.alive_until, self.extending, context)
    }

    /// Whether a break is newer than every answer so far.
    fn is_doubted(&self) -> bool {
        self.doubted.is_some()
    }

    fn rejected(self, context: &mut Context<'_>) -> Phase {
        context.effects.push(Effect::Refuse(Refusal::Rejected));
        self.give_back(context)
    }

    fn give_back(self, context: &mut Context<'_>) -> Phase {
        // An extension under way may give the lease its whole life once more.
        Releasing::start(context.now.after(context.terms.ttl.get()).max(self.alive_until), false, None, context)
    }
}

/// Ends a lease whose place in the queue the store has lost. The waiter claims again with another lease, because
/// answers and events about this one may still arrive.
fn gone(context: &mut Context<'_>) -> Phase {
    context.effects.push(Effect::Refuse(Refusal::Ended(LossReason::Gone)));
    Phase::Ended(Ended::gone(LossReason::Gone))
}

fn alive_until(sent: Moment, ttl: Ttl) -> Moment {
    sent.after(ttl.get()).before(ttl.margin())
}
