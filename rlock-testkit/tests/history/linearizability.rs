//! Compares the checker with a general one: stateright's, which searches for an order of all operations that a lock
//! could execute one by one.
//!
//! The histories are of a mutex whose leases do not expire. Each process tries to lock, and unlocks what it got:
//!
//! - *If refusals are allowed at any time*, the checker accepts a history exactly if it is linearizable. This holds for
//!   all histories, however wrong.
//! - *If refusals are allowed only while there is a holder*, which the checker does not judge, every history that it
//!   rejects is not linearizable, and every history of a correct lock is linearizable and accepted.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rlock_testkit::history::{Entry, Op, What};
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec};

use crate::{asked, at, check, granted, released, releasing, set_token, token};

const HISTORIES: u64 = 4000;

#[derive(Debug, Clone)]
struct Lock {
    holder: Option<u32>,
    last_token: u64,
    /// Whether a try may be refused without a holder.
    refuses_at_will: bool,
}

#[derive(Debug, Clone, Copy)]
enum LockOp {
    TryLock(u32),
    Unlock(u32),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum LockRet {
    Token(u64),
    Refused,
    Unlocked,
}

impl SequentialSpec for Lock {
    type Op = LockOp;
    type Ret = LockRet;

    fn invoke(&mut self, op: &LockOp) -> LockRet {
        match *op {
            LockOp::TryLock(_) if self.holder.is_some() => LockRet::Refused,
            LockOp::TryLock(process) => {
                self.holder = Some(process);
                self.last_token += 1;
                LockRet::Token(self.last_token)
            }
            LockOp::Unlock(_) => {
                self.holder = None;
                LockRet::Unlocked
            }
        }
    }

    fn is_valid_step(&mut self, op: &LockOp, ret: &LockRet) -> bool {
        match (*op, *ret) {
            (LockOp::TryLock(process), LockRet::Token(token)) => {
                let is_right = self.holder.is_none() && token > self.last_token;
                (self.holder, self.last_token) = (Some(process), token);
                is_right
            }
            (LockOp::TryLock(_), LockRet::Refused) => self.refuses_at_will || self.holder.is_some(),
            (LockOp::Unlock(process), LockRet::Unlocked) => self.holder.take() == Some(process),
            _ => false,
        }
    }
}

fn is_linearizable(entries: &[Entry], refuses_at_will: bool) -> bool {
    let mut tester = LinearizabilityTester::new(Lock { holder: None, last_token: 0, refuses_at_will });
    for entry in entries {
        let process = entry.what.op().expect("all of it is done by processes").process;
        match entry.what {
            What::Asked { .. } => tester.on_invoke(process, LockOp::TryLock(process)),
            What::Granted { token, .. } => tester.on_return(process, LockRet::Token(token)),
            What::Refused { .. } => tester.on_return(process, LockRet::Refused),
            What::Releasing { .. } => tester.on_invoke(process, LockOp::Unlock(process)),
            What::Released { .. } => tester.on_return(process, LockRet::Unlocked),
            _ => unreachable!("nothing else is generated"),
        }
        .expect("a process does one thing after the other");
    }
    tester.is_consistent()
}

fn is_right(entries: &[Entry]) -> bool {
    check(entries.iter().cloned()).violation.is_none()
}

/// The next step of a process.
#[derive(Clone, Copy)]
enum Next {
    Ask,
    /// The request takes effect.
    Reach(Op),
    Hear(Op, LockRet),
    Release(Op),
    ReachRelease(Op),
    HearReleased(Op),
}

/// A history of 2 to 4 processes and at most 8 operations on a correct lock. Each operation takes effect at some
/// instant between its two notes.
fn right_history(chance: &mut StdRng) -> Vec<Entry> {
    let mut processes: Vec<(u32, u64, Next)> = (1..=chance.random_range(2..=4)).map(|p| (p, 0, Next::Ask)).collect();
    let mut lock = Lock { holder: None, last_token: 0, refuses_at_will: false };
    let mut entries = Vec::new();
    let mut operations = chance.random_range(3..=8);
    for millis in 0..chance.random_range(10..60) {
        let chosen = chance.random_range(0..processes.len());
        let (process, sequence, next) = &mut processes[chosen];
        let process = *process;
        let mut begin = |what| {
            let may_begin = operations > 0;
            if may_begin {
                operations -= 1;
                entries.push(at(millis, what));
            }
            may_begin
        };
        *next = match *next {
            Next::Ask => {
                let op = Op { process, sequence: *sequence };
                *sequence += 1;
                if begin(asked(op)) { Next::Reach(op) } else { Next::Ask }
            }
            Next::Reach(op) => {
                let answer = lock.invoke(&LockOp::TryLock(process));
                lock.last_token += chance.random_range(0..2); // tokens may have gaps
                Next::Hear(op, answer)
            }
            Next::Hear(op, LockRet::Token(token)) => {
                entries.push(at(millis, granted(op, token, 1000)));
                Next::Release(op)
            }
            Next::Hear(op, _) => {
                entries.push(at(millis, What::Refused { op }));
                Next::Ask
            }
            Next::Release(op) => {
                if begin(releasing(op)) {
                    Next::ReachRelease(op)
                } else {
                    Next::Release(op)
                }
            }
            Next::ReachRelease(op) => {
                lock.invoke(&LockOp::Unlock(process));
                Next::HearReleased(op)
            }
            Next::HearReleased(op) => {
                entries.push(at(millis, released(op)));
                Next::Ask
            }
        };
    }
    entries
}

/// A history whose processes do one thing after the other. Everything else in it is random.
fn any_history(chance: &mut StdRng) -> Vec<Entry> {
    let mut tokens: Vec<u64> = (1..=8).collect();
    if chance.random_bool(0.5) {
        tokens.shuffle(chance);
    }
    if chance.random_bool(0.1) {
        tokens[3] = tokens[1];
    }
    let mut tokens = tokens.into_iter();
    let mut processes: Vec<(u32, u64, Next)> = (1..=chance.random_range(2..=4)).map(|p| (p, 0, Next::Ask)).collect();
    let mut entries = Vec::new();
    for millis in 0..chance.random_range(4..14) {
        let chosen = chance.random_range(0..processes.len());
        let (process, sequence, next) = &mut processes[chosen];
        let op = Op { process: *process, sequence: *sequence };
        let (what, then) = match *next {
            Next::Ask => (asked(op), Next::Hear(op, LockRet::Refused)),
            Next::Hear(op, _) if chance.random_bool(0.8) => {
                (granted(op, tokens.next().expect("there are enough"), 1000), Next::Release(op))
            }
            Next::Release(op) => (releasing(op), Next::HearReleased(op)),
            Next::HearReleased(op) => (released(op), Next::Ask),
            _ => (What::Refused { op }, Next::Ask),
        };
        *sequence += u64::from(matches!(then, Next::Ask));
        *next = then;
        entries.push(at(millis, what));
    }
    entries
}

/// Inserts one error that the checker has to find, if `entries` are long enough for it.
fn mutate(entries: &mut Vec<Entry>, chance: &mut StdRng) -> bool {
    let grants: Vec<usize> = (0..entries.len()).filter(|position| token(&entries[*position]).is_some()).collect();
    let &[.., earlier, later] = &grants[..] else { return false };
    let (Some(first), Some(second)) = (token(&entries[earlier]), token(&entries[later])) else { return false };
    match chance.random_range(0..3) {
        0 => {
            set_token(&mut entries[earlier], second);
            set_token(&mut entries[later], first);
        }
        1 => set_token(&mut entries[later], first),
        _ => {
            // Moves the later grant before the release, to just after the earlier grant if it was requested by then.
            let op = entries[later].what.op();
            let asked = entries.iter().position(|entry| entry.what.op() == op).expect("it was asked for");
            let gives_back = releasing(entries[earlier].what.op().expect("a grant has an attempt"));
            let back = entries.iter().position(|entry| entry.what == gives_back).expect("the later one was granted");
            if asked > back {
                return false;
            }
            let moved = entries.remove(later);
            entries.insert(back, moved);
            for (entry, millis) in entries.iter_mut().zip(0..) {
                entry.at = crate::ms(millis);
            }
        }
    }
    true
}

#[test]
fn history_is_right_exactly_if_linearizable() {
    let mut verdicts: HashMap<bool, u64> = HashMap::new();
    for seed in 0..HISTORIES {
        let entries = any_history(&mut StdRng::seed_from_u64(seed));
        let is_right = is_right(&entries);
        assert_eq!(is_right, is_linearizable(&entries, true), "seed {seed}: {entries:#?}");
        if !is_right {
            assert!(!is_linearizable(&entries, false), "seed {seed}: {entries:#?}");
        }
        *verdicts.entry(is_right).or_default() += 1;
    }
    assert!(verdicts.values().all(|count| *count > HISTORIES / 10) && verdicts.len() == 2, "{verdicts:?}");
}

#[test]
fn right_history_is_linearizable_until_mutated() {
    let mut mutated = 0;
    for seed in 0..HISTORIES {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut entries = right_history(&mut chance);
        assert!(is_right(&entries) && is_linearizable(&entries, false), "seed {seed}: {entries:#?}");
        if mutate(&mut entries, &mut chance) {
            mutated += 1;
            assert!(!is_right(&entries), "seed {seed}: {entries:#?}");
            assert!(!is_linearizable(&entries, false), "seed {seed}: {entries:#?}");
        }
    }
    assert!(mutated > HISTORIES / 10, "only {mutated} histories could be mutated");
}
