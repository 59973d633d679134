//! A holder is told in time that its lease has expired.

use std::time::Duration;

use rlock_core::LossReason;

use super::Found;
use crate::history::History;
use crate::history::violation::Breach;

pub(super) fn check(history: &History, allowed: Duration) -> Found {
    let mut found = Found::default();
    for asking in &history.askings {
        let Some(loss) = asking.loss.filter(|loss| loss.reason == LossReason::Expired) else { continue };
        let Some(mut due) = loss.until else { continue };
        if let Some(freeze) = history.fates.last_freeze(asking.op.process, loss.at) {
            // It cannot have been told before it went on.
            due = due.max(freeze.to);
        }
        if let Some(ran) = history.fates.ran_again(asking.op.process, due, loss.at) {
            due = due.max(ran);
        }
        let late = loss.at.saturating_sub(due);
        if late > allowed {
            let (resource, op) = (asking.resource.clone(), asking.op);
            found.add(loss.at, || Breach::LateSignal { resource, op, late, allowed });
        }
    }
    found
}
