//! A program and its lock: neither outlives the other.

use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::Signal;
use rlock::LossReason;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::args::{OnLost, RunArgs};
use crate::report::{self, event, report};
use crate::run::grace::Grace;
use crate::run::held::{Held, millis};
use crate::run::program::{Change, Program};
use crate::run::signals::{self, Signals};
use crate::run::terminal::{Terminal, stop_the_job};

/// A running program, its lock, and what may happen to either.
pub(super) struct Supervision<'a> {
    held: &'a Held,
    args: &'a RunArgs,
    grace: Grace,
    program: Program,
    terminal: Option<Terminal>,
    signals: &'a mut Signals,
    /// Since `rlock` got this signal, the program is to stop, and `rlock` after it.
    is_to_stop: Option<Signal>,
    is_stopped: bool,
    /// It gets the terminal when it goes on.
    is_for_terminal: bool,
    is_asked_to_end: bool,
    /// When the program goes on if `rlock` could not be stopped.
    resume_at: Option<Instant>,
    end: Option<End>,
    /// When the program is killed that was sent a signal to end by whoever sent it to `rlock`.
    force_at: Option<Instant>,
    /// The lock is lost or about to be, and the program goes on.
    is_ignored: bool,
}

/// The end that a program is being brought to.
#[derive(Debug, Clone, Copy)]
struct End {
    kill_at: Instant,
    is_killed: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    /// The program ended, and the lock was held all the time.
    Ended {
        status: ExitStatus,
        /// `rlock` was to end, too.
        is_asked_to: bool,
    },
    /// The lock was lost or about to be, and the program has ended.
    LockLost(ExitStatus),
}

impl<'a> Supervision<'a> {
    /// A process that has been told to stop does so within this time, if it does at all.
    const STOPS_WITHIN: Duration = Duration::from_millis(100);
    const GROUP_POLL: Duration = Duration::from_millis(5);
    /// Killed processes whose parents do not reap them may stay for ever.
    const GROUP_PATIENCE: Duration = Duration::from_secs(1);
    const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

    pub(super) fn new(
        held: &'a Held,
        args: &'a RunArgs,
        program: Program,
        terminal: Option<Terminal>,
        signals: &'a mut Signals,
    ) -> Self {
        Self {
            held,
            args,
            grace: Grace::of(args.ttl),
            program,
            terminal,
            signals,
            is_to_stop: None,
            is_stopped: false,
            is_for_terminal: false,
            is_asked_to_end: false,
            resume_at: None,
            end: None,
            force_at: None,
            is_ignored: false,
        }
    }

    /// Returns once the program has been reaped; on the loss of the lock, once its whole group has gone.
    pub(super) async fn until_the_end(mut self) -> Outcome {
        let status = self.status().await;
        if status.signal().is_some() {
            self.terminal.iter_mut().for_each(Terminal::put_right);
        }
        if self.end.is_none() && self.args.on_lost != OnLost::Ignore && self.held.loss().is_some() {
            self.on_loss();
        }
        let Some(end) = self.end else {
            return Outcome::Ended { status, is_asked_to: self.is_asked_to_end };
        };
        self.clear_group(end).await;
        Outcome::LockLost(status)
    }

    async fn status(&mut self) -> ExitStatus {
        let mut lost = pin!(self.held.lost());
        let mut is_lost = false;
        loop {
            let next_check = self.next_check();
            tokio::select! {
                biased;
                () = &mut lost, if !is_lost => {
                    is_lost = true;
                    self.on_loss();
                }
                signal = self.signals.next() => match signal {
                    Signal::SIGCHLD => {
                        if let Some(status) = self.on_changes() {
                            return status;
                        }
                    }
                    Signal::SIGCONT => self.resume().await,
                    // Somebody of the job wants the terminal; SIGTTIN would do nothing to a program that has it.
                    Signal::SIGTSTP | Signal::SIGTTIN => {
                        self.is_to_stop = Some(signal);
                        self.program.signal(Signal::SIGTSTP);
                    }
                    signal => self.pass_on(signal),
                },
                () = sleep_until(next_check) => self.on_time().await,
            }
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        self.program.signal(signal);
        if !signals::asks_to_end(signal) {
            return;
        }
        self.is_asked_to_end |= matches!(signal, Signal::SIGTERM | Signal::SIGINT);
        if let Some(patience) = self.args.kill_after {
            self.force_at.get_or_insert(Instant::now() + patience);
        }
        if std::mem::take(&mut self.is_stopped) {
            self.program.signal(Signal::SIGCONT); // or else it would not notice
        }
    }

    fn next_check(&self) -> Instant {
        let now = Instant::now();
        let check = match self.end {
            Some(End { is_killed: true, .. }) => now + Self::NEVER,
            Some(End { kill_at, .. }) => kill_at,
            None if self.is_ignored => self.resume_at.unwrap_or(now + Self::NEVER),
            None => {
                let worry_at = now + self.held.remaining().saturating_sub(self.grace.term).min(Self::NEVER);
                self.resume_at.map_or(worry_at, |resume_at| resume_at.min(worry_at))
            }
        };
        self.force_at.map_or(check, |force_at| force_at.min(check))
    }

    async fn on_time(&mut self) {
        let now = Instant::now();
        if self.force_at.is_some_and(|force_at| now >= force_at) {
            self.force_at = None;
            event!("killed"; "killed the program, which did not end when it was asked to");
            self.program.signal(Signal::SIGKILL);
        }
        match self.end {
            Some(end) if now >= end.kill_at => self.kill(),
            Some(_) => {}
            None if self.resume_at.is_some_and(|resume_at| now >= resume_at) => self.resume().await,
            None if !self.is_ignored && self.held.remaining() <= self.grace.term => self.on_danger(),
            None => {}
        }
    }

    fn on_danger(&mut self) {
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

    fn on_loss(&mut self) {
        let Some((name, reason)) = self.held.loss() else { return };
        event!("lost", name: name.as_str(), reason: reason.as_str(); "lost {name}: {reason}; {}", self.args.on_lost.says());
        match (self.args.on_lost, reason) {
            (OnLost::Ignore, _) => self.is_ignored = true,
            // From now on somebody else may hold it.
            (OnLost::Kill, _) | (OnLost::Term, LossReason::Expired) => self.kill(),
            (OnLost::Term, _) => self.ask_to_end(Instant::now() + self.grace.after_loss()),
        }
    }

    /// When the program has to be killed to be dead before the lease is.
    fn last_moment(&self) -> Instant {
        let now = Instant::now();
        now + self.held.remaining().saturating_sub(self.grace.kill)
    }

    fn ask_to_end(&mut self, kill_at: Instant) {
        if let Some(end) = &mut self.end {
            end.kill_at = end.kill_at.min(kill_at);
            return;
        }
        self.end = Some(End { kill_at, is_killed: false });
        self.program.signal(Signal::SIGTERM);
        // One that is stopped would not notice.
        self.program.signal(Signal::SIGCONT);
    }

    fn kill(&mut self) {
        if self.end.is_some_and(|end| end.is_killed) {
            return;
        }
        self.end = Some(End { kill_at: Instant::now(), is_killed: true });
        self.program.signal(Signal::SIGKILL);
        event!("killed"; "killed the program");
    }

    /// The program's status once it has been reaped.
    fn on_changes(&mut self) -> Option<ExitStatus> {
        while let Some(change) = self.program.change() {
            match change {
                Change::Ended(status) => return Some(status),
                Change::Stopped(signal) => self.on_stop(signal),
            }
        }
        None
    }

    fn on_stop(&mut self, signal: i32) {
        if self.end.is_some() {
            return;
        }
        self.is_stopped = true;
        let wants_terminal = matches!(signal, libc::SIGTTIN | libc::SIGTTOU);
        if wants_terminal && let Some(terminal) = self.terminal.as_mut().filter(|terminal| terminal.is_ours()) {
            terminal.give(self.program.group());
            self.is_stopped = false;
            return self.program.signal(Signal::SIGCONT);
        }
        let was_foreground = self.terminal.as_ref().is_some_and(Terminal::is_given);
        let is_to_stop = self.is_to_stop.take();
        let with_the_job = was_foreground || is_to_stop.is_some();
        let with_the_terminal = wants_terminal && self.terminal.is_some();
        if !with_the_job && !with_the_terminal {
            event!("stopped"; "the program was stopped by signal {signal}; {} stays held", self.held.names());
            return;
        }
        if with_the_job {
            // Without a shell that could continue it, this process does not stop.
            self.resume_at = Some(Instant::now() + Self::STOPS_WITHIN);
        }
        event!("stopped"; "stopped; {} is lost unless this goes on within {:.1?}", self.held.names(), self.held.remaining());
        self.is_for_terminal = wants_terminal || was_foreground && is_to_stop != Some(Signal::SIGTTIN);
        report::flush();
        if let Some(terminal) = &mut self.terminal {
            terminal.take_back();
        }
        stop_the_job();
    }

    async fn resume(&mut self) {
        self.resume_at = None;
        let is_ignored = self.args.on_lost == OnLost::Ignore;
        if self.end.is_some() || self.held.loss().is_some() && !is_ignored {
            return;
        }
        if is_ignored || self.held.remaining() > self.grace.term || self.is_extended_in_time().await {
            self.go_on();
        } else {
            self.on_danger();
            self.kill();
        }
    }

    async fn is_extended_in_time(&self) -> bool {
        let time = self.last_moment().saturating_duration_since(Instant::now());
        matches!(timeout(time, self.held.extend(self.args.ttl.get())).await, Ok(Ok(_)))
    }

    fn go_on(&mut self) {
        event!("continued"; "continued");
        if self.is_for_terminal
            && let Some(terminal) = &mut self.terminal
        {
            terminal.give(self.program.group());
        }
        self.is_stopped = false;
        self.program.signal(Signal::SIGCONT);
    }

    /// Waits until nobody is left of the group of a program that has been reaped, and kills who stays too long.
    async fn clear_group(&mut self, end: End) {
        let hopeless_at = end.kill_at + Self::GROUP_PATIENCE;
        while !self.program.group_is_gone() {
            let now = Instant::now();
            if now >= end.kill_at {
                self.kill();
            }
            if now >= hopeless_at {
                report!("processes of the program are still there, though they were killed");
                return;
            }
            sleep(Self::GROUP_POLL).await;
        }
    }
}
