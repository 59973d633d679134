//! The signals that `rlock` gets.

use std::io;
use std::task::Poll;

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{self, SignalKind};

use crate::sys;

/// Signals, one after another. Those that were ignored when `rlock` was started stay ignored, for the program too.
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// What ends the waiting for a lock, or is passed on to the program.
    const FROM_THE_START: [Signal; 8] = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
        Signal::SIGCONT,
    ];

    /// Signals from now on, also those that `rlock` inherited as blocked.
    pub(crate) fn listen() -> io::Result<Self> {
        let of_a_program = [Signal::SIGTSTP, Signal::SIGTTIN];
        SigSet::from_iter(Self::FROM_THE_START.into_iter().chain(of_a_program)).thread_unblock()?;
        let mut signals = Self(Vec::new());
        for signal in Self::FROM_THE_START {
            signals.also(signal)?;
        }
        Ok(signals)
    }

    /// Listens to what concerns a program as well: that it has to be stopped.
    pub(super) fn expect_program(&mut self) -> io::Result<()> {
        self.also(Signal::SIGTSTP)?;
        self.also(Signal::SIGTTIN)
    }

    fn also(&mut self, signal: Signal) -> io::Result<()> {
        if !sys::is_ignored(signal) {
            self.0.push((signal, unix::signal(SignalKind::from_raw(signal as i32))?));
        }
        Ok(())
    }

    /// The next signal. Several of one kind may arrive as one.
    ///
    /// # Cancel safety
    ///
    /// No signal is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (signal, stream) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The next signal that asks `rlock` to end.
    pub(crate) async fn next_to_end(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if asks_to_end(signal) {
                return signal;
            }
        }
    }
}

pub(super) fn asks_to_end(signal: Signal) -> bool {
    matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT)
}
