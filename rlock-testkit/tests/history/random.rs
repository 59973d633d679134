//! Random histories of a correct lock are accepted. With one error in them, they are rejected.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseError, TestRunner};
use rlock_core::LossReason;
use rlock_testkit::history::{Breach, Counts, Entry, Op, What};

use crate::simulation::{Plan, simulate};
use crate::{check, ms, set_token, token};

const CASES: u32 = 64;

fn plan() -> impl Strategy<Value = Plan> {
    (any::<u64>(), 1u32..6, 1u32..5, 100u64..3000, any::<bool>()).prop_map(
        |(seed, processes, capacity, millis, with_faults)| Plan { seed, processes, capacity, millis, with_faults },
    )
}

fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let cases = std::env::var("PROPTEST_CASES").map_or(CASES, |cases| cases.parse().expect("a number of cases"));
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config).run(strategy, test).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn right_histories_are_accepted() {
    run(&plan(), |plan| {
        let verdict = check(simulate(&plan));
        match verdict.violation {
            None => Ok(()),
            Some(violation) => Err(TestCaseError::fail(format!("\n{violation}\n{}", verdict.counts))),
        }
    });
}

#[test]
fn right_histories_have_everything_in_them() {
    let seen = |what: fn(&Counts) -> u64| {
        let plan = |seed| Plan { seed, processes: 4, capacity: 1 + seed as u32 % 3, millis: 3000, with_faults: true };
        (0..10).map(|seed| what(&check(simulate(&plan(seed))).counts)).sum::<u64>()
    };
    assert!(seen(|counts| counts.acquisitions) > 100);
    assert!(seen(|counts| counts.refusals) > 20);
    assert!(seen(|counts| counts.unknowns) > 2);
    assert!(seen(|counts| counts.releases) > 100);
    assert!(seen(|counts| counts.unknown_releases) > 5);
    assert!(seen(|counts| counts.deaths) > 20);
    assert!(seen(|counts| counts.freezes) > 20);
    assert!(seen(|counts| counts.downs) > 5);
    assert!(seen(|counts| counts.breaks) > 5);
    assert!(seen(|counts| counts.writes) > 100);
    assert!(seen(|counts| counts.refused_writes) > 2);
    for reason in [LossReason::Expired, LossReason::Broken, LossReason::Gone, LossReason::GaveUp] {
        let plan = |seed| Plan { seed, processes: 4, capacity: 1 + seed as u32 % 3, millis: 3000, with_faults: true };
        let losses =
            (0..10).filter_map(|seed| check(simulate(&plan(seed))).counts.losses.get(reason.as_str()).copied());
        assert!(losses.sum::<u64>() > 1, "{reason}");
    }
}

/// Inserts one error, at a position that `Index` chooses; `None` if there is no such position.
type Mutation = fn(Vec<Entry>, &Index) -> Option<Vec<Entry>>;

/// Runs `mutation` on random histories that have a position for it, and expects the breach that `is_found` accepts.
fn rejects(mutation: Mutation, is_found: fn(&Counts, &Breach) -> bool) {
    let positions = std::cell::Cell::new(0);
    run(&(plan(), any::<Index>()), |(plan, index)| {
        let Some(entries) = mutation(simulate(&plan), &index) else { return Ok(()) };
        positions.set(positions.get() + 1);
        let verdict = check(entries);
        let breach = verdict.violation.map(|violation| violation.breach);
        let is_found = breach.as_ref().is_some_and(|breach| is_found(&verdict.counts, breach));
        prop_assert!(is_found, "{:?}\n{}", breach, verdict.counts);
        Ok(())
    });
    assert!(positions.get() > CASES / 4, "only {} histories had a position for it", positions.get());
}

#[test]
fn swapped_tokens_are_rejected() {
    rejects(
        |mut entries, index| {
            let pairs = handovers(&entries);
            let (first, second) = *index.get_checked(&pairs)?;
            let (Some(one), Some(other)) = (token(&entries[first]), token(&entries[second])) else { return None };
            set_token(&mut entries[first], other);
            set_token(&mut entries[second], one);
            Some(entries)
        },
        |counts, breach| {
            counts.wrong_tokens + counts.overtaken > 0
                && matches!(breach, Breach::TokenBack { .. } | Breach::Overtaken { .. })
        },
    );
}

#[test]
fn repeated_token_is_rejected() {
    rejects(
        |mut entries, index| {
            let (first, second) = *index.get_checked(&handovers(&entries))?;
            let repeated = token(&entries[first])?;
            set_token(&mut entries[second], repeated);
            Some(entries)
        },
        |_, breach| matches!(breach, Breach::TokenTwice { .. } | Breach::TokenBack { .. } | Breach::Overtaken { .. }),
    );
}

#[test]
fn grant_before_the_previous_release_is_rejected() {
    rejects(
        |mut entries, index| {
            let (first, second) = *index.get_checked(&handovers(&entries))?;
            let op = entries[first].what.op()?;
            let releasing = entries.iter().find(|entry| entry.what == What::Releasing { op })?.at;
            entries[second].at = releasing - Duration::from_nanos(1);
            Some(entries)
        },
        |counts, breach| counts.overlaps > 0 && matches!(breach, Breach::Overlap { .. }),
    );
}

#[test]
fn dropped_answer_is_rejected() {
    rejects(
        |mut entries, index| {
            let is_answer =
                |what: &What| matches!(what, What::Granted { .. } | What::Refused { .. } | What::Unknown { .. });
            let spoiled = processes(&entries, |what| match *what {
                What::Died { process } | What::Frozen { process } => Some(process),
                _ => None,
            });
            let lives = |entry: &Entry| entry.what.op().is_some_and(|op| !spoiled.contains(&op.process));
            let answers = positions(&entries, |entry| is_answer(&entry.what) && lives(entry));
            entries.remove(*index.get_checked(&answers)?);
            Some(entries)
        },
        |counts, breach| counts.forgotten == 1 && matches!(breach, Breach::Forgotten { .. }),
    );
}

#[test]
fn write_over_a_missing_value_is_rejected() {
    rejects(
        |mut entries, index| {
            let writes = positions(&entries, |entry| matches!(entry.what, What::Wrote { .. }));
            let chosen = *index.get_checked(&writes)?;
            if let What::Wrote { base, .. } = &mut entries[chosen].what {
                *base += 1;
            }
            Some(entries)
        },
        |counts, breach| counts.wrong_writes == 1 && matches!(breach, Breach::RegisterGap { .. }),
    );
}

#[test]
fn write_with_a_fenced_token_is_rejected() {
    rejects(
        |mut entries, index| {
            let opens = positions(&entries, |entry| matches!(entry.what, What::Opened { token: 2.., .. }));
            let chosen = *index.get_checked(&opens)?;
            let What::Opened { op, resource, token, value } = entries[chosen].what.clone() else { return None };
            let at = entries[chosen].at;
            let stale = What::Wrote { op, resource, token: token - 1, base: value, value };
            entries.insert(chosen + 1, Entry { at, what: stale });
            Some(entries)
        },
        |counts, breach| counts.wrong_writes == 1 && matches!(breach, Breach::RegisterBack { .. }),
    );
}

#[test]
fn signal_that_comes_late_is_rejected() {
    rejects(
        |mut entries, index| {
            let frozen = processes(&entries, |what| match *what {
                What::Frozen { process } => Some(process),
                _ => None,
            });
            // Nearly all holders that lose by expiry were frozen, so the test turns a release into a loss.
            let releases = positions(&entries, |entry| match entry.what {
                What::Releasing { op } => !frozen.contains(&op.process) && is_released(&entries, op),
                _ => false,
            });
            let chosen = *index.get_checked(&releases)?;
            let Entry { at, what } = &mut entries[chosen];
            let until = Some(*at);
            *at += crate::ALLOWED + ms(1);
            *what = What::Lost { op: what.op()?, reason: LossReason::Expired, until };
            Some(entries)
        },
        |counts, _| counts.late_signals == 1,
    );
}

/// Pairs of an exclusive grant whose release the store confirmed, and the next grant, which was held for some time.
/// Only without a freeze or death of their processes, and without a break.
fn handovers(entries: &[Entry]) -> Vec<(usize, usize)> {
    let spoiled = processes(entries, |what| match *what {
        What::Died { process } | What::Frozen { process } => Some(process),
        _ => None,
    });
    let is_broken = entries.iter().any(|entry| matches!(entry.what, What::Breaking { .. }));
    let ops = |wanted: fn(&What) -> bool| -> BTreeSet<Op> {
        entries.iter().filter(|entry| wanted(&entry.what)).filter_map(|entry| entry.what.op()).collect()
    };
    let exclusive = ops(|what| matches!(what, What::Asked { share, .. } if share.is_exclusive()));
    let released = ops(|what| matches!(what, What::Released { known: true, .. }));
    let is_fit = |position: usize| {
        let op = entries[position].what.op().expect("a grant has an attempt");
        !is_broken && exclusive.contains(&op) && released.contains(&op) && !spoiled.contains(&op.process)
    };
    let grants = positions(entries, |entry| token(entry).is_some());
    grants.windows(2).map(|pair| (pair[0], pair[1])).filter(|pair| is_fit(pair.0) && is_fit(pair.1)).collect()
}

fn is_released(entries: &[Entry], op: Op) -> bool {
    entries.iter().any(|entry| entry.what == What::Released { op, known: true })
}

fn positions(entries: &[Entry], is_wanted: impl Fn(&Entry) -> bool) -> Vec<usize> {
    (0..entries.len()).filter(|position| is_wanted(&entries[*position])).collect()
}

fn processes(entries: &[Entry], of: impl Fn(&What) -> Option<u32>) -> BTreeSet<u32> {
    entries.iter().filter_map(|entry| of(&entry.what)).collect()
}

/// [`Index::get`] that allows an empty slice.
trait GetChecked {
    fn get_checked<'a, T>(&self, from: &'a [T]) -> Option<&'a T>;
}

impl GetChecked for Index {
    fn get_checked<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        (!from.is_empty()).then(|| self.get(from))
    }
}
