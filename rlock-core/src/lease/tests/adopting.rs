//! Leases that another client has held, and that a client adopts.

use super::*;

fn adopting() -> Driven {
    Driven::with(Terms { adopts: Some(TOKEN), wait: Wait::Never, ..terms() }).0
}

fn adopted() -> Driven {
    let mut driven = adopting();
    assert_eq!(driven.take(held()), [Effect::Grant(TOKEN)]);
    driven
}

#[test]
fn failed_adoption_releases_nothing() {
    let mut hung = adopting();
    assert_eq!(hung.fire(), [Effect::Refuse(Refusal::Unavailable)]);
    assert_eq!(hung.take(held()), [Effect::Forget]);
    let mut failing = adopting();
    while failing.take(Input::Claimed(0, Err(Fault::Unknown))).is_empty() {
        failing.fire();
    }
    assert_eq!(failing.lease.phase(), &Phase::Forgotten);
    let mut late = adopting();
    late.pass(TTL);
    assert_eq!(late.take(held()), [Effect::Refuse(Refusal::Ended(LossReason::Expired))]);
    assert_eq!(late.take(Input::GiveUp), [Effect::Forget]);
    for driven in [hung, failing, late] {
        assert!(!driven.sent.contains(&release()), "{:?}", driven.sent);
    }
}

#[test]
fn lease_that_an_adoption_makes_anew_is_released() {
    let new = Grant { token: Token::new(8), ttl: ms(TTL) };
    let place = Place { ahead: 0, ask_again: ms(TTL) };
    for answer in [Acquired::Held(new), Acquired::Queued(place)] {
        let mut driven = adopting();
        driven.sent.clear();
        let effects = driven.take(Input::Claimed(0, Ok(answer)));
        assert_eq!(effects, [Effect::Refuse(Refusal::Ended(LossReason::Gone))]);
        driven.sends(&[release()]);
        assert_eq!(driven.take(Input::GiveUp), [], "the user hears of it later");
    }
}

/// A lease of another token was made by the claim. Every other answer may be about the lease of the other client.
#[test]
fn abandoned_adoption_releases_only_a_new_lease() {
    let new = Grant { token: Token::new(8), ttl: ms(TTL) };
    let others = [Ok(Acquired::Held(grant(TTL))), Ok(Acquired::Busy), Err(Fault::Unknown), Err(Fault::NotApplied)];
    for end in [Input::GiveUp, Input::Close, Input::Drain, Input::Timer] {
        let abandoned = || {
            let mut driven = adopting();
            if end == Input::Timer {
                driven.fire();
            } else {
                driven.take(end.clone());
            }
            driven.sent.clear();
            driven
        };
        let mut driven = abandoned();
        driven.take(Input::Claimed(0, Ok(Acquired::Held(new))));
        driven.sends(&[release()]);
        for answer in others {
            let mut driven = abandoned();
            assert_eq!(driven.take(Input::Claimed(0, answer)), [Effect::Forget], "{end:?}, {answer:?}");
            driven.sends(&[]);
        }
    }
}

#[test]
fn lease_stays_until_its_user_has_adopted_it() {
    for end in [Input::GiveUp, Input::Close, Input::Drain] {
        let mut driven = adopted();
        driven.sent.clear();
        assert_eq!(driven.take(end.clone()), [Effect::Forget], "{end:?}");
        driven.sends(&[]);

        let mut lost = adopted();
        lost.sent.clear();
        lost.pass(TTL);
        assert_eq!(lost.take(end.clone())[0], Effect::Lose(LossReason::Expired));
        assert_eq!(lost.lease.phase(), &Phase::Forgotten, "{end:?}");
        lost.sends(&[]);
    }
}

#[test]
fn adopted_lease_is_released_by_its_end() {
    for end in [Input::LetGo, Input::GiveUp, Input::Close] {
        let mut driven = adopted();
        assert_eq!(driven.take(Input::Adopt), []);
        driven.sent.clear();
        driven.take(end);
        driven.sends(&[release()]);
    }
    let mut lost = adopted();
    lost.take(Input::Adopt);
    lost.sent.clear();
    lost.pass(TTL);
    lost.take(Input::LetGo);
    lost.sends(&[release()]);
}

#[test]
fn lost_lock_is_not_handed_over() {
    let mut driven = Driven::held(unwatched());
    driven.sent.clear();
    driven.pass(TTL);
    assert_eq!(driven.take(Input::HandOver), [Effect::Lose(LossReason::Expired)]);
    driven.take(Input::LetGo);
    driven.sends(&[release()]);
}
