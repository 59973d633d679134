//! Waiters that are forgotten, and losses that are signalled late.

use rlock_core::LossReason;
use rlock_testkit::history::{Breach, Op, What};

use crate::{A, ALLOWED, B, asked, at, believed, check, granted, job, lost, ms, released, releasing, violation};

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
The holder's promise 2 (loss is signalled by the deadline) is broken: p1#0 learned of its loss 51.000 ms after its lease of \"job\" had expired, 50.000 are allowed."
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
    let entries = |signalled| {
        [
            at(0, asked(A)),
            at(1, granted(A, 1, 100)),
            at(300, What::Starved { process: 1, since: ms(90) }),
            at(signalled, lost(A, LossReason::Expired, 100)),
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
