//! The signals that `rlock` receives.

use std::io;
use std::task::Poll;

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{self, SignalKind};

use crate::sys;

/// Receives signals, one after another. A signal that was ignored when `rlock` was started stays ignored, also for the
/// program.
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// The signals that end the wait for a lock, or that `rlock` forwards to the program.
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

    /// Listens from now on, also to signals that `rlock` inherited as blocked.
    pub(crate) fn listen() -> io::Result<Self> {
        let of_a_program = [Signal::SIGTSTP, Signal::SIGTTIN];
        let mut signals = Self(Vec::new());
        for signal in Self::FROM_THE_START {
            signals.also(signal)?;
        }
        SigSet::from_iter(Self::FROM_THE_START.into_iter().chain(of_a_program)).thread_unblock()?;
        Ok(signals)
    }

    /// Keeps signals for the process that takes the place of this one.
    pub(crate) fn keep() -> io::Result<()> {
        Ok(SigSet::from_iter(Self::FROM_THE_START).thread_block()?)
    }

    /// Listens to the signals that stop a job as well.
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
