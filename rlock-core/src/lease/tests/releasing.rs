//! Releases.

use super::*;

#[test]
fn lost_place_is_reported_and_nothing_is_released() {
    let mut driven = Driven::queued(terms());
    driven.take(Input::Hint(Hint::Resync));
    assert_eq!(driven.take(gone(true)), [Effect::Refuse(Refusal::Ended(LossReason::Gone))]);
    let confirmed = Effect::Confirm(ReleaseOutcome::Lost(LossReason::Gone));
    assert_eq!(driven.take(Input::LetGo), [confirmed, Effect::Forget]);
}

#[test]
fn release_is_repeated_until_confirmed_once() {
    let mut driven = Driven::held(terms());
    driven.sent.clear();
    driven.take(Input::LetGo);
    assert_eq!(driven.take(Input::Released(0, Err(Fault::Unknown))), []);
    driven.fire();
    driven.sends(&[release(); 2]);
    let confirmed = Effect::Confirm(ReleaseOutcome::Released);
    let effects = driven.take(Input::Released(0, Ok(Released::Absent)));
    let first = Effect::Released(Released::Absent);
    assert_eq!(effects, [first, confirmed, Effect::Forget], "the release without an answer has released it");
}

#[test]
fn absent_lease_was_lost_before_its_release() {
    let mut driven = Driven::held(terms());
    driven.take(Input::LetGo);
    let confirmed = Effect::Confirm(ReleaseOutcome::Absent);
    let absent = Effect::Released(Released::Absent);
    assert_eq!(driven.take(Input::Released(0, Ok(Released::Absent))), [absent, confirmed, Effect::Forget]);
}

#[test]
fn unconfirmed_release_is_reported_and_goes_on() {
    let mut driven = Driven::held(terms());
    driven.sent.clear();
    driven.take(Input::LetGo);
    assert_eq!(driven.fire(), [Effect::Confirm(ReleaseOutcome::Unconfirmed)]);
    assert_eq!(driven.take(Input::Released(0, Err(Fault::NotApplied))), []);
    driven.fire();
    driven.sends(&[release(); 2]);
    let released = Effect::Released(Released::Released);
    assert_eq!(driven.take(Input::Released(0, Ok(Released::Released))), [released, Effect::Forget]);
}

#[test]
fn shutdown_signals_the_loss_and_releases() {
    let mut driven = Driven::held(terms());
    driven.sent.clear();
    assert_eq!(driven.take(Input::Close)[0], Effect::Lose(LossReason::Shutdown));
    driven.sends(&[release()]);
}

#[test]
fn early_release_asks_for_the_rest() {
    let mut driven = Driven::held(Terms { hold_at_least: ms(10_000), ..terms() });
    driven.sent.clear();
    driven.pass(4_000);
    driven.take(Input::LetGo);
    driven.sends(&[Order::Release { rest: ms(6_000) }]);
    driven.take(Input::Released(0, Err(Fault::NotApplied)));
    driven.pass(2_000);
    driven.take(Input::Timer);
    driven.sends(&[Order::Release { rest: ms(4_000) }]);
}

#[test]
fn late_release_asks_for_no_rest() {
    let mut driven = Driven::held(Terms { hold_at_least: ms(1_000), ..terms() });
    driven.sent.clear();
    driven.pass(4_000);
    driven.take(Input::LetGo);
    driven.sends(&[release()]);
}

#[test]
fn loss_keeps_the_rest_of_a_possible_lease() {
    let rested = Terms { hold_at_least: ms(10_000), ..terms() };
    let mut driven = Driven::held(rested.clone());
    driven.sent.clear();
    driven.pass(4_000);
    driven.take(Input::Close);
    driven.sends(&[Order::Release { rest: ms(6_000) }]);

    let mut driven = Driven::held(rested);
    driven.take(Input::Hint(Hint::Resync));
    driven.sent.clear();
    driven.take(gone(true));
    driven.take(Input::LetGo);
    driven.sends(&[]);
}

#[test]
fn unseen_grant_leaves_no_rest() {
    let mut driven = Driven::held(Terms { hold_at_least: ms(10_000), ..terms() });
    driven.sent.clear();
    driven.take(Input::GiveUp);
    driven.sends(&[release()]);
}

#[test]
fn handed_over_lease_is_forgotten_unreleased() {
    let mut driven = Driven::held(terms());
    driven.sent.clear();
    assert_eq!(driven.take(Input::HandOver), [Effect::Forget]);
    driven.sends(&[]);
}

#[test]
fn release_after_a_loss_outlasts_the_longest_extension() {
    const LONG: u64 = 20 * TTL;
    let mut driven = Driven::held(unwatched());
    let retry_until = driven.now.after(ms(1_000));
    driven.take(Input::Extend { ttl: ttl(LONG), ticket: 1, retry_until });
    driven.take(Input::Extended(0, Err(Fault::Unknown))); // it may have had its effect
    driven.pass(TTL);
    assert_eq!(driven.take(Input::LetGo).last(), Some(&Effect::Confirm(ReleaseOutcome::Lost(LossReason::Expired))));
    release_fails_for(&mut driven, LONG);
}

#[test]
fn release_outlasts_the_life_that_was_granted() {
    const LONG: u64 = 20 * TTL;
    let adopted = |life| Input::Claimed(0, Ok(Acquired::Held(grant(life))));
    let (mut claimed, _) = Driven::with(unwatched());
    claimed.take(adopted(LONG));
    let mut extended = Driven::held(unwatched());
    extended.take(Input::Hint(Hint::Resync));
    extended.take(Input::Extended(0, Ok(Extended::Held(grant(LONG)))));
    let (mut dropped, _) = Driven::with(unwatched());
    dropped.take(Input::GiveUp);
    dropped.take(adopted(LONG));
    for (mut driven, wish) in [(claimed, Input::GiveUp), (extended, Input::GiveUp), (dropped, Input::Timer)] {
        driven.take(wish);
        release_fails_for(&mut driven, LONG);
    }
}

/// Fails releases for `millis`, and expects the client to give up then.
fn release_fails_for(driven: &mut Driven, millis: u64) {
    let begun = driven.now;
    let is_report = |effect: &Effect| *effect == Effect::Confirm(ReleaseOutcome::Unconfirmed);
    while driven.now < begun.after(ms(millis)) {
        let effects = driven.take(Input::Released(0, Err(Fault::NotApplied)));
        assert!(effects.iter().all(is_report), "{effects:?} {:?} after the release", driven.now.since(begun));
        driven.fire();
    }
    assert_eq!(driven.take(Input::Released(0, Err(Fault::NotApplied))), [Effect::Unreleased, Effect::Forget]);
}

#[test]
fn drain_ends_every_wait_and_no_lock() {
    let mut held = Driven::held(terms());
    assert_eq!(held.take(Input::Drain), []);
    assert!(held.lease.deadline().is_some());
    let mut queued = Driven::queued(terms());
    assert_eq!(queued.take(Input::Drain), [Effect::Refuse(Refusal::Closed)]);
    let (mut claiming, _) = Driven::new(Wait::Forever);
    assert_eq!(claiming.take(Input::Drain), [Effect::Refuse(Refusal::Closed)]);
    claiming.take(super::held());
    claiming.sends(&[claim(), release()]);
}
