//! Checks that a holder learns by its deadline that its lock is lost.

use std::time::Duration;

use super::found::Found;
use crate::history::breach::Breach;
use crate::history::timeline::Timeline;

/// The signals of losses.
#[derive(Default)]
pub(super) struct Signals {
    /// The signals that came too late.
    pub(super) late: Found,
    /// The number of losses at or after their deadline whose signal no freeze and no starvation excuses.
    pub(super) judged: u64,
    /// The longest time from a deadline to the signal.
    pub(super) worst: Duration,
}

pub(super) fn check(timeline: &Timeline, allowed: Duration) -> Signals {
    let mut signals = Signals::default();
    for asking in &timeline.askings {
        let Some((at, deadline)) = asking.end_of_belief() else { continue };
        let mut due = deadline;
        if let Some(freeze) = timeline.fates.last_freeze(asking.op.process, at) {
            // A frozen process cannot receive the signal before it is woken.
            due = due.max(freeze.to);
        }
        if let Some(ran) = timeline.fates.ran_again(asking.op.process, due, at) {
            due = due.max(ran);
        }
        let late = at.saturating_sub(due);
        signals.worst = signals.worst.max(late);
        signals.judged += u64::from(asking.loss.is_some() && due == deadline && at >= deadline);
        if late > allowed {
            let (resource, op) = (asking.resource.clone(), asking.op);
            signals.late.add(at, || Breach::LateSignal { resource, op, late, allowed });
        }
    }
    signals
}
