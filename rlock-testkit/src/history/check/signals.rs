//! Checks that a holder learns by its deadline that its lock is lost.

use std::time::Duration;

use super::Found;
use crate::history::History;
use crate::history::violation::Breach;

pub(super) fn check(history: &History, allowed: Duration) -> Found {
    let mut found = Found::default();
    for asking in &history.askings {
        let Some((at, mut due)) = asking.end_of_belief() else { continue };
        if let Some(freeze) = history.fates.last_freeze(asking.op.process, at) {
            // A frozen process cannot receive the signal before it is woken.
            due = due.max(freeze.to);
        }
        if let Some(ran) = history.fates.ran_again(asking.op.process, due, at) {
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
