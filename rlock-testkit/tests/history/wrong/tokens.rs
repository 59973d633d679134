//! Tokens and registers that go back.

use rlock_testkit::history::{Breach, What};

use crate::{A, B, asked, asked_for, at, check, granted, job, ms, opened, released, releasing, violation, wrote};

#[test]
fn token_given_twice_is_found() {
    let violation = violation([
        at(0, asked_for(A, 1, 2)),
        at(0, asked_for(B, 1, 2)),
        at(1, granted(A, 7, 100)),
        at(3, granted(B, 7, 100)),
    ]);
    assert_eq!(violation.breach, Breach::TokenTwice { resource: job(), token: 7, first: A, second: B });
    assert_eq!(
        violation.to_string(),
        "       0.000 ms  p1#0 is granted it with token 7, until 99.000 ms
       2.000 ms  p2#0 is granted it with token 7, until 99.000 ms
Contract rule 3 (tokens) is broken: p1#0 and p2#0 both got token 7 of \"job\"."
    );
}

#[test]
fn smaller_token_after_a_grant_goes_back() {
    let violation = violation([
        at(0, asked_for(A, 1, 2)),
        at(1, granted(A, 7, 100)),
        at(2, asked_for(B, 1, 2)),
        at(3, granted(B, 6, 100)),
    ]);
    assert_eq!(
        violation.breach,
        Breach::TokenBack { resource: job(), earlier: A, earlier_token: 7, later: B, later_token: 6 }
    );
}

#[test]
fn waiter_with_a_smaller_token_is_overtaken() {
    let violation = violation([
        at(0, asked(A)),
        at(1, asked(B)),
        at(2, granted(A, 7, 100)),
        at(3, releasing(A)),
        at(4, granted(B, 6, 100)),
    ]);
    assert_eq!(violation.breach, Breach::Overtaken { resource: job(), by: A, by_token: 7, op: B, token: 6 });
}

#[test]
fn reader_with_a_smaller_token_is_overtaken() {
    let entries = [
        at(0, asked_for(A, 9, 9)),
        at(1, asked_for(B, 1, 9)),
        at(2, granted(A, 7, 100)),
        at(3, releasing(A)),
        at(4, granted(B, 6, 100)),
    ];
    assert!(matches!(violation(entries).breach, Breach::Overtaken { .. }));
}

#[test]
fn writer_with_a_smaller_token_is_overtaken() {
    let entries = [
        at(0, asked_for(A, 1, 9)),
        at(1, asked_for(B, 9, 9)),
        at(2, granted(A, 7, 100)),
        at(3, releasing(A)),
        at(4, granted(B, 6, 100)),
    ];
    assert!(matches!(violation(entries).breach, Breach::Overtaken { .. }));
}

/// After a store has forgotten a grant, it grants again before the first holder receives its answer.
#[test]
fn grant_forgotten_before_its_note_is_overtaken() {
    let forgotten = [
        at(0, asked(A)),
        at(1, asked(B)),
        at(2, What::Frozen { process: 1 }),
        at(50, granted(B, 7, 150)),
        at(55, releasing(B)),
        at(56, released(B)),
        at(60, What::Woken { process: 1 }),
        at(61, granted(A, 6, 100)),
        at(62, What::End),
    ];
    let verdict = check(forgotten.clone());
    assert_eq!((verdict.counts.overtaken, verdict.counts.violations()), (1, 1));
    assert!(verdict.counts.tokens_protect());
    let in_split = |since, until| {
        let split = at(62, What::Split { since: ms(since), until: ms(until) });
        check(forgotten.iter().cloned().chain([split])).counts.in_splits
    };
    assert_eq!((in_split(0, 60), in_split(0, 61)), (0, 1));
    let asked_after = check([
        at(0, asked(A)),
        at(1, granted(A, 7, 100)),
        at(2, releasing(A)),
        at(3, asked(B)),
        at(4, granted(B, 6, 100)),
    ]);
    assert_eq!((asked_after.counts.wrong_tokens, asked_after.counts.violations()), (1, 1));
    assert!(!asked_after.counts.tokens_protect());
}

#[test]
fn register_that_takes_a_smaller_token_went_back() {
    let violation = violation([
        at(0, asked(A)),
        at(1, asked(B)),
        at(10, opened(A, 1, 5)),
        at(11, wrote(A, 1, 5, 6)),
        at(12, opened(B, 2, 6)),
        at(13, wrote(B, 2, 6, 7)),
        at(15, wrote(A, 1, 7, 8)),
    ]);
    assert_eq!(violation.breach, Breach::RegisterBack { resource: job(), op: A, token: 1, greatest: 2 });
    assert_eq!(
        violation.to_string(),
        "       0.000 ms  p2#0 opens the register of \"job\" with token 2, and reads 6
       3.000 ms  p1#0 writes 8 over 7 to the register of \"job\" with token 1
Fencing is broken: the register of \"job\" took token 1 of p1#0 after it had seen 2."
    );
}

#[test]
fn register_opened_for_a_smaller_token_went_back() {
    let entries = [at(0, asked(A)), at(0, asked(B)), at(2, opened(B, 2, 0)), at(3, opened(A, 1, 0))];
    assert!(matches!(violation(entries).breach, Breach::RegisterBack { op: A, token: 1, greatest: 2, .. }));
}

#[test]
fn update_that_is_written_over_unseen_is_lost() {
    let violation = violation([
        at(0, asked(A)),
        at(1, asked(B)),
        at(10, opened(A, 1, 5)),
        at(11, opened(B, 2, 5)),
        at(12, wrote(B, 2, 5, 6)),
        at(13, wrote(B, 2, 5, 7)),
    ]);
    assert_eq!(violation.breach, Breach::RegisterGap { resource: job(), op: B, base: 5, value: 6 });
    assert_eq!(
        violation.to_string(),
        "       0.000 ms  p2#0 opens the register of \"job\" with token 2, and reads 5
       1.000 ms  p2#0 writes 6 over 5 to the register of \"job\" with token 2
       2.000 ms  p2#0 writes 7 over 5 to the register of \"job\" with token 2
Fencing is broken: p2#0 went by 5 in the register of \"job\", where 6 was, so an update is lost."
    );
}

#[test]
fn register_that_forgot_its_value_lost_an_update() {
    let entries =
        [at(0, asked(A)), at(0, asked(B)), at(1, opened(A, 1, 0)), at(2, wrote(A, 1, 0, 1)), at(3, opened(B, 2, 0))];
    assert!(matches!(violation(entries).breach, Breach::RegisterGap { op: B, base: 0, value: 1, .. }));
}
