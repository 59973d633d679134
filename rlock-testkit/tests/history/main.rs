//! The checker of histories rejects each wrong history for the right reason, and accepts each right one.

mod linearizability;
mod random;
mod recording;
mod right;
mod simulation;
mod wrong;

use std::time::Duration;

use rlock_core::{LossReason, ResourceName, Share};
use rlock_testkit::history::{Entry, History, Op, Verdict, Violation, What};
use rlock_testkit::peer::resource;

/// How late a signal may be in these tests.
const ALLOWED: Duration = Duration::from_millis(50);

/// Three attempts, each in its own process.
const A: Op = Op { process: 1, sequence: 0 };
const B: Op = Op { process: 2, sequence: 0 };
const C: Op = Op { process: 3, sequence: 0 };

fn check(entries: impl IntoIterator<Item = Entry>) -> Verdict {
    History::new(entries).expect("a consistent history").check(ALLOWED)
}

fn violation(entries: impl IntoIterator<Item = Entry>) -> Violation {
    check(entries).into_result().expect_err("the history is wrong")
}

fn job() -> ResourceName {
    resource("job")
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64, what: What) -> Entry {
    Entry { at: ms(millis), what }
}

fn asked(op: Op) -> What {
    asked_for(op, 1, 1)
}

fn asked_for(op: Op, weight: u32, capacity: u32) -> What {
    What::Asked { op, resource: job(), share: Share::new(weight, capacity).expect("a valid share") }
}

fn granted(op: Op, token: u64, until: u64) -> What {
    What::Granted { op, token, until: ms(until) }
}

fn believed(op: Op, until: u64) -> What {
    What::Believed { op, until: ms(until) }
}

fn lost(op: Op, reason: LossReason, until: u64) -> What {
    What::Lost { op, reason, until: Some(ms(until)) }
}

fn releasing(op: Op) -> What {
    What::Releasing { op }
}

fn released(op: Op) -> What {
    What::Released { op, known: true }
}

fn opened(op: Op, token: u64, value: u64) -> What {
    What::Opened { op, resource: job(), token, value }
}

fn wrote(op: Op, token: u64, base: u64, value: u64) -> What {
    What::Wrote { op, resource: job(), token, base, value }
}

fn token(entry: &Entry) -> Option<u64> {
    match entry.what {
        What::Granted { token, .. } => Some(token),
        _ => None,
    }
}

fn set_token(entry: &mut Entry, new: u64) {
    if let What::Granted { token, .. } = &mut entry.what {
        *token = new;
    }
}
