//! The end of a program whose lock is lost or about to be, or whose time is up.

use rlock::{Clock, LossReason, Lost};
use tokio::time::Instant;

use super::Supervision;
use crate::args::OnLost;
use crate::keep::Survivors;
use crate::report::event;
use crate::run::held::millis;

/// The end that a program is being brought to.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) kill_at: Instant,
    pub(super) is_killed: bool,
    /// The program had ended by itself before. Only the rest of its tree is ended.
    pub(super) is_after: bool,
}

impl Supervision<'_> {
    /// The keeper got no later time from `rlock`.
    pub(super) fn on_late(&mut self) {
        if !self.end.is_some_and(|end| end.is_killed) {
            self.end = Some(self.end_by(Instant::now(), true));
            self.kill_report = Some("killed the program: rlock was stopped, and the lock was about to end");
        }
    }

    /// The keeper was killed, or did not answer. Its death costs the program, but not the lock.
    pub(super) fn on_death_of_keeper(&mut self) {
        let is_time_up = self.end.is_none() && self.grace.for_keeper(self.held.deadline()) <= Clock::boot().now();
        if is_time_up && self.args.on_lost != OnLost::Ignore {
            self.on_late(); // the system killed a keeper that did not kill in time
        } else if !self.is_forced && !self.end.is_some_and(|end| end.is_killed) {
            self.is_unkept = self.status.is_none();
            self.kill_report = Some(if self.is_unkept {
                "killed the program: the keeper was killed"
            } else {
                "killed what the program has left running: the keeper was killed"
            });
        }
    }

    pub(super) fn on_overdue(&mut self, now: Instant) {
        self.overdue_at = None;
        self.is_overdue = true;
        let names = self.held.list();
        event!("overdue", names: names; "the program has held {} for the time of --max-hold; ending the program", self.held.names());
        self.force_at.get_or_insert(now + self.args.kill_after.unwrap_or(self.grace.term));
        self.keeper.ask_to_end();
    }

    pub(super) fn on_danger(&mut self) {
        let kill_at = self.last_moment();
        let failure = self.held.last_failure();
        let why = failure.map_or_else(|| "it could not be extended".into(), |failure| failure.to_string());
        let (names, left, then) = (self.held.names(), self.held.remaining(), self.args.on_lost.says());
        let (list, remaining_ms) = (self.held.list(), millis(left));
        event!("losing", names: list, remaining_ms: remaining_ms; "losing {names} in {left:.1?}: {why}; {then}");
        match self.args.on_lost {
            OnLost::Term => self.ask_to_end(kill_at),
            OnLost::Kill => self.kill(),
            OnLost::Ignore => self.is_ignored = true,
        }
    }

    pub(super) fn on_loss(&mut self) {
        let Some(Lost { resource: name, reason }) = self.held.loss() else { return };
        event!("lost", name: name.as_str(), reason: reason.as_str(); "lost {name}: {reason}; {}", self.args.on_lost.says());
        match (self.args.on_lost, reason) {
            (OnLost::Ignore, _) => self.is_ignored = true,
            // From now on another client may hold the lock.
            (OnLost::Kill, _) | (OnLost::Term, LossReason::Expired) => self.kill(),
            (OnLost::Term, _) => self.ask_to_end(Instant::now() + self.grace.after_loss()),
        }
    }

    /// The last moment for killing the program so that it is dead before the lease ends.
    pub(super) fn last_moment(&self) -> Instant {
        let now = Instant::now();
        now + self.held.remaining().saturating_sub(self.grace.kill)
    }

    fn ask_to_end(&mut self, kill_at: Instant) {
        if let Some(end) = &mut self.end {
            end.kill_at = end.kill_at.min(kill_at);
            return;
        }
        self.end = Some(self.end_by(kill_at, false));
        self.keeper.ask_to_end();
    }

    pub(super) fn kill(&mut self) {
        if self.end.is_some_and(|end| end.is_killed) {
            return;
        }
        self.end = Some(self.end_by(Instant::now(), true));
        self.keeper.kill(self.grace.patience());
        self.kill_report = Some("killed the program");
    }

    /// The tree was killed, except the `refused` processes, which belong to another user.
    pub(super) fn on_killing(&mut self, refused: &Survivors) {
        let report = self.kill_report.take();
        if refused.is_empty() {
            if let Some(report) = report {
                event!("killed"; "{report}");
            }
        } else if !std::mem::replace(&mut self.is_refused, true) {
            let (pids, more) = (refused.pids(), refused.more());
            event!("not_killed", processes: pids, more: more; "processes of another user cannot be killed and run on: {refused}");
        }
    }

    fn end_by(&self, kill_at: Instant, is_killed: bool) -> End {
        let is_after = self.end.map_or(self.status.is_some(), |end| end.is_after);
        End { kill_at, is_killed, is_after }
    }
}
