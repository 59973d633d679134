//! What each input does to each phase.

use std::time::Duration;

use super::model;
use super::{
    Effect, Effects, Fault, Hint, Input, Lease, LossReason, Order, Phase, Refusal, ReleaseOutcome, Renewal, Reply,
    Terms, Verb, Wait, WatchdogFault,
};
use crate::clock::Moment;
use crate::contract::{Acquired, Extended, Grant, Place, Released, Token, Ttl};

const TTL: u64 = 30_000;
const TOKEN: Token = Token::new(7);

/// A lease whose driver sends every request at once.
struct Driven {
    lease: Lease,
    now: Moment,
    sent: Vec<Order>,
    /// The number of the last request of each verb.
    calls: [u32; 3],
}

impl Driven {
    /// A lease that waits as `wait` says, 30 s TTL, a watchdog at a third of it.
    fn new(wait: Wait) -> (Self, Vec<Effect>) {
        Self::with(Terms { wait, ..terms() })
    }

    fn with(terms: Terms) -> (Self, Vec<Effect>) {
        let now = Moment::default().after(ms(1_000_000));
        let mut effects = Effects::new();
        let lease = Lease::new(terms, now, &mut effects);
        let mut driven = Self { lease, now, sent: Vec::new(), calls: [0; 3] };
        let effects = driven.carry_out(effects);
        (driven, effects)
    }

    /// One that is held since now, with its whole life.
    fn held(terms: Terms) -> Self {
        let (mut driven, _) = Self::with(terms);
        driven.take(held());
        driven
    }

    /// One in the queue since now.
    fn queued(terms: Terms) -> Self {
        let (mut driven, _) = Self::with(terms);
        driven.take(queued(TTL));
        driven
    }

    /// The effects of `input`, without the requests, which are [`sent`](Self::sent). An answer is to the last request.
    fn take(&mut self, input: Input) -> Vec<Effect> {
        let last = |verb: Verb| self.calls[verb as usize];
        let input = match input {
            Input::Claimed(_, answer) => Input::Claimed(last(Verb::Claim), answer),
            Input::Extended(_, answer) => Input::Extended(last(Verb::Extend), answer),
            Input::Released(_, answer) => Input::Released(last(Verb::Release), answer),
            other => other,
        };
        self.take_numbered(input)
    }

    fn take_numbered(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Effects::new();
        self.lease.step(self.now, input, &mut effects);
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Effects) -> Vec<Effect> {
        let mut others = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send(verb) => {
                    if let Some((call, order)) = self.lease.begin(verb, self.now) {
                        self.calls[verb as usize] = call;
                        self.sent.push(order);
                    }
                }
                other => others.push(other),
            }
        }
        others
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now.after(ms(millis));
    }

    /// Lets time pass up to the lease's timer, and fires it.
    fn fire(&mut self) -> Vec<Effect> {
        self.now = self.now.max(self.lease.timer().expect("it has one"));
        self.take(Input::Timer)
    }

    fn sends(&mut self, orders: &[Order]) {
        assert_eq!(std::mem::take(&mut self.sent), orders);
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn ttl(millis: u64) -> Ttl {
    Ttl::new(ms(millis)).expect("it is in bounds")
}

fn renewal(interval: u64, max_failures: Option<u32>) -> Renewal {
    Renewal { generation: 1, interval: ms(interval), extend_by: ttl(TTL), max_failures }
}

fn terms() -> Terms {
    Terms {
        ttl: ttl(TTL),
        wait: Wait::Forever,
        retry_for: ms(5_000),
        renewal: Some(renewal(TTL / 3, None)),
        queues: true,
        pushes: true,
        seed: 0,
    }
}

fn unwatched() -> Terms {
    Terms { renewal: None, ..terms() }
}

fn grant(millis: u64) -> Grant {
    Grant { token: TOKEN, ttl: ms(millis) }
}

fn held() -> Input {
    Input::Claimed(0, Ok(Acquired::Held(grant(TTL))))
}

fn queued(ask_again: u64) -> Input {
    Input::Claimed(0, Ok(Acquired::Queued(Place { ahead: 0, ask_again: ms(ask_again) })))
}

fn extended() -> Input {
    Input::Extended(0, Ok(Extended::Held(grant(TTL))))
}

fn gone(taken: bool) -> Input {
    Input::Extended(0, Ok(Extended::Gone { taken }))
}

fn claim() -> Order {
    Order::Claim { ttl: ttl(TTL), queue: true }
}

fn extend(millis: u64) -> Order {
    Order::Extend { ttl: ttl(millis) }
}

#[test]
fn deadline_counts_from_before_the_request() {
    let (mut driven, _) = Driven::new(Wait::Forever);
    let sent = driven.now;
    driven.pass(100);
    assert_eq!(driven.take(held()), [Effect::Grant(TOKEN)]);
    assert_eq!(driven.lease.deadline(), Some(sent.after(ms(TTL)).before(ms(300))));
    driven.sends(&[claim()]);
}

#[test]
fn late_grant_is_extended_at_once() {
    let (mut driven, _) = Driven::new(Wait::Forever);
    driven.pass(TTL * 85 / 100);
    assert_eq!(driven.take(held()), [Effect::Grant(TOKEN), Effect::Begun { late: Duration::ZERO }]);
    driven.sends(&[claim(), extend(TTL)]);
}

#[test]
fn grant_past_its_deadline_is_given_back() {
    let (mut driven, _) = Driven::new(Wait::Forever);
    driven.pass(TTL);
    assert_eq!(driven.take(held()), [Effect::Refuse(Refusal::Ended(LossReason::Expired))]);
    driven.take(Input::LetGo);
    driven.sends(&[claim(), Order::Release]);
}

#[test]
fn one_try_is_refused_and_leaves_nothing() {
    let (mut driven, _) = Driven::new(Wait::Never);
    driven.sends(&[Order::Claim { ttl: ttl(TTL), queue: false }]);
    let effects = driven.take(Input::Claimed(0, Ok(Acquired::Busy)));
    assert_eq!(effects, [Effect::Refuse(Refusal::Busy { waited: Duration::ZERO }), Effect::Settle]);
}

#[test]
fn claim_without_answer_is_repeated_and_then_given_up() {
    let (mut driven, _) = Driven::new(Wait::Forever);
    assert_eq!(driven.take(Input::Claimed(0, Err(Fault::Unknown))), []);
    driven.fire();
    driven.sends(&[claim(), claim()]);
    driven.pass(5_000);
    let effects = driven.take(Input::Claimed(0, Err(Fault::Unknown)));
    assert_eq!(effects, [Effect::Refuse(Refusal::Unavailable)]);
    driven.sends(&[Order::Release]);
}

#[test]
fn hung_claim_is_given_up() {
    let (mut driven, _) = Driven::new(Wait::Forever);
    assert_eq!(driven.fire(), [Effect::Refuse(Refusal::Unavailable)]);
    driven.sends(&[claim()]);
    assert_eq!(driven.take(held()), [], "the answer tells that there is something to give back");
    driven.sends(&[Order::Release]);
}

#[test]
fn wait_for_a_silent_store_does_not_blame_others() {
    let until = Moment::default().after(ms(1_000_000 + 1_000));
    let (mut driven, _) = Driven::new(Wait::Until(until));
    let waited = ms(1_000);
    assert_eq!(driven.fire(), [Effect::Refuse(Refusal::Unanswered { waited })]);
}

#[test]
fn waiter_that_drops_its_claim_gives_back_what_it_got() {
    let answers = [held(), queued(TTL), Input::Claimed(0, Err(Fault::Unknown))];
    for answer in answers {
        let (mut driven, _) = Driven::new(Wait::Forever);
        assert_eq!(driven.take(Input::LetGo), []);
        driven.take(answer);
        driven.sends(&[claim(), Order::Release]);
    }
    let (mut driven, _) = Driven::new(Wait::Forever);
    driven.take(Input::LetGo);
    assert_eq!(driven.take(Input::Claimed(0, Err(Fault::NotApplied))), [Effect::Settle]);
}

#[test]
fn event_before_the_answer_is_asked_about() {
    for hint in [Hint::Granted(TOKEN), Hint::Broken, Hint::Resync] {
        let (mut driven, _) = Driven::new(Wait::Forever);
        driven.take(Input::Hint(hint));
        driven.take(queued(TTL));
        driven.sends(&[claim(), extend(TTL)]);
    }
}

#[test]
fn waiter_asks_when_what_blocks_it_may_expire() {
    let (mut driven, _) = Driven::new(Wait::Forever);
    driven.take(queued(2_000));
    let asked_at = driven.now.after(ms(2_001));
    driven.fire();
    assert_eq!(driven.now, asked_at);
    driven.sends(&[claim(), extend(TTL)]);
}

#[test]
fn event_hands_the_lock_over_while_its_life_lasts() {
    let mut driven = Driven::queued(unwatched());
    driven.sent.clear();
    assert_eq!(driven.take(Input::Hint(Hint::Granted(TOKEN))), [Effect::Grant(TOKEN)]);
    driven.sends(&[extend(TTL)]);

    let mut driven = Driven::queued(unwatched());
    driven.sent.clear();
    driven.pass(TTL * 8 / 10);
    assert_eq!(driven.take(Input::Hint(Hint::Granted(TOKEN))), [], "too little is left");
    driven.sends(&[extend(TTL)]);
    assert_eq!(driven.take(extended()), [Effect::Grant(TOKEN)]);
}

#[test]
fn lost_place_is_told_and_nothing_is_released() {
    let mut driven = Driven::queued(terms());
    driven.take(Input::Hint(Hint::Resync));
    assert_eq!(driven.take(gone(true)), [Effect::Refuse(Refusal::Ended(LossReason::Gone))]);
    let confirmed = Effect::Confirm(ReleaseOutcome::Lost(LossReason::Gone));
    assert_eq!(driven.take(Input::LetGo), [confirmed, Effect::Settle]);
}

#[test]
fn loss_is_signalled_at_the_deadline_before_anything_else() {
    let mut driven = Driven::held(unwatched());
    let deadline = driven.lease.deadline().expect("it is held");
    let effects = driven.fire();
    assert_eq!((driven.now, effects), (deadline, vec![Effect::Lose(LossReason::Expired)]));

    let mut driven = Driven::held(terms());
    driven.pass(TTL);
    let failed = Effect::Failed(WatchdogFault::Lost { failures: 1, reason: LossReason::Expired });
    assert_eq!(driven.take(extended()), [Effect::Lose(LossReason::Expired), failed], "an answer comes too late");
}

#[test]
fn store_says_why_a_lock_is_lost() {
    let lost = [
        (None, gone(false), LossReason::Gone),
        (None, gone(true), LossReason::TakenOver),
        (Some(Hint::Broken), gone(true), LossReason::Broken),
        (Some(Hint::Resync), gone(true), LossReason::TakenOver),
    ];
    for (hint, answer, reason) in lost {
        let mut driven = Driven::held(terms());
        match hint {
            Some(hint) => drop(driven.take(Input::Hint(hint))),
            None => drop(driven.fire()),
        }
        assert_eq!(driven.take(answer)[0], Effect::Lose(reason));
    }
}

#[test]
fn break_is_asked_about_until_the_store_answers() {
    let mut driven = Driven::held(unwatched());
    driven.sent.clear();
    driven.take(Input::Hint(Hint::Broken));
    for _ in 0..5 {
        driven.take(Input::Extended(0, Err(Fault::NotApplied)));
        driven.fire();
    }
    driven.sends(&[extend(Ttl::MIN.as_millis()); 6]);
    assert_eq!(driven.take(gone(false)), [Effect::Lose(LossReason::Broken)]);
}

#[test]
fn answer_from_before_a_break_does_not_dispel_it() {
    let mut driven = Driven::held(terms());
    driven.fire();
    driven.sent.clear();
    driven.take(Input::Hint(Hint::Broken));
    driven.sends(&[]);
    driven.take(extended());
    driven.sends(&[extend(TTL)]);
    assert_eq!(driven.take(gone(false))[0], Effect::Lose(LossReason::Broken));
}

#[test]
fn watchdog_without_a_limit_goes_on_until_the_deadline() {
    let mut driven = Driven::held(Terms { renewal: Some(renewal(700, None)), ..terms() });
    let deadline = driven.lease.deadline().expect("it is held");
    let mut failures = 0;
    let lost = loop {
        let effects = driven.fire();
        match effects.first() {
            Some(Effect::Lose(reason)) => break *reason,
            Some(Effect::Failed(_)) => failures += 1,
            _ => {}
        }
        driven.take(Input::Extended(0, Err(Fault::NotApplied)));
    };
    assert_eq!((driven.now, lost), (deadline, LossReason::Expired));
    assert!(failures > 30, "{failures}");
}

#[test]
fn watchdog_with_a_limit_gives_up() {
    let mut driven = Driven::held(Terms { renewal: Some(renewal(1_000, Some(3))), ..terms() });
    let mut failures = Vec::new();
    let lost = loop {
        let effects = driven.fire();
        let failed = |effect: &Effect| match effect {
            Effect::Failed(WatchdogFault::Silence { failures, .. }) => Some(*failures),
            _ => None,
        };
        failures.extend(effects.iter().filter_map(failed));
        if let Some(Effect::Lose(reason)) = effects.iter().find(|effect| matches!(effect, Effect::Lose(_))) {
            break *reason;
        }
        driven.take(Input::Extended(0, Err(Fault::Unknown)));
    };
    assert_eq!((failures, lost), (vec![1, 2, 3], LossReason::GaveUp));
}

#[test]
fn one_extension_is_under_way_at_most() {
    let mut driven = Driven::held(terms());
    driven.sent.clear();
    driven.fire();
    driven.take(Input::Hint(Hint::Resync));
    driven.take(Input::Extend { ttl: ttl(60_000), ticket: 1, retry_until: driven.now });
    driven.sends(&[extend(TTL)]);
    assert_eq!(driven.take(extended()), [Effect::Renewed]);
    driven.sends(&[extend(60_000)]);
    let grant = Extended::Held(grant(60_000));
    assert_eq!(driven.take(Input::Extended(0, Ok(grant))), [Effect::Reply(1, Reply::Extended)]);
    driven.sends(&[]);
}

#[test]
fn extension_by_hand_is_repeated_and_then_unconfirmed() {
    let mut driven = Driven::held(unwatched());
    driven.sent.clear();
    let retry_until = driven.now.after(ms(1_000));
    driven.take(Input::Extend { ttl: ttl(60_000), ticket: 1, retry_until });
    assert_eq!(driven.take(Input::Extended(0, Err(Fault::Unknown))), []);
    driven.fire();
    driven.sends(&[extend(60_000); 2]);
    driven.pass(1_000);
    assert_eq!(driven.take(Input::Extended(0, Err(Fault::Unknown))), [Effect::Reply(1, Reply::Unconfirmed)]);
}

#[test]
fn loss_answers_the_extension_under_way() {
    let mut driven = Driven::held(unwatched());
    driven.take(Input::Extend { ttl: ttl(TTL), ticket: 1, retry_until: driven.now.after(ms(60_000)) });
    driven.pass(TTL);
    assert_eq!(driven.take(Input::Timer), [Effect::Lose(LossReason::Expired), Effect::Reply(1, Reply::Over)]);
}

#[test]
fn hung_extension_is_sent_again() {
    let mut driven = Driven::held(terms());
    driven.sent.clear();
    driven.fire();
    let (first, began) = (driven.calls[Verb::Extend as usize], driven.now);
    driven.fire();
    driven.sends(&[extend(TTL); 2]);
    assert_eq!(driven.now, began.after(ms(TTL / 6)), "a quarter of the time up to the deadline");
    let late = Input::Extended(first, Ok(Extended::Held(grant(TTL))));
    driven.take_numbered(late);
    assert_eq!(driven.lease.deadline(), Some(began.after(ms(TTL)).before(ms(300))), "a late answer is welcome");
}

#[test]
fn hung_extension_by_hand_is_given_up() {
    let mut driven = Driven::held(unwatched());
    let retry_until = driven.now.after(ms(5_000));
    driven.take(Input::Extend { ttl: ttl(TTL), ticket: 1, retry_until });
    assert_eq!(driven.fire(), [Effect::Reply(1, Reply::Unconfirmed)]);
    assert_eq!(driven.now, retry_until);
}

#[test]
fn release_is_confirmed_once_and_repeated_until_it_is() {
    let mut driven = Driven::held(terms());
    driven.sent.clear();
    driven.take(Input::LetGo);
    assert_eq!(driven.take(Input::Released(0, Err(Fault::Unknown))), []);
    driven.fire();
    driven.sends(&[Order::Release; 2]);
    let confirmed = Effect::Confirm(ReleaseOutcome::Released);
    let effects = driven.take(Input::Released(0, Ok(Released::Absent)));
    let first = Effect::Released(Released::Absent);
    assert_eq!(effects, [first, confirmed, Effect::Settle], "the release without an answer has released it");
}

#[test]
fn absent_lease_was_lost_before_its_release() {
    let mut driven = Driven::held(terms());
    driven.take(Input::LetGo);
    let confirmed = Effect::Confirm(ReleaseOutcome::Absent);
    let absent = Effect::Released(Released::Absent);
    assert_eq!(driven.take(Input::Released(0, Ok(Released::Absent))), [absent, confirmed, Effect::Settle]);
}

#[test]
fn release_that_is_not_confirmed_is_reported_and_goes_on() {
    let mut driven = Driven::held(terms());
    driven.sent.clear();
    driven.take(Input::LetGo);
    assert_eq!(driven.fire(), [Effect::Confirm(ReleaseOutcome::Unconfirmed)]);
    assert_eq!(driven.take(Input::Released(0, Err(Fault::NotApplied))), []);
    driven.fire();
    driven.sends(&[Order::Release; 2]);
    let released = Effect::Released(Released::Released);
    assert_eq!(driven.take(Input::Released(0, Ok(Released::Released))), [released, Effect::Settle]);
}

#[test]
fn shutdown_signals_the_loss_and_releases() {
    let mut driven = Driven::held(terms());
    driven.sent.clear();
    assert_eq!(driven.take(Input::Close)[0], Effect::Lose(LossReason::Shutdown));
    driven.sends(&[Order::Release]);
}

#[test]
fn no_input_is_a_surprise_in_any_phase() {
    let inputs = || {
        let extend = Input::Extend { ttl: ttl(TTL), ticket: 1, retry_until: Moment::default() };
        let answers = [held(), queued(1), Input::Claimed(0, Ok(Acquired::Busy)), extended(), gone(true)];
        let faults = [Fault::NotApplied, Fault::Unknown, Fault::Rejected];
        let failures = faults.map(|fault| {
            [Input::Claimed(0, Err(fault)), Input::Extended(0, Err(fault)), Input::Released(0, Err(fault))]
        });
        let hints = [Hint::Granted(TOKEN), Hint::Broken, Hint::Resync].map(Input::Hint);
        let releases = [Released::Released, Released::Absent].map(|released| Input::Released(0, Ok(released)));
        let users = [extend, Input::Watch(renewal(100, Some(1))), Input::Unwatch { generation: 1 }, Input::LetGo];
        let others = [Input::Timer, Input::Close, Input::Abandon];
        answers
            .into_iter()
            .chain(failures.into_iter().flatten())
            .chain(hints)
            .chain(releases)
            .chain(users)
            .chain(others)
    };
    for later in [0, 1_000, TTL * 2] {
        for (first, second, third) in inputs().flat_map(|first| {
            inputs().flat_map(move |second| {
                let first = first.clone();
                inputs().map(move |third| (first.clone(), second.clone(), third))
            })
        }) {
            let (mut driven, _) = Driven::new(Wait::Forever);
            for input in [first, second, third] {
                driven.take(input);
                driven.pass(later);
            }
            let phase = driven.lease.phase();
            let is_over = matches!(phase, Phase::Ended(_) | Phase::Settled);
            assert!(is_over || driven.lease.timer().is_some() || !driven.sent.is_empty(), "{phase:?}");
        }
    }
    let _verbs = [Verb::Claim, Verb::Extend, Verb::Release];
}

/// The explorations that `RLOCK_MODEL` names by the beginnings of their names, those that begin with `small` without it.
#[test]
fn model_holds() {
    let wanted = std::env::var("RLOCK_MODEL").unwrap_or_else(|_| "small".to_owned());
    let mut broken = Vec::new();
    for (name, bounds) in model::explorations().into_iter().filter(|(name, _)| name.starts_with(&wanted)) {
        let explored = model::explore(bounds);
        println!("{name} | {} states | {:.1} s", explored.states, explored.took.as_secs_f64());
        broken.extend(explored.broken.map(|(property, way)| format!("{name}: {property}\n{way}")));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}
