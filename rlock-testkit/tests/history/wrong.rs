//! Wrong histories, each with one error.

use rlock_core::LossReason;
use rlock_testkit::history::{Breach, Op, Violation, What};

use crate::{
    A, ALLOWED, B, C, asked, asked_for, at, believed, check, granted, job, lost, ms, opened, released, releasing, wrote,
};

fn violation(entries: impl IntoIterator<Item = rlock_testkit::history::Entry>) -> Violation {
    check(entries).into_result().expect_err("the history is wrong")
}

#[test]
fn two_holders_of_a_mutex_overlap() {
    let violation = violation([
        at(1000, asked(A)),
        at(1001, granted(A, 1, 1200)),
        at(1002, asked(B)),
        at(1050, believed(A, 1240)),
        at(1100, believed(A, 1290)),
        at(1110, granted(B, 2, 1310)),
        at(1113, releasing(A)),
        at(1114, released(A)),
        at(1120, releasing(B)),
    ]);
    assert_eq!(
        violation.breach,
        Breach::Overlap { resource: job(), ops: vec![A, B], weight: 2, capacity: 1, overlap: ms(3) }
    );
    assert_eq!(
        violation.to_string(),
        "       0.000 ms  p1#0 asks for 1 of 1 of \"job\"
       1.000 ms  p1#0 is granted it with token 1, until 200.000 ms
       2.000 ms  p2#0 asks for 1 of 1 of \"job\"
     100.000 ms  p1#0 still holds it, until 290.000 ms
     110.000 ms  p2#0 is granted it with token 2, until 310.000 ms
     113.000 ms  p1#0 gives it back
     120.000 ms  p2#0 gives it back
Contract rule 1 (exclusion) is broken: p1#0 and p2#0 held 2 of 1 of \"job\" at the same time, for 3.000 ms at least."
    );
}

#[test]
fn permits_beyond_the_capacity_overlap() {
    let violation = violation([
        at(0, asked_for(A, 1, 4)),
        at(1, asked_for(B, 3, 4)),
        at(2, asked_for(C, 2, 4)),
        at(3, granted(A, 1, 500)),
        at(4, granted(B, 2, 500)),
        at(5, granted(C, 3, 500)),
        at(9, What::End),
    ]);
    assert_eq!(
        violation.breach,
        Breach::Overlap { resource: job(), ops: vec![B, C], weight: 5, capacity: 4, overlap: ms(4) }
    );
}

#[test]
fn reader_beside_a_writer_overlaps() {
    let entries = [
        at(0, asked_for(A, 1, 9)),
        at(1, granted(A, 1, 500)),
        at(2, asked_for(B, 9, 9)),
        at(3, granted(B, 2, 500)),
        at(4, releasing(A)),
    ];
    assert!(matches!(violation(entries).breach, Breach::Overlap { weight: 10, capacity: 9, .. }));
}

#[test]
fn woken_holder_overlaps_with_its_successor() {
    let violation = violation([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(50, What::Frozen { process: 1 }),
        at(51, What::Frozen { process: 3 }),
        at(110, asked(B)),
        at(111, granted(B, 2, 211)),
        at(120, What::Woken { process: 1 }),
        at(121, believed(A, 221)),
        at(125, releasing(A)),
    ]);
    assert_eq!(
        violation.to_string(),
        "       0.000 ms  p1#0 asks for 1 of 1 of \"job\"
       1.000 ms  p1#0 is granted it with token 1, until 100.000 ms
      50.000 ms  process 1 is frozen
     110.000 ms  p2#0 asks for 1 of 1 of \"job\"
     111.000 ms  p2#0 is granted it with token 2, until 211.000 ms
     120.000 ms  process 1 goes on
     121.000 ms  p1#0 still holds it, until 221.000 ms
     125.000 ms  p1#0 gives it back
Contract rule 1 (exclusion) is broken: p1#0 and p2#0 held 2 of 1 of \"job\" at the same time, for 14.000 ms at least."
    );
}

#[test]
fn holder_replaced_before_its_deadline_overlaps() {
    let entries = [
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(10, asked(B)),
        at(60, granted(B, 2, 160)),
        at(70, lost(A, LossReason::TakenOver, 100)),
    ];
    assert!(matches!(violation(entries).breach, Breach::Overlap { overlap, .. } if overlap == ms(10)));
}

#[test]
fn dead_holder_that_looked_too_late_overlaps() {
    let violation = violation([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(10, asked(B)),
        at(20, granted(B, 2, 160)),
        at(25, believed(A, 100)),
        at(30, What::Died { process: 1 }),
        at(31, releasing(B)),
    ]);
    assert_eq!(
        violation.to_string(),
        "       0.000 ms  p1#0 asks for 1 of 1 of \"job\"
       1.000 ms  p1#0 is granted it with token 1, until 100.000 ms
      10.000 ms  p2#0 asks for 1 of 1 of \"job\"
      20.000 ms  p2#0 is granted it with token 2, until 160.000 ms
      25.000 ms  p1#0 still holds it, until 100.000 ms
      30.000 ms  process 1 is dead
      31.000 ms  p2#0 gives it back
Contract rule 1 (exclusion) is broken: p1#0 and p2#0 held 2 of 1 of \"job\" at the same time, for 5.000 ms at least."
    );
}

#[test]
fn holder_that_believed_beyond_its_deadline_overlaps() {
    let entries = [
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(2, asked(B)),
        at(108, granted(B, 2, 208)),
        at(110, believed(A, 210)),
        at(112, lost(A, LossReason::Expired, 100)),
    ];
    assert!(matches!(violation(entries).breach, Breach::Overlap { overlap, .. } if overlap == ms(2)));
}

#[test]
fn overlap_before_a_break_is_not_excused() {
    let entries = [
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(2, asked(B)),
        at(5, granted(B, 2, 160)),
        at(15, What::Breaking { resource: job() }),
        at(20, lost(A, LossReason::Broken, 100)),
    ];
    assert!(matches!(violation(entries).breach, Breach::Overlap { overlap, .. } if overlap == ms(10)));
}

#[test]
fn freeze_before_the_last_look_excuses_nothing() {
    let entries = [
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(20, What::Frozen { process: 1 }),
        at(60, What::Woken { process: 1 }),
        at(61, believed(A, 160)),
        at(62, asked(B)),
        at(290, granted(B, 2, 400)),
        at(300, releasing(A)),
        at(301, released(A)),
    ];
    assert!(matches!(violation(entries).breach, Breach::Overlap { overlap, .. } if overlap == ms(10)));
}

#[test]
fn freeze_does_not_excuse_the_next_process() {
    let again = Op { sequence: 1, ..A };
    let entries = [
        at(50, What::Frozen { process: 1 }),
        at(60, What::Died { process: 1 }),
        at(70, asked(again)),
        at(110, granted(again, 2, 200)),
        at(190, believed(again, 290)),
        at(200, asked(B)),
        at(390, granted(B, 3, 500)),
        at(400, releasing(again)),
        at(401, released(again)),
    ];
    assert!(matches!(violation(entries).breach, Breach::Overlap { overlap, .. } if overlap == ms(10)));
}

#[test]
fn disagreeing_holders_share_the_smallest_capacity() {
    let entries = [
        at(0, asked_for(A, 1, 1)),
        at(0, asked_for(B, 1, 5)),
        at(1, granted(A, 1, 100)),
        at(2, granted(B, 2, 100)),
        at(3, What::End),
    ];
    assert!(matches!(violation(entries).breach, Breach::Overlap { weight: 2, capacity: 1, .. }));
}

#[test]
fn holder_that_says_nothing_of_its_loss_overlaps() {
    let entries = [at(0, asked(A)), at(1, granted(A, 1, 100)), at(200, asked(B)), at(201, granted(B, 2, 300))];
    assert!(matches!(violation(entries).breach, Breach::Overlap { .. }));
}

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
    let verdict = check([
        at(0, asked(A)),
        at(1, asked(B)),
        at(2, What::Frozen { process: 1 }),
        at(50, granted(B, 7, 150)),
        at(55, releasing(B)),
        at(56, released(B)),
        at(60, What::Woken { process: 1 }),
        at(61, granted(A, 6, 100)),
        at(62, What::End),
    ]);
    assert_eq!((verdict.counts.overtaken, verdict.counts.violations()), (1, 1));
    assert!(verdict.counts.tokens_protect());
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

#[test]
fn waiter_without_an_answer_is_forgotten() {
    let violation = violation([
        at(0, asked(A)),
        at(1, granted(A, 1, 900)),
        at(2, asked(B)),
        at(3, releasing(A)),
        at(4, released(A)),
        at(300, What::Frozen { process: 2 }),
        at(400, What::Woken { process: 2 }),
        at(500, What::End),
    ]);
    assert_eq!(violation.breach, Breach::Forgotten { resource: job(), op: B, waited: ms(498) });
    assert_eq!(
        violation.to_string(),
        "       0.000 ms  p2#0 asks for 1 of 1 of \"job\"
     298.000 ms  process 2 is frozen
     398.000 ms  process 2 goes on
     498.000 ms  the end
Contract rule 7 (grant) is broken: p2#0 was forgotten, and has waited 498.000 ms for \"job\"."
    );
}

#[test]
fn waiter_of_a_reused_process_number_is_forgotten() {
    let entries =
        [at(0, asked(A)), at(1, What::Died { process: 1 }), at(2, asked(Op { sequence: 1, ..A })), at(9, What::End)];
    let verdict = check(entries);
    assert_eq!(verdict.counts.forgotten, 1);
    assert!(matches!(verdict.violation.unwrap().breach, Breach::Forgotten { op: Op { sequence: 1, .. }, .. }));
}

#[test]
fn loss_that_is_signalled_late_is_found() {
    let violation = violation([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(90, believed(A, 190)),
        at(241, lost(A, LossReason::Expired, 190)),
    ]);
    assert_eq!(violation.breach, Breach::LateSignal { resource: job(), op: A, late: ms(51), allowed: ALLOWED });
    assert_eq!(
        violation.to_string(),
        "       0.000 ms  p1#0 is granted it with token 1, until 99.000 ms
      89.000 ms  p1#0 still holds it, until 189.000 ms
     240.000 ms  p1#0 sees that it has lost it, which it had until 189.000 ms: its deadline passed before an extension came through
The holder's promise 2 (loss is signalled by the deadline) is broken: p1#0 was told 51.000 ms after its lease of \"job\" had expired, 50.000 are allowed."
    );
}

#[test]
fn loss_reported_by_the_store_alone_is_found() {
    let entries = [at(0, asked(A)), at(1, granted(A, 1, 100)), at(151, lost(A, LossReason::TakenOver, 100))];
    assert!(matches!(violation(entries).breach, Breach::LateSignal { late, .. } if late == ms(51)));
}

#[test]
fn loss_that_was_never_signalled_is_found() {
    let entries = |known| {
        [
            at(0, asked(A)),
            at(1, granted(A, 1, 100)),
            at(90, believed(A, 100)),
            at(151, releasing(A)),
            at(152, What::Released { op: A, known }),
        ]
    };
    assert!(matches!(violation(entries(false)).breach, Breach::LateSignal { late, .. } if late == ms(51)));
    assert_eq!(check(entries(true)).violation, None, "the store knows that it was held");
}

#[test]
fn late_loss_after_a_starvation_is_found() {
    let entries = |told| {
        [
            at(0, asked(A)),
            at(1, granted(A, 1, 100)),
            at(300, What::Starved { process: 1, since: ms(90) }),
            at(told, lost(A, LossReason::Expired, 100)),
        ]
    };
    assert!(matches!(violation(entries(351)).breach, Breach::LateSignal { late, .. } if late == ms(51)));
    assert_eq!(check(entries(350)).violation, None);
    let of_another = [
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(151, lost(A, LossReason::Expired, 100)),
        at(300, What::Starved { process: 2, since: ms(90) }),
    ];
    assert!(matches!(violation(of_another).breach, Breach::LateSignal { .. }));
}

#[test]
fn late_loss_after_a_freeze_is_found() {
    let entries = [
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(50, What::Frozen { process: 1 }),
        at(500, What::Woken { process: 1 }),
        at(551, lost(A, LossReason::Expired, 100)),
    ];
    assert!(matches!(violation(entries).breach, Breach::LateSignal { late, .. } if late == ms(51)));
}

#[test]
fn earliest_violation_is_reported_others_are_counted() {
    let other = |op: Op| Op { sequence: 1, ..op };
    let verdict = check([
        at(0, asked(A)),
        at(1, granted(A, 1, 1000)),
        at(2, asked(B)),
        at(3, granted(B, 2, 1000)),
        at(4, lost(A, LossReason::Expired, 3)),
        at(5, releasing(B)),
        at(6, asked(C)),
        at(7, asked(other(A))),
        at(8, granted(C, 1, 1000)),
        at(9, What::End),
    ]);
    assert_eq!((verdict.counts.overlaps, verdict.counts.wrong_tokens, verdict.counts.forgotten), (0, 2, 1));
    assert_eq!(verdict.counts.violations(), 3);
    let violation = verdict.violation.expect("the history is wrong");
    assert!(matches!(violation.breach, Breach::TokenTwice { first: A, second: C, .. }), "{violation}");
    assert!(violation.to_string().ends_with("There are 2 more violations."), "{violation}");
}
