//! Held leases, and their ends.

use super::*;

#[test]
fn loss_is_signalled_first_at_the_deadline() {
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
fn answer_older_than_a_break_is_ignored() {
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
fn unlimited_watchdog_goes_on_until_the_deadline() {
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
fn renewed_lock_is_lost_at_its_limit() {
    let mut driven = Driven::held(Terms { hold_at_most: Some(ms(2 * TTL)), ..terms() });
    let limit = driven.now.after(ms(2 * TTL));
    let mut renewed = 0;
    let effects = loop {
        let effects = driven.fire();
        if effects.first().is_some_and(|effect| matches!(effect, Effect::Lose(_))) {
            break effects;
        }
        renewed += driven.take(extended()).iter().filter(|effect| **effect == Effect::Renewed).count();
        assert!(driven.lease.deadline().is_some_and(|deadline| deadline <= limit));
    };
    assert_eq!((driven.now, effects[0].clone()), (limit, Effect::Lose(LossReason::HeldTooLong)));
    assert!(renewed >= 5, "{renewed}");
    driven.sent.clear();
    let lost = Effect::Confirm(ReleaseOutcome::Lost(LossReason::HeldTooLong));
    assert_eq!(driven.take(Input::LetGo), [lost]);
    driven.sends(&[Order::Release { rest: Duration::ZERO }]);
}

#[test]
fn limit_does_not_outlast_the_deadline() {
    let mut driven = Driven::held(Terms { hold_at_most: Some(ms(10 * TTL)), ..unwatched() });
    assert_eq!(driven.fire(), [Effect::Lose(LossReason::Expired)]);
}

#[test]
fn late_step_names_the_earlier_end() {
    for (limit, reason) in [(TTL / 2, LossReason::HeldTooLong), (TTL * 2, LossReason::Expired)] {
        for input in [Input::Timer, extended(), Input::LetGo] {
            let mut driven = Driven::held(Terms { hold_at_most: Some(ms(limit)), ..unwatched() });
            driven.pass(TTL * 3);
            assert_eq!(driven.take(input.clone())[0], Effect::Lose(reason), "{input:?} with a limit of {limit} ms");
        }
    }
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
    assert_eq!(driven.take(Input::Extended(0, Ok(grant))), [Effect::Reply(1, ExtendOutcome::Extended)]);
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
    assert_eq!(driven.take(Input::Extended(0, Err(Fault::Unknown))), [Effect::Reply(1, ExtendOutcome::Unconfirmed)]);
}

#[test]
fn loss_answers_the_extension_under_way() {
    let mut driven = Driven::held(unwatched());
    driven.take(Input::Extend { ttl: ttl(TTL), ticket: 1, retry_until: driven.now.after(ms(60_000)) });
    driven.pass(TTL);
    assert_eq!(driven.take(Input::Timer), [Effect::Lose(LossReason::Expired), Effect::Reply(1, ExtendOutcome::Over)]);
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
    assert_eq!(driven.fire(), [Effect::Reply(1, ExtendOutcome::Unconfirmed)]);
    assert_eq!(driven.now, retry_until);
}

/// Fails the extension under way, and returns the time until the next one is sent.
fn pause_after_a_failure(driven: &mut Driven) -> Duration {
    let failed = driven.now;
    driven.take(Input::Extended(0, Err(Fault::Unknown)));
    driven.sent.clear();
    driven.fire();
    driven.sends(&[extend(TTL)]);
    driven.now.since(failed)
}

#[test]
fn answer_older_than_an_extension_is_ignored() {
    let mut driven = Driven::held(terms());
    driven.fire();
    let first = driven.calls[Verb::Extend as usize];
    driven.fire();
    driven.take(extended());
    driven.fire();
    let late = Input::Extended(first, Ok(Extended::Held(grant(TTL))));
    assert_eq!(driven.take_numbered(late), [Effect::Renewed], "the store answers");
    assert!(pause_after_a_failure(&mut driven) < ms(TTL / 3 / 4));
}

#[test]
fn shorter_extension_does_not_end_a_scheduled_one() {
    let mut driven = Driven::held(unwatched());
    driven.take(Input::Hint(Hint::Broken));
    driven.pass(TTL * 2 / 3);
    driven.take(Input::Watch(renewal(TTL / 3, None)));
    driven.sent.clear();
    driven.take(extended());
    driven.sends(&[extend(TTL)]);
    assert!(pause_after_a_failure(&mut driven) < ms(TTL / 3 / 4));
}

#[test]
fn extension_older_than_a_watchdog_does_not_count() {
    let mut driven = Driven::held(unwatched());
    driven.take(Input::Extend { ttl: ttl(TTL), ticket: 1, retry_until: driven.now });
    driven.pass(TTL / 5);
    driven.take(Input::Watch(renewal(TTL * 9 / 10, None)));
    driven.sent.clear();
    driven.take(extended());
    driven.sends(&[extend(TTL)]);
}

#[test]
fn lock_without_watchdog_still_gets_its_whole_life() {
    let mut driven = Driven::queued(terms());
    driven.pass(TTL / 2);
    driven.take(Input::Hint(Hint::Granted(TOKEN)));
    driven.take(Input::Unwatch { generation: 1 });
    driven.sent.clear();
    driven.take(Input::Extended(0, Err(Fault::NotApplied)));
    driven.fire();
    driven.sends(&[extend(TTL)]);
}
