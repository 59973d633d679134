//! A held lease.

use std::time::Duration;

use super::doubt::Doubt;
use super::extending::{Answered, Extending, Overdue, Sent};
use super::pause::pause;
use super::watchdog::{Next, RenewalSchedule};
use super::wish::Wish;
use super::{
    Context, Effect, Ended, ExtendOutcome, Fault, Hint, Input, LossReason, Order, Phase, Releasing, Renewal, Terms,
    earliest,
};
use crate::clock::Moment;
use crate::contract::{Extended, Grant, Token, Ttl};

/// A held lease, until its deadline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    token: Token,
    since: Moment,
    deadline: Moment,
    /// The end of the lock, even if it is renewed.
    limit: Option<Moment>,
    extending: Extending<Vec<Wish>>,
    /// Wishes of the holder that no extension carries yet.
    wishes: Vec<Wish>,
    watchdog: Option<RenewalSchedule>,
    /// An extension by the TTL is needed, because the grant did not give the lease its whole life.
    wants_whole_life: bool,
    /// An event is newer than the last answer.
    doubt: Option<Doubt>,
    /// Extensions in a row that failed, since the last scheduled one began.
    failed_tries: u32,
    /// The moment to retry a failed extension.
    retry: Option<Moment>,
    /// The longest life that was requested or granted so far. The store may round a request up, and an adopted lease may
    /// have more life than is requested.
    longest: Duration,
    /// The lease is another client's, until the user has adopted it.
    is_adopting: bool,
}

impl Held {
    /// A lease that an answer of the store has granted. `is_whole`: the store has given it all the requested life.
    /// `doubt`: an event came before the answer. `extending` contains its extensions under way.
    pub(super) fn granted(
        grant: Grant,
        deadline: Moment,
        is_whole: bool,
        doubt: Option<Doubt>,
        extending: Extending<()>,
        context: &mut Context<'_>,
    ) -> Phase {
        let interval = context.terms.renewal.as_ref().map_or(context.terms.ttl.get() / 3, |renewal| renewal.interval);
        // The answer may have taken so long that little life is left.
        let enough = interval + context.terms.ttl.get().saturating_sub(interval) / 2;
        let is_whole = is_whole && deadline.since(context.now) >= enough;
        let mut held = Self::new(grant.token, deadline, extending.with_wishes(), is_whole, context);
        held.longest = held.longest.max(grant.ttl);
        held.doubt = doubt;
        if doubt.is_some() || !is_whole {
            held.extending.ask(context);
        }
        Phase::Held(held)
    }

    /// A queued lease that an event reports as granted. `extending` contains its extensions under way.
    pub(super) fn granted_by_event(
        token: Token,
        deadline: Moment,
        extending: Extending<()>,
        context: &mut Context<'_>,
    ) -> Phase {
        let mut held = Self::new(token, deadline, extending.with_wishes(), false, context);
        held.extending.ask(context);
        Phase::Held(held)
    }

    fn new(
        token: Token,
        deadline: Moment,
        extending: Extending<Vec<Wish>>,
        is_whole: bool,
        context: &mut Context<'_>,
    ) -> Self {
        context.effects.push(Effect::Grant(token));
        let (now, seed) = (context.now, context.terms.seed);
        let mut watchdog =
            context.terms.renewal.clone().map(|renewal| RenewalSchedule::start(renewal, seed, now, !is_whole));
        if let Some(watchdog) = watchdog.as_mut().filter(|_| !is_whole) {
            let _the_first_never_gives_up = watchdog.begin(context);
        }
        Self {
            token,
            since: now,
            deadline,
            limit: context.terms.hold_at_most.map(|time| now.after(time)),
            extending,
            wishes: Vec::new(),
            wants_whole_life: !is_whole,
            watchdog,
            doubt: None,
            failed_tries: 0,
            retry: None,
            longest: context.terms.ttl.get(),
            is_adopting: context.terms.adopts.is_some(),
        }
    }

    pub(crate) fn token(&self) -> Token {
        self.token
    }

    pub(crate) fn since(&self) -> Moment {
        self.since
    }

    pub(crate) fn deadline(&self) -> Moment {
        self.limit.map_or(self.deadline, |limit| limit.min(self.deadline))
    }

    pub(crate) fn watchdog(&self) -> Option<&RenewalSchedule> {
        self.watchdog.as_ref()
    }

    pub(super) fn begin(&mut self, call: u32, now: Moment, terms: &Terms) -> Option<Order> {
        if !self.extending.is_wanted() {
            return None;
        }
        // Without a watchdog, it only checks whether the lease is held.
        let automatic = self.watchdog.as_ref().map_or(Ttl::MIN, |watchdog| watchdog.renewal().extend_by);
        let automatic = if self.wants_whole_life { automatic.max(terms.ttl) } else { automatic };
        let wishes = std::mem::take(&mut self.wishes);
        let ttl = wishes.iter().map(|wish| wish.ttl).fold(automatic, Ttl::max);
        self.longest = self.longest.max(ttl.get());
        self.extending
            .sent(call, Sent { at: now, ttl, due: now.after(self.patience(now, terms)), was_queued: false, wishes });
        Some(Order::Extend { ttl })
    }

    /// The time after which another extension follows an unanswered one: a quarter of the time until the deadline.
    fn patience(&self, now: Moment, terms: &Terms) -> Duration {
        let life = self.watchdog.as_ref().map_or(terms.ttl, |watchdog| watchdog.renewal().extend_by).get();
        (self.deadline.since(now) / 4).clamp(life / 32, life / 6)
    }

    pub(super) fn timer(&self) -> Moment {
        let due = self.watchdog.as_ref().map(RenewalSchedule::due);
        let give_up = self.wishes().map(|wish| wish.give_up).min();
        let first = earliest([Some(self.deadline), due, self.asks_again(), give_up]).expect("there is a deadline");
        self.limit.map_or(first, |limit| limit.min(first))
    }

    /// The moment of the next extension that its watchdog does not schedule.
    pub(super) fn asks_again(&self) -> Option<Moment> {
        earliest([self.retry.filter(|_| self.extending.is_idle()), self.extending.timer()])
    }

    fn wishes(&self) -> impl Iterator<Item = &Wish> {
        self.wishes.iter().chain(self.extending.wishes().into_iter().flatten())
    }

    pub(super) fn step(mut self, input: Input, context: &mut Context<'_>) -> Phase {
        // A late step may find both times over. The earlier one has ended the lock.
        if self.limit.is_some_and(|limit| limit <= context.now) && self.limit < Some(self.deadline) {
            return self.lose(LossReason::HeldTooLong, true, context).step_on(input, context);
        }
        if context.now >= self.deadline {
            return self.lose(LossReason::Expired, true, context).step_on(input, context);
        }
        match input {
            Input::Extended(call, answer) => match self.extending.answered(call) {
                Some(Answered::Current(sent)) => self.answered(sent, answer, context),
                Some(Answered::Overdue(overdue)) => self.answered_late(overdue, answer, context),
                None => Phase::Held(self),
            },
            Input::Timer => self.timed(context),
            Input::Hint(Hint::Granted(_)) => Phase::Held(self),
            Input::Hint(Hint::Broken) => self.doubted(Doubt::Broken, context),
            Input::Hint(Hint::Resync) => self.doubted(Doubt::Changed, context),
            Input::Extend { ttl, ticket, retry_until } => {
                self.wishes.push(Wish::new(ttl, ticket, context.now, retry_until));
                self.ask(context);
                Phase::Held(self)
            }
            Input::Watch(renewal) => self.watch(renewal, context),
            Input::Unwatch { generation } => {
                if self.watchdog.as_ref().is_some_and(|watchdog| watchdog.renewal().generation == generation) {
                    self.watchdog = None;
                    self.retry = self.retry.filter(|_| self.needs_answer());
                }
                Phase::Held(self)
            }
            Input::LetGo => self.give_back(true, context),
            Input::GiveUp | Input::Close | Input::Drain if self.is_adopting => self.leave(context),
            Input::GiveUp => self.give_back(false, context),
            Input::Close => {
                let lost = self.lose(LossReason::Shutdown, true, context);
                lost.step_on(Input::LetGo, context)
            }
            Input::HandOver => self.leave(context),
            Input::Adopt => Phase::Held(Self { is_adopting: false, ..self }),
            Input::Abandon => self.lose(LossReason::Shutdown, true, context),
            Input::Claimed(..) | Input::Released(..) | Input::Drain => Phase::Held(self),
        }
    }

    fn answered(mut self, sent: Sent<Vec<Wish>>, answer: Result<Extended, Fault>, context: &mut Context<'_>) -> Phase {
        match answer {
            Ok(Extended::Held(grant)) if grant.token == self.token => self.extended(sent, grant, context),
            // The extension was sent before the grant, which an event has reported meanwhile.
            Ok(Extended::Queued(_)) if sent.was_queued => {
                self.wishes.extend(sent.wishes);
                self.ask(context);
                Phase::Held(self)
            }
            Ok(ended) => {
                self.wishes.extend(sent.wishes);
                self.ended(ended, context)
            }
            Err(fault) => self.failed(sent.wishes, fault, context),
        }
    }

    /// Handles an answer that was overdue. Another extension has been requested since.
    fn answered_late(mut self, sent: Overdue, answer: Result<Extended, Fault>, context: &mut Context<'_>) -> Phase {
        match answer {
            Ok(Extended::Held(grant)) if grant.token == self.token => {
                self.prolong(sent.at, sent.ttl, grant, context);
                // A user whose wish this extension covers gets its reply now. The others wait for the next extension.
                let is_done = |wish: &Wish| wish.asked <= sent.at && wish.ttl <= sent.ttl;
                self.reply_to(is_done, ExtendOutcome::Extended, context);
                Phase::Held(self)
            }
            Ok(Extended::Queued(_)) if sent.was_queued => Phase::Held(self),
            Ok(ended) => self.ended(ended, context),
            Err(_) => Phase::Held(self),
        }
    }

    /// Handles an answer that the store has another lease of this id, or none.
    fn ended(self, answer: Extended, context: &mut Context<'_>) -> Phase {
        let Extended::Gone { taken } = answer else {
            // Held with another token, or back in the queue: the store lost the grant and has made a new one.
            return self.lose(LossReason::Gone, true, context);
        };
        let reason = match self.doubt {
            Some(Doubt::Broken) => LossReason::Broken,
            _ if taken => LossReason::TakenOver,
            _ => LossReason::Gone,
        };
        self.lose(reason, false, context)
    }

    fn extended(mut self, sent: Sent<Vec<Wish>>, grant: Grant, context: &mut Context<'_>) -> Phase {
        self.prolong(sent.at, sent.ttl, grant, context);
        self.retry = None;
        for wish in sent.wishes {
            context.effects.push(Effect::Reply(wish.ticket, ExtendOutcome::Extended));
        }
        // The answer may be older than an event or a wish that has come since.
        if self.extending.take_again() && self.needs_answer() {
            self.ask(context);
        } else {
            self.doubt = None;
        }
        Phase::Held(self)
    }

    /// Moves the deadline after a successful extension, which was sent at `sent` and requested `ttl`.
    fn prolong(&mut self, sent: Moment, ttl: Ttl, grant: Grant, context: &mut Context<'_>) {
        self.deadline = self.deadline.max(grant.deadline(sent, ttl));
        self.longest = self.longest.max(grant.ttl);
        self.failed_tries = 0;
        self.wants_whole_life &= ttl < context.terms.ttl;
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.succeeded(sent, ttl, context);
        }
    }

    fn failed(mut self, wishes: Vec<Wish>, fault: Fault, context: &mut Context<'_>) -> Phase {
        for wish in wishes {
            if fault.is_transient() && context.now < wish.retry_until {
                self.wishes.push(wish);
            } else {
                context.effects.push(Effect::Reply(wish.ticket, ExtendOutcome::Unconfirmed));
            }
        }
        if self.extending.take_again() | self.needs_answer() {
            let left = self.deadline.since(context.now);
            let interval = self.watchdog.as_ref().map_or(left / 3, |watchdog| watchdog.renewal().interval);
            let wait = pause(context.terms.seed, self.failed_tries, interval / 32, interval / 4);
            self.failed_tries = self.failed_tries.saturating_add(1);
            self.retry = Some(context.now.after(wait.max(Duration::from_millis(1))));
        }
        Phase::Held(self)
    }

    fn timed(mut self, context: &mut Context<'_>) -> Phase {
        let now = context.now;
        self.reply_to(|wish| wish.give_up <= now, ExtendOutcome::Unconfirmed, context);
        if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.due() <= now) {
            if watchdog.begin(context) == Next::GiveUp {
                return self.lose(LossReason::GaveUp, true, context);
            }
            self.failed_tries = 0;
            self.ask(context);
        }
        if let Some(overdue) = self.extending.take_overdue(now) {
            self.wishes.extend(overdue.wishes);
            if self.extending.take_again() | self.needs_answer() {
                self.ask(context);
            }
        } else if self.extending.is_idle() && self.retry.is_some_and(|retry| retry <= now) {
            self.ask(context);
        }
        Phase::Held(self)
    }

    /// Replies to the wishes that `is_meant` selects, sent or not.
    fn reply_to(&mut self, is_meant: impl Fn(&Wish) -> bool, outcome: ExtendOutcome, context: &mut Context<'_>) {
        for wishes in [Some(&mut self.wishes), self.extending.wishes_mut()].into_iter().flatten() {
            for wish in wishes.extract_if(.., |wish| is_meant(wish)) {
                context.effects.push(Effect::Reply(wish.ticket, outcome));
            }
        }
    }

    fn doubted(mut self, doubt: Doubt, context: &mut Context<'_>) -> Phase {
        self.doubt = self.doubt.max(Some(doubt));
        self.ask(context);
        Phase::Held(self)
    }

    fn watch(mut self, renewal: Renewal, context: &mut Context<'_>) -> Phase {
        let is_little = self.deadline.since(context.now) < renewal.interval * 3 / 2;
        self.wants_whole_life = false;
        self.failed_tries = 0;
        self.retry = self.retry.filter(|_| self.doubt.is_some() || !self.wishes.is_empty());
        let mut watchdog = RenewalSchedule::start(renewal, context.terms.seed, context.now, is_little);
        if is_little {
            let _the_first_never_gives_up = watchdog.begin(context);
            self.ask(context);
        }
        self.watchdog = Some(watchdog);
        Phase::Held(self)
    }

    /// Whether a successful extension is needed.
    pub(super) fn needs_answer(&self) -> bool {
        self.wants_whole_life
            || self.doubt.is_some()
            || !self.wishes.is_empty()
            || self.watchdog.as_ref().is_some_and(RenewalSchedule::is_extending)
    }

    fn ask(&mut self, context: &mut Context<'_>) {
        self.retry = None;
        self.extending.ask(context);
    }

    fn lose(mut self, reason: LossReason, may_be_there: bool, context: &mut Context<'_>) -> Phase {
        context.effects.insert(0, Effect::Lose(reason));
        if let Some(watchdog) = &self.watchdog {
            watchdog.lost(reason, context);
        }
        let (rest_until, alive_until) = (self.since.after(context.terms.hold_at_least), self.alive_until(context));
        self.reply_to_all(context);
        let ended = match may_be_there {
            true => Ended::kept_by_the_store(reason).kept_until(alive_until, context).resting_until(rest_until),
            false => Ended::gone(reason),
        };
        Phase::Ended(ended.adopting(self.is_adopting))
    }

    fn give_back(mut self, rests: bool, context: &mut Context<'_>) -> Phase {
        let alive_until = self.alive_until(context);
        let rest_until = rests.then(|| self.since.after(context.terms.hold_at_least));
        self.reply_to_all(context);
        Releasing::start(alive_until, true, rest_until, context)
    }

    /// Forgets the lease, which stays in the store.
    fn leave(mut self, context: &mut Context<'_>) -> Phase {
        self.reply_to_all(context);
        Phase::forget(context)
    }

    /// The store may keep the lease until then: an unanswered extension may still take effect.
    fn alive_until(&self, context: &Context<'_>) -> Moment {
        self.deadline.max(context.now.after(self.longest))
    }

    fn reply_to_all(&mut self, context: &mut Context<'_>) {
        self.reply_to(|_| true, ExtendOutcome::Over, context);
    }
}
