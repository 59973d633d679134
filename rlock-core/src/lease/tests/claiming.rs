//! Leases that are being claimed, and leases that wait.

use super::*;

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
    driven.sends(&[claim(), release()]);
}

#[test]
fn one_try_is_refused_and_leaves_nothing() {
    let (mut driven, _) = Driven::new(Wait::Never);
    driven.sends(&[Order::Claim { ttl: ttl(TTL), queue: false }]);
    let effects = driven.take(Input::Claimed(0, Ok(Acquired::Busy)));
    assert_eq!(effects, [Effect::Refuse(Refusal::Busy { waited: Duration::ZERO }), Effect::Forget]);
}

#[test]
fn unanswered_claim_is_repeated_then_given_up() {
    let (mut driven, _) = Driven::new(Wait::Forever);
    assert_eq!(driven.take(Input::Claimed(0, Err(Fault::Unknown))), []);
    driven.fire();
    driven.sends(&[claim(), claim()]);
    driven.pass(5_000);
    let effects = driven.take(Input::Claimed(0, Err(Fault::Unknown)));
    assert_eq!(effects, [Effect::Refuse(Refusal::Unavailable)]);
    driven.sends(&[release()]);
}

#[test]
fn hung_claim_is_given_up() {
    let (mut driven, _) = Driven::new(Wait::Forever);
    assert_eq!(driven.fire(), [Effect::Refuse(Refusal::Unavailable)]);
    driven.sends(&[claim()]);
    assert_eq!(driven.take(held()), [], "the answer shows that there is something to give back");
    driven.sends(&[release()]);
}

#[test]
fn silent_store_is_not_reported_as_busy() {
    let until = Moment::default().after(ms(1_000_000 + 1_000));
    let (mut driven, _) = Driven::new(Wait::Until(until));
    let waited = ms(1_000);
    assert_eq!(driven.fire(), [Effect::Refuse(Refusal::Unanswered { waited })]);
}

#[test]
fn hung_claim_after_a_lost_place_is_busy() {
    let since = Moment::default().after(ms(1_000_000));
    let until = since.after(ms(60_000));
    let mut effects = Effects::new();
    let mut lease = Lease::again(Terms { wait: Wait::Until(until), ..terms() }, since, &mut effects);
    assert!(lease.begin(Verb::Claim, since.after(ms(50_000))).is_some());
    effects.clear();
    lease.step(until, Input::Timer, &mut effects);
    assert_eq!(effects[0], Effect::Refuse(Refusal::Busy { waited: ms(60_000) }));
}

#[test]
fn dropped_claim_gives_back_its_grant() {
    let answers = [held(), queued(TTL), Input::Claimed(0, Err(Fault::Unknown))];
    for answer in answers {
        let (mut driven, _) = Driven::new(Wait::Forever);
        assert_eq!(driven.take(Input::LetGo), []);
        driven.take(answer);
        driven.sends(&[claim(), release()]);
    }
    let (mut driven, _) = Driven::new(Wait::Forever);
    driven.take(Input::LetGo);
    assert_eq!(driven.take(Input::Claimed(0, Err(Fault::NotApplied))), [Effect::Forget]);
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
fn waiter_paces_a_store_that_asks_at_once() {
    let mut driven = Driven::queued(unwatched());
    let asked_again = |driven: &mut Driven, millis| {
        driven.take(Input::Extended(0, Ok(Extended::Queued(Place { ahead: 0, ask_again: ms(millis) }))));
        let answered = driven.now;
        driven.fire();
        driven.now.since(answered)
    };
    driven.fire();
    assert_eq!(asked_again(&mut driven, 0), ms(1), "the lease in front may have expired");
    let begun = driven.now;
    for _ in 0..100 {
        asked_again(&mut driven, 0);
    }
    assert!(driven.now.since(begun) > ms(2_000), "{:?}", driven.now.since(begun));
    assert_eq!(asked_again(&mut driven, 2_000), ms(2_001));
    assert_eq!(asked_again(&mut driven, 0), ms(1), "another lease is in front");
}

#[test]
fn event_hands_the_lock_over_before_expiry() {
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
fn endless_waits_overflow_nothing() {
    let (mut driven, _) = Driven::new(Wait::Forever);
    let place = Place { ahead: 0, ask_again: Duration::MAX };
    driven.take(Input::Claimed(0, Ok(Acquired::Queued(place))));
    driven.fire();
    driven.sends(&[claim(), extend(TTL)]);
}

/// A waiter that has sent two extensions, and the number of the first, which is overdue.
fn with_an_overdue_extension() -> (Driven, u32) {
    let mut driven = Driven::queued(unwatched());
    driven.fire();
    let first = driven.calls[Verb::Extend as usize];
    driven.fire();
    driven.sent.clear();
    (driven, first)
}

#[test]
fn late_grant_is_checked_after_lost_events() {
    let (mut driven, first) = with_an_overdue_extension();
    driven.take(Input::Hint(Hint::Resync));
    let late = Input::Extended(first, Ok(Extended::Held(grant(TTL))));
    assert_eq!(driven.take_numbered(late), [Effect::Grant(TOKEN)]);
    driven.take(extended());
    assert_eq!(driven.sent.len(), 1, "both answers may be older than a break");
}

#[test]
fn late_rejection_ends_the_wait() {
    let (mut driven, first) = with_an_overdue_extension();
    let late = Input::Extended(first, Err(Fault::Rejected));
    assert_eq!(driven.take_numbered(late), [Effect::Refuse(Refusal::Rejected)]);
}

#[test]
fn late_grant_is_believed_after_a_break() {
    let (mut driven, first) = with_an_overdue_extension();
    driven.take(Input::Hint(Hint::Broken));
    let second = driven.calls[Verb::Extend as usize];
    driven.fire();
    let third = driven.calls[Verb::Extend as usize];
    driven.fire();
    let late = |call| Input::Extended(call, Ok(Extended::Held(grant(TTL))));
    assert_eq!(driven.take_numbered(late(first)), []);
    assert_eq!(driven.take_numbered(late(second)), []);
    assert_eq!(driven.take_numbered(late(third)), [Effect::Grant(TOKEN)]);
}
