//! Checks that a holder learns by its deadline that its lock is lost.

use std::time::Duration;

use super::found::Found;
use crate::history::breach::Breach;
use crate::history::timeline::Timeline;

pub(super) fn check(timeline: &Timeline, allowed: Duration) -> Found {
    let mut found = Found::default();
    for asking in &timeline.askings {
        let Some((at, mut due)) = asking.end_of_belief() else { continue };
        if let Some(freeze) = timeline.fates.last_freeze(asking.op.process, at) {
            // A frozen process cannot receive the signal before it is woken.
            due = due.max(freeze.to);
        }
        if let Some(ran) = timeline.fates.ran_again(asking.op.process, due, at) {
            due = due.max(ran);
        }
        let late = at.saturating_sub(due);
        if late > allowed {
            let (resource, op) = (asking.resource.clone(), asking.op);
            found.add(at, || Breach::LateSignal { resource, op, late, allowed });
        }
    }
    found
}
