//! Wrong histories, each with one error.

mod exclusion;
mod signals;
mod tokens;

use rlock_core::LossReason;
use rlock_testkit::history::{Breach, Op, What};

use crate::{A, B, C, asked, at, check, granted, lost, releasing};

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
