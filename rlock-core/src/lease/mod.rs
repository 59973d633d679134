//! The life of one lease, as a pure state machine.
//!
//! [`Lease::step`] takes a moment and an input, moves the lease to its next [`Phase`], and appends the [`Effect`]s that
//! the driver carries out. The machine does no I/O, reads no clock, takes no mutex and draws no random numbers. The
//! same inputs always have the same effects, so tests can state them as tables, and a model checker can explore them.
//!
//! ```text
//!               busy, failed                 kept                     extended
//!                 ┌────┐                    ┌────┐                    ┌────┐
//!                 │    ▼       queued       │    ▼      granted       │    ▼
//!   lock() ──▶  Claiming ───────────────▶  Queued ───────────────▶  Held ──────────┐ deadline, break,
//!                 │    │ granted             │                      ▲ │            ▼ takeover, gave up
//!                 │    └─────────────────────┼──────────────────────┘ │          Ended
//!                 │ timed out, dropped       │ timed out, dropped     │ unlocked   │ dropped
//!                 └──────────────┬───────────┴────────────────────────┴────────────┘
//!                                ▼
//!                            Releasing ──── confirmed, or past its TTL ───▶ Forgotten
//! ```
//!
//! Each phase owns its data in a file of its own. Four rules hold in all of them:
//!
//! - One request of a verb is under way. Another extension follows only if the answer to the last one is
//!   [overdue](extending).
//! - The [timer](Lease::timer) is derived from the phase after each step. It is stored nowhere, so no step can forget
//!   to update it.
//! - The deadline of a held lease counts from a moment before its request was sent.
//! - The loss of a lock comes before every other effect of its step.

mod claiming;
mod doubt;
mod effect;
mod ended;
mod extending;
mod held;
mod input;
mod loss;
#[cfg(test)]
mod model;
mod pause;
mod queued;
mod releasing;
mod request_state;
#[cfg(test)]
mod tests;
mod watchdog;
mod wish;

use std::time::Duration;

use crate::clock::Moment;
use crate::contract::{Token, Ttl};

pub(crate) use self::claiming::Claiming;
pub(crate) use self::effect::{Effect, Effects, ExtendOutcome, Order, Refusal, ReleaseOutcome, Verb, WatchdogFault};
pub(crate) use self::ended::Ended;
pub(crate) use self::held::Held;
pub(crate) use self::input::{Fault, Hint, Input};
pub use self::loss::{End, LossReason, Lost};
pub(crate) use self::queued::Queued;
pub(crate) use self::releasing::Releasing;
pub(crate) use self::watchdog::Renewal;

/// The longest time for which a request whose answer was lost may still be on its way to the store.
pub(crate) const STRAY: Duration = Duration::from_secs(60);

/// One lease, as its client knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    terms: Terms,
    phase: Phase,
    /// An unanswered claim may take effect until then, even after the release.
    stray_until: Option<Moment>,
    /// The number of the last request.
    last_call: u32,
}

/// The terms of a lease, fixed when it is claimed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Terms {
    /// The life that the lease is claimed with, and extended by while it is queued.
    pub(crate) ttl: Ttl,
    pub(crate) wait: Wait,
    /// The time for which requests to a failing store are retried before the user gets an error.
    pub(crate) retry_for: Duration,
    /// The watchdog that starts with the grant.
    pub(crate) renewal: Option<Renewal>,
    /// The minimum time from the grant for which the resource stays taken, even if the lock is released before.
    pub(crate) hold_at_least: Duration,
    /// The time from the grant after which the lock is lost, even if it is renewed.
    pub(crate) hold_at_most: Option<Duration>,
    /// The token of a lease that another client has held and that this client adopts. The lease stays in the store, until
    /// [`Input::Adopt`] makes it this client's.
    pub(crate) adopts: Option<Token>,
    /// Whether the store has a queue.
    pub(crate) queues: bool,
    /// Whether the store reports grants and breaks.
    pub(crate) pushes: bool,
    /// A random number that makes the pauses of this lease differ from those of others.
    pub(crate) seed: u64,
}

/// The time for which a claim may wait while others hold the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Wait {
    Forever,
    /// A single try.
    Never,
    Until(Moment),
}

/// The phase of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// The claim is not answered yet.
    Claiming(Claiming),
    /// The lease is in the store's queue.
    Queued(Queued),
    /// The lease is held until its deadline.
    Held(Held),
    /// The lease has ended, and its user still has the guard or waits.
    Ended(Ended),
    /// The lease is being released.
    Releasing(Releasing),
    /// The client is done with the lease.
    Forgotten,
}

/// The parts of a lease that a phase uses in a step.
pub(super) struct Context<'a> {
    pub(super) now: Moment,
    pub(super) terms: &'a Terms,
    pub(super) stray_until: &'a mut Option<Moment>,
    pub(super) effects: &'a mut Effects,
}

impl Lease {
    /// A lease whose claim has to be sent. Its user waits since `since`.
    pub(crate) fn new(terms: Terms, since: Moment, effects: &mut Effects) -> Self {
        Self::claim(terms, Claiming::new(since), effects)
    }

    /// A lease that follows an earlier one, which the store had answered, for a user who waits since `since`.
    pub(crate) fn again(terms: Terms, since: Moment, effects: &mut Effects) -> Self {
        Self::claim(terms, Claiming::again(since), effects)
    }

    fn claim(terms: Terms, claiming: Claiming, effects: &mut Effects) -> Self {
        effects.push(Effect::Send(Verb::Claim));
        Self { terms, phase: Phase::Claiming(claiming), stray_until: None, last_call: 0 }
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    pub(crate) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The deadline while the lease is held.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Held(held) => Some(held.deadline()),
            _ => None,
        }
    }

    /// Handles one input.
    pub(crate) fn step(&mut self, now: Moment, input: Input, effects: &mut Effects) {
        let mut context = Context { now, terms: &self.terms, stray_until: &mut self.stray_until, effects };
        self.phase = std::mem::replace(&mut self.phase, Phase::Forgotten).step_on(input, &mut context);
    }

    /// Returns the request to send now that its turn has come, with its number, which the answer carries. `None` if the
    /// request is no longer needed. `now` is before the first byte of the request is sent.
    pub(crate) fn begin(&mut self, verb: Verb, now: Moment) -> Option<(u32, Order)> {
        let call = self.last_call.wrapping_add(1);
        let order = match (&mut self.phase, verb) {
            (Phase::Claiming(claiming), Verb::Claim) => claiming.begin(call, now, &self.terms),
            (Phase::Queued(queued), Verb::Extend) => queued.begin(call, now, &self.terms),
            (Phase::Held(held), Verb::Extend) => held.begin(call, now, &self.terms),
            (Phase::Releasing(releasing), Verb::Release) => releasing.send_now(call, now),
            _ => None,
        }?;
        self.last_call = call;
        Some((call, order))
    }

    /// The next moment at which the lease needs [`Input::Timer`].
    pub(crate) fn timer(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Claiming(claiming) => claiming.timer(&self.terms),
            Phase::Queued(queued) => queued.timer(&self.terms),
            Phase::Held(held) => Some(held.timer()),
            Phase::Releasing(releasing) => releasing.timer(),
            Phase::Ended(_) | Phase::Forgotten => None,
        }
    }
}

impl Phase {
    fn step_on(self, input: Input, context: &mut Context<'_>) -> Self {
        match self {
            Self::Claiming(claiming) => claiming.step(input, context),
            Self::Queued(queued) => queued.step(input, context),
            Self::Held(held) => held.step(input, context),
            Self::Ended(ended) => ended.step(input, context),
            Self::Releasing(releasing) => releasing.step(input, context),
            Self::Forgotten => forgotten(input, context),
        }
    }

    fn forget(context: &mut Context<'_>) -> Self {
        context.effects.push(Effect::Forget);
        Self::Forgotten
    }

    /// Forgets a lease that the store may keep until its TTL ends.
    fn forget_unreleased(context: &mut Context<'_>) -> Self {
        context.effects.push(Effect::Unreleased);
        Self::forget(context)
    }
}

impl Wait {
    /// The moment until which a claim may wait, if there is one.
    pub(crate) fn until(self) -> Option<Moment> {
        match self {
            Self::Until(until) => Some(until),
            Self::Forever | Self::Never => None,
        }
    }
}

fn forgotten(input: Input, context: &mut Context<'_>) -> Phase {
    if let Input::Extend { ticket, .. } = input {
        context.effects.push(Effect::Reply(ticket, ExtendOutcome::Over));
    }
    Phase::Forgotten
}

fn earliest(moments: impl IntoIterator<Item = Option<Moment>>) -> Option<Moment> {
    moments.into_iter().flatten().min()
}
