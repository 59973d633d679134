//! Stopping and continuing as a job of a shell.

use nix::libc;
use nix::sys::signal::Signal;
use tokio::time::{Instant, timeout};

use super::Supervision;
use crate::args::OnLost;
use crate::report::{self, event};
use crate::run::terminal::{Terminal, stop_the_job};

impl Supervision<'_> {
    /// Whether the program is being ended, or is about to be, because its lock is lost.
    fn is_ending(&self) -> bool {
        self.end.is_some() || self.args.on_lost != OnLost::Ignore && self.held.loss().is_some()
    }

    pub(super) fn on_stop(&mut self, signal: i32) {
        if self.is_ending() {
            return; // a stopped rlock would not end the rest of the tree
        }
        self.is_stopped = true;
        let wants_terminal = matches!(signal, libc::SIGTTIN | libc::SIGTTOU);
        if wants_terminal && let Some(terminal) = self.terminal.as_mut().filter(|terminal| terminal.is_ours()) {
            terminal.give(self.program);
            self.is_stopped = false;
            return self.keeper.signal(Signal::SIGCONT);
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
        event!("stopped"; "stopped; {} is lost unless rlock is continued within {:.1?}", self.held.names(), self.held.remaining());
        self.is_for_terminal = wants_terminal || was_foreground && is_to_stop != Some(Signal::SIGTTIN);
        report::flush();
        if let Some(terminal) = &mut self.terminal {
            terminal.take_back();
        }
        stop_the_job();
    }

    pub(super) async fn resume(&mut self) {
        self.resume_at = None;
        self.hear_news().await; // the client's thread may read a signal before this one looks at the socket
        if self.is_over() || self.is_ending() {
            return;
        }
        if self.args.on_lost == OnLost::Ignore || self.held.remaining() > self.grace.term {
            return self.go_on();
        }
        let is_extended = self.is_extended_in_time().await;
        self.hear_news().await; // the program may have ended during the wait
        if self.is_over() || self.end.is_some() {
            return;
        }
        if is_extended {
            return self.go_on();
        }
        if self.held.loss().is_none() {
            self.on_danger();
        }
        self.kill();
    }

    async fn is_extended_in_time(&self) -> bool {
        let time = self.last_moment().saturating_duration_since(Instant::now());
        matches!(timeout(time, self.held.extend(self.args.lock.ttl.get())).await, Ok(Ok(_)))
    }

    fn go_on(&mut self) {
        if std::mem::take(&mut self.is_stopped) {
            event!("continued"; "continued");
        }
        if self.is_for_terminal
            && let Some(terminal) = &mut self.terminal
        {
            terminal.give(self.program);
        }
        self.keeper.signal(Signal::SIGCONT);
    }
}
