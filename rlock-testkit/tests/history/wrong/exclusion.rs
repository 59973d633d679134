//! Holds that exceed the capacity.

use rlock_core::LossReason;
use rlock_testkit::history::{Breach, Op, What};

use crate::{A, B, C, asked, asked_for, at, believed, check, granted, job, lost, ms, released, releasing, violation};

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
fn overlaps_in_splits_are_counted_apart() {
    let op = |process, sequence| Op { process, sequence };
    let overlap = |noted: u64| {
        let (first, second) = (op(1, noted), op(2, noted));
        [
            at(noted - 4, asked(first)),
            at(noted - 3, granted(first, noted - 3, noted + 90)),
            at(noted - 2, asked(second)),
            at(noted, granted(second, noted, noted + 90)),
            at(noted + 1, releasing(first)),
            at(noted + 2, releasing(second)),
        ]
    };
    let split = at(150, What::Split { since: ms(100), until: ms(200) });
    let verdict = check([100, 200, 210].into_iter().flat_map(overlap).chain([split.clone()]));
    assert_eq!((verdict.counts.overlaps, verdict.counts.in_splits), (3, 2));
    let first_elsewhere = verdict.violation.unwrap().breach;
    assert!(matches!(first_elsewhere, Breach::Overlap { ops, .. } if ops == [op(1, 210), op(2, 210)]));
    let verdict = check([90, 110].into_iter().flat_map(overlap).chain([split]));
    assert_eq!((verdict.counts.overlaps, verdict.counts.in_splits), (2, 1));
}
