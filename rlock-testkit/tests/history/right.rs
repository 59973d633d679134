//! Correct histories that look wrong.

use rlock_core::LossReason;
use rlock_testkit::history::{Counts, Entry, Op, What};

use crate::{
    A, B, C, asked, asked_for, at, believed, check, granted, job, lost, ms, opened, released, releasing, wrote,
};

#[track_caller]
fn accept(entries: impl IntoIterator<Item = Entry>) -> Counts {
    check(entries).into_result().unwrap_or_else(|violation| panic!("{violation}"))
}

#[test]
fn one_after_the_other() {
    let counts = accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(2, asked(B)),
        at(3, opened(A, 1, 0)),
        at(4, wrote(A, 1, 0, 5)),
        at(5, releasing(A)),
        at(6, granted(B, 2, 100)),
        at(7, released(A)),
        at(8, opened(B, 2, 5)),
        at(8, What::WriteRefused { op: A, resource: job(), token: 1 }),
        at(9, wrote(B, 2, 5, 6)),
        at(10, releasing(B)),
        at(11, released(B)),
        at(12, What::End),
    ]);
    assert_eq!((counts.acquisitions, counts.releases, counts.writes, counts.refused_writes), (2, 2, 2, 1));
    assert_eq!(counts.worst_takeover, ms(1));
    assert_eq!(
        counts.to_string(),
        "asked     2 granted, 0 refused, 0 unknown
ended     2 released, 0 release unknown; lost: none
signals   0 judged strictly, 0.000 ms late at worst
faults    0 deaths, 0 freezes, 0 times down, 0 broken by force, 0 starved
register  2 opened, 0 refused; 2 written, 1 refused
takeover  1.000 ms at worst
wrong     0 overlaps, 0 overtaken, 0 tokens, 0 writes, 0 late signals, 0 forgotten"
    );
}

#[test]
fn strict_signals_are_those_without_an_excuse() {
    let counts = accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(103, lost(A, LossReason::Expired, 100)),
        at(110, asked(B)),
        at(111, granted(B, 2, 200)),
        at(150, What::Frozen { process: 2 }),
        at(250, What::Woken { process: 2 }),
        at(252, lost(B, LossReason::Expired, 200)),
    ]);
    assert_eq!((counts.judged_signals, counts.worst_signal), (1, ms(3)));
}

#[test]
fn losses_before_their_deadline_are_not_judged() {
    let judged = |lost_at| {
        let entries = [at(0, asked(A)), at(1, granted(A, 1, 100)), at(lost_at, lost(A, LossReason::Gone, 100))];
        accept(entries).judged_signals
    };
    assert_eq!([99, 100, 101].map(judged), [0, 1, 1]);
}

#[test]
fn grants_of_readers_may_arrive_out_of_order() {
    accept([
        at(0, asked_for(A, 1, 2)),
        at(1, asked_for(B, 1, 2)),
        at(2, granted(B, 2, 100)),
        at(3, granted(A, 1, 100)),
        at(4, asked_for(C, 2, 2)),
        at(5, releasing(A)),
        at(6, releasing(B)),
        at(7, granted(C, 3, 100)),
    ]);
}

#[test]
fn frozen_holder_is_replaced_after_its_deadline() {
    accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(40, believed(A, 120)),
        at(50, What::Frozen { process: 1 }),
        at(60, asked(B)),
        at(125, granted(B, 2, 300)),
        at(400, What::Woken { process: 1 }),
        at(401, lost(A, LossReason::Expired, 120)),
        at(402, releasing(B)),
    ]);
}

#[test]
fn frozen_holder_may_release_a_lost_lease() {
    // The store's answer to a release that was sent twice may look like success.
    for known in [false, true] {
        accept([
            at(0, asked(A)),
            at(1, granted(A, 1, 100)),
            at(50, What::Frozen { process: 1 }),
            at(60, asked(B)),
            at(125, granted(B, 2, 300)),
            at(200, What::Woken { process: 1 }),
            at(201, releasing(A)),
            at(202, What::Released { op: A, known }),
        ]);
    }
}

#[test]
fn holder_may_still_hold_when_it_wakes() {
    accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(20, What::Frozen { process: 1 }),
        at(60, What::Woken { process: 1 }),
        at(61, believed(A, 160)),
        at(140, releasing(A)),
        at(141, released(A)),
        at(142, asked(B)),
        at(143, granted(B, 2, 300)),
    ]);
}

#[test]
fn grant_may_be_heard_after_its_expiry() {
    accept([
        at(0, asked(A)),
        at(10, What::Frozen { process: 1 }),
        at(20, asked(B)),
        at(130, granted(B, 2, 300)),
        at(200, What::Woken { process: 1 }),
        at(201, granted(A, 1, 110)),
        at(202, lost(A, LossReason::Expired, 110)),
    ]);
}

#[test]
fn look_that_is_noted_after_a_freeze() {
    accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(50, What::Frozen { process: 1 }),
        at(60, asked(B)),
        at(125, granted(B, 2, 300)),
        at(200, What::Woken { process: 1 }),
        at(201, believed(A, 110)),
        at(202, lost(A, LossReason::Expired, 110)),
    ]);
}

#[test]
fn signal_that_is_as_late_as_allowed() {
    accept([at(0, asked(A)), at(1, granted(A, 1, 100)), at(150, lost(A, LossReason::Expired, 100))]);
}

#[test]
fn holder_may_die_before_it_notes_giving_up() {
    accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(2, asked(B)),
        at(50, believed(A, 150)),
        at(53, granted(B, 2, 200)),
        at(55, What::Died { process: 1 }),
    ]);
}

#[test]
fn holder_may_freeze_before_it_notes_giving_up() {
    accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(2, asked(B)),
        at(50, believed(A, 150)),
        at(53, granted(B, 2, 200)),
        at(55, What::Frozen { process: 1 }),
        at(100, What::End),
    ]);
}

#[test]
fn dead_holder_is_replaced_before_its_note() {
    accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(2, asked(B)),
        at(105, granted(B, 2, 200)),
        at(130, What::Died { process: 1 }),
    ]);
}

#[test]
fn loss_may_be_noted_after_the_next_grant() {
    accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(2, asked(B)),
        at(95, believed(A, 100)),
        at(105, granted(B, 2, 200)),
        at(130, lost(A, LossReason::Expired, 100)),
    ]);
}

#[test]
fn release_may_find_an_expired_lease() {
    accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(2, asked(B)),
        at(105, granted(B, 2, 200)),
        at(110, releasing(A)),
        at(112, lost(A, LossReason::Expired, 100)),
    ]);
}

#[test]
fn unknown_release_is_no_hold_beyond_the_deadline() {
    accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(2, asked(B)),
        at(105, granted(B, 2, 200)),
        at(110, releasing(A)),
        at(900, What::Released { op: A, known: false }),
    ]);
}

#[test]
fn watchdog_may_release_before_giving_up_is_noted() {
    let counts = accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 1000)),
        at(2, asked(B)),
        at(30, believed(A, 1000)),
        at(33, granted(B, 2, 200)),
        at(35, What::Lost { op: A, reason: LossReason::GaveUp, until: None }),
    ]);
    assert_eq!(counts.losses.into_iter().collect::<Vec<_>>(), [("gave_up", 1)]);
}

#[test]
fn break_ends_a_hold_before_its_holder_knows() {
    accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 1000)),
        at(2, asked(B)),
        at(10, What::Breaking { resource: job() }),
        at(12, granted(B, 2, 200)),
        at(14, believed(A, 1000)),
        at(20, lost(A, LossReason::Broken, 1000)),
    ]);
}

#[test]
fn unknown_outcomes_stay_open() {
    let counts = accept([
        at(0, asked(A)),
        at(5, What::Unknown { op: A }),
        at(6, asked(B)),
        at(7, asked(C)),
        at(8, What::Died { process: 3 }),
        at(120, granted(B, 3, 300)),
        at(130, What::End),
    ]);
    assert_eq!((counts.unknowns, counts.forgotten), (1, 0));
}

#[test]
fn process_that_starts_again_under_its_number() {
    let again = Op { sequence: 1, ..A };
    accept([
        at(0, asked(A)),
        at(1, granted(A, 1, 100)),
        at(50, What::Frozen { process: 1 }),
        at(60, What::Died { process: 1 }),
        at(70, asked(again)),
        at(110, granted(again, 2, 200)),
        at(190, believed(again, 290)),
        at(280, releasing(again)),
        at(281, released(again)),
        at(300, What::End),
    ]);
}

#[test]
fn frozen_and_dead_waiters_are_not_forgotten() {
    let waiting =
        [at(0, asked(A)), at(0, asked(B)), at(1, What::Frozen { process: 1 }), at(2, What::Died { process: 2 })];
    let ended = waiting.iter().cloned().chain([at(9, What::End)]);
    assert_eq!(accept(ended).forgotten, 0);
    assert_eq!(accept([at(0, asked(C))]).forgotten, 0);
}

#[test]
fn takeover_is_counted_without_downs_and_freezes() {
    let counts = accept([
        at(0, asked(A)),
        at(0, granted(A, 1, 100)),
        at(10, asked(B)),
        at(50, What::Died { process: 1 }), // the resource has no holder
        at(60, What::Down),
        at(1060, What::Up),
        at(1070, What::Frozen { process: 2 }),
        at(3070, What::Woken { process: 2 }),
        at(3075, granted(B, 2, 4000)),
        at(3080, asked(C)),
        at(3081, What::Refused { op: C }),
        at(3082, releasing(B)),
        at(3083, released(B)),
        at(9000, asked(Op { sequence: 1, ..C })), // no waiter until now
        at(9020, granted(Op { sequence: 1, ..C }, 3, 9999)),
        at(9021, releasing(Op { sequence: 1, ..C })),
        at(9030, asked(Op { sequence: 2, ..C })),
        at(9045, What::Refused { op: Op { sequence: 2, ..C } }), // and no waiter any more
        at(9050, asked(Op { sequence: 3, ..C })),
        at(9065, What::Unknown { op: Op { sequence: 3, ..C } }),
        at(9066, What::End),
    ]);
    assert_eq!(counts.worst_takeover, ms(25));
    assert_eq!((counts.downs, counts.freezes, counts.deaths), (1, 1, 1));
}

#[test]
fn hundred_thousand_entries() {
    let turns = (0..25_000).map(|turn| (turn, Op { process: (turn % 50) as u32, sequence: turn / 50 }));
    // All 50 processes wait at any time, behind one holder that holds for 40 ms.
    let counts = accept(turns.flat_map(|(turn, op)| {
        let (before, now) = (turn.saturating_sub(50) * 40 + 2, turn * 40 + 1);
        let before = if turn < 50 { 0 } else { before + 38 };
        [
            at(before, asked(op)),
            at(now, granted(op, turn + 1, now + 100)),
            at(now + 20, believed(op, now + 120)),
            at(now + 38, releasing(op)),
        ]
    }));
    assert_eq!((counts.entries, counts.acquisitions), (100_000, 25_000));
    assert_eq!(counts.worst_takeover, ms(2));
}
