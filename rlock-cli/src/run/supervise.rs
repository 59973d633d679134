//! A program and its lock: neither outlives the other.

mod end;
mod job_control;
mod word;

use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rlock::Lost;
use tokio::time::{Instant, sleep_until};

use crate::args::{OnLost, RunArgs, WaitFor};
use crate::keep::{News, Survivors};
use crate::ready::ready;
use crate::report::{event, fact};
use crate::run::grace::Grace;
use crate::run::held::Held;
use crate::run::keeper::Keeper;
use crate::run::signals::{self, Signals};
use crate::run::terminal::Terminal;

use end::End;
use word::Word;

/// A running program and its lock, with all events that concern either.
pub(super) struct Supervision<'a> {
    held: &'a Held,
    args: &'a RunArgs,
    grace: Grace,
    keeper: &'a mut Keeper,
    /// The program's process id, which is that of its group as well.
    program: Pid,
    status: Option<ExitStatus>,
    is_gone: bool,
    /// The descendants that have outlived the program, and the time at which `rlock` reports those that still run.
    left: Option<(Survivors, Instant)>,
    word: Word,
    terminal: Option<Terminal>,
    signals: &'a mut Signals,
    /// The signal by which the program, and then `rlock`, is to stop.
    is_to_stop: Option<Signal>,
    is_stopped: bool,
    /// The program gets the terminal when it is continued.
    is_for_terminal: bool,
    asked_to_end: Option<Signal>,
    /// The time at which the program is continued if `rlock` could not be stopped.
    resume_at: Option<Instant>,
    end: Option<End>,
    /// The time at which a program that was asked to end is killed.
    force_at: Option<Instant>,
    is_forced: bool,
    /// The end of the time of `--max-hold`.
    overdue_at: Option<Instant>,
    is_overdue: bool,
    /// The keeper was killed, and the program with it.
    is_unkept: bool,
    /// The report of a kill, due once the tree was killed.
    kill_report: Option<&'static str>,
    /// Whether `rlock` has reported that it cannot kill some of the tree.
    is_refused: bool,
    /// The lock is lost or about to be, and the program runs on (`--on-lost ignore`).
    is_ignored: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    /// The program ended, and the lock was held all the time.
    Ended {
        status: ExitStatus,
        /// `rlock` got TERM or INT.
        is_asked_to: bool,
    },
    /// The lock was lost or about to be, and the program was ended.
    LockLost {
        status: ExitStatus,
        /// The program had ended by itself before.
        by_itself: bool,
        /// The signal that asked `rlock` to end.
        asked_to_end: Option<Signal>,
    },
    /// The program was ended because it held the lock for too long.
    HeldTooLong(ExitStatus),
    /// The keeper was killed, and the program with it.
    KeeperDied,
}

impl<'a> Supervision<'a> {
    /// `rlock` stops with its job within this time. If it still runs then, no shell could continue it, and the program
    /// goes on.
    const STOPS_WITHIN: Duration = Duration::from_millis(100);
    /// Descendants are reported after this time: the rest of a pipeline takes a moment to end.
    const LEFT_UNREMARKED: Duration = Duration::from_millis(250);
    const NEVER: Duration = Duration::from_secs(24 * 60 * 60);
    /// The maximum number of news, and of signals, that are handled before a loss or a timer: a program that stops again
    /// and again delays neither.
    const AT_ONCE: usize = 8;

    pub(super) fn new(
        held: &'a Held,
        args: &'a RunArgs,
        (keeper, program): (&'a mut Keeper, Pid),
        terminal: Option<Terminal>,
        signals: &'a mut Signals,
    ) -> Self {
        let now = Instant::now();
        Self {
            held,
            args,
            grace: Grace::of(args.lock.ttl),
            keeper,
            program,
            status: None,
            is_gone: false,
            left: None,
            word: Word::new(now),
            terminal,
            signals,
            is_to_stop: None,
            is_stopped: false,
            is_for_terminal: false,
            asked_to_end: None,
            resume_at: None,
            end: None,
            force_at: None,
            is_forced: false,
            overdue_at: args.max_hold.map(|time| now + time),
            is_overdue: false,
            is_unkept: false,
            kill_report: None,
            is_refused: false,
            is_ignored: false,
        }
    }

    /// Returns once the program's tree has ended, or only the program with `--wait-for program`.
    pub(super) async fn until_the_end(mut self) -> Outcome {
        let mut lost = pin!(self.held.lost());
        let mut is_lost = false;
        let status = loop {
            if let Some(status) = self.status.filter(|_| self.is_over()) {
                break status;
            }
            let next_check = self.next_check();
            tokio::select! {
                biased;
                _ = &mut lost, if !is_lost => {
                    is_lost = true;
                    self.hear_news().await;
                    if self.end.is_some() || !self.is_over() {
                        self.on_loss();
                    }
                }
                news = self.keeper.news() => self.on_news(news),
                signal = self.signals.next() => self.on_signal(signal).await,
                () = sleep_until(next_check) => self.on_time().await,
            }
        };
        let is_of_interest = self.end.is_none() && self.args.on_lost != OnLost::Ignore;
        if let Some(Lost { resource: name, reason }) = self.held.loss().filter(|_| is_of_interest) {
            event!("lost", name: name.as_str(), reason: reason.as_str(); "lost {name}: {reason}; the program had ended");
            let by_itself = !self.is_unkept && !self.is_overdue;
            return Outcome::LockLost { status, by_itself, asked_to_end: self.asked_to_end };
        }
        match self.end {
            None if self.is_unkept => Outcome::KeeperDied,
            None if self.is_overdue => Outcome::HeldTooLong(status),
            None => Outcome::Ended { status, is_asked_to: self.is_asked_to_end() },
            Some(End { is_after: by_itself, .. }) => {
                Outcome::LockLost { status, by_itself, asked_to_end: self.asked_to_end }
            }
        }
    }

    /// Whether nothing is left that needs the lock.
    fn is_over(&self) -> bool {
        let is_left_alone = self.args.wait_for == WaitFor::Program && self.end.is_none() && !self.is_unkept;
        self.status.is_some() && (self.is_gone || is_left_alone)
    }

    /// Handles the news that came before a loss or a timer: the program may have ended by itself. News that comes
    /// after the end of the run does not count.
    async fn hear_news(&mut self) {
        for _ in 0..Self::AT_ONCE {
            if self.is_over() {
                return;
            }
            let Some(news) = ready(self.keeper.news()).await else { return };
            self.on_news(news);
        }
    }

    /// Handles the signals that came before a timer: after SIGCONT the lock may still be extended.
    async fn hear_signals(&mut self) {
        for _ in 0..Self::AT_ONCE {
            if self.is_over() {
                return;
            }
            let Some(signal) = ready(self.signals.next()).await else { return };
            self.on_signal(signal).await;
        }
    }

    fn is_asked_to_end(&self) -> bool {
        matches!(self.asked_to_end, Some(Signal::SIGTERM | Signal::SIGINT))
    }

    fn on_news(&mut self, news: News) {
        match news {
            News::Stopped(signal) => self.on_stop(signal),
            News::Ended(status) => self.on_ended(ExitStatus::from_raw(status)),
            News::Left(processes) => self.left = Some((processes, Instant::now() + Self::LEFT_UNREMARKED)),
            News::Killing(refused) => self.on_killing(&refused),
            News::Late => self.on_late(),
            News::KeeperDied => self.on_death_of_keeper(),
            News::Gone => self.is_gone = true,
            News::Ready { .. } | News::NoNamespace(_) | News::Started(_) | News::NotStarted(_) | News::TooLate => {}
        }
    }

    fn on_ended(&mut self, status: ExitStatus) {
        self.status = Some(status);
        fact!("ended", status: status.code(), signal: status.signal(); "the program {}", described(status));
        if let Some(terminal) = &mut self.terminal {
            // The next Ctrl-C is for the descendants that still run.
            if status.signal().is_some() { terminal.put_right() } else { terminal.take_back() }
        }
        if self.asked_to_end.is_some() && self.args.wait_for == WaitFor::Tree {
            self.keeper.ask_to_end();
        }
    }

    fn on_left(&mut self) {
        let Some((processes, _)) = self.left.take() else { return };
        let processes = processes.renamed();
        if processes.is_empty() {
            return; // those that run now were forked since
        }
        let (names, list) = (self.held.names(), self.held.list());
        let (pids, more) = (processes.pids(), processes.more());
        event!("left", names: list, processes: pids, more: more; "the program has ended, and {names} stays held for what it has left running: {processes}");
    }

    async fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::SIGCONT => self.resume().await,
            // A process of the job wants the terminal. SIGTTIN has no effect on a program that has the terminal.
            Signal::SIGTSTP | Signal::SIGTTIN => {
                self.is_to_stop = Some(signal);
                self.keeper.signal(Signal::SIGTSTP);
            }
            signal => self.pass_on(signal),
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        if !signals::asks_to_end(signal) {
            return self.keeper.signal(signal);
        }
        match self.status {
            None => self.keeper.signal(signal),
            // Background processes of a shell ignore INT and QUIT.
            Some(_) => self.keeper.signal_tree(Signal::SIGTERM),
        }
        self.asked_to_end.get_or_insert(signal);
        if let Some(patience) = self.args.kill_after {
            self.force_at.get_or_insert(Instant::now() + patience);
        }
        if std::mem::take(&mut self.is_stopped) {
            self.keeper.signal(Signal::SIGCONT); // a stopped program would not see the signal
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
        let left_at = self.left.as_ref().map(|(_, at)| *at);
        [self.force_at, self.overdue_at, self.word_at(), left_at].into_iter().flatten().fold(check, Instant::min)
    }

    async fn on_time(&mut self) {
        self.hear_news().await;
        if self.is_over() {
            return;
        }
        self.hear_signals().await;
        if self.is_over() {
            return; // the program ended while rlock extended the lock after SIGCONT
        }
        let now = Instant::now();
        if self.force_at.is_some_and(|force_at| now >= force_at) {
            self.force_at = None;
            self.is_forced = true;
            self.kill_report = Some("killed the program, which did not end when it was asked to");
            self.keeper.kill(self.grace.patience());
        }
        if self.overdue_at.is_some_and(|overdue_at| now >= overdue_at) {
            self.on_overdue(now);
        }
        if self.left.as_ref().is_some_and(|(_, at)| now >= *at) {
            self.on_left();
        }
        if self.word_at().is_some_and(|at| now >= at) {
            self.renew_word(now);
        }
        match self.end {
            Some(end) if now >= end.kill_at => self.kill(),
            Some(_) => {}
            None if self.resume_at.is_some_and(|resume_at| now >= resume_at) => self.resume().await,
            None if !self.is_ignored && self.held.remaining() <= self.grace.term => self.on_danger(),
            None => {}
        }
    }
}

/// A status for people: `was ended by SIGTERM`.
pub(super) fn described(status: ExitStatus) -> String {
    let signal = status
        .signal()
        .map(|signal| Signal::try_from(signal).map_or(format!("signal {signal}"), |signal| signal.to_string()));
    match (status.code(), signal) {
        (_, Some(signal)) => format!("was ended by {signal}"),
        (code, None) => format!("ended with status {}", code.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
