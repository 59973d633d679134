//! The end of the keeper at a set time, also while it is stopped.

use std::io;
use std::time::Duration;

#[cfg(target_os = "linux")]
use {
    nix::sys::signal::{SigEvent, SigevNotify, Signal},
    nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags},
    nix::time::ClockId,
};

/// A timer by which the system kills this process, also while it is stopped.
#[derive(Debug)]
pub(super) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: Timer,
}

#[cfg(target_os = "linux")]
impl Alarm {
    /// Children of this process do not inherit the timer.
    pub(super) fn new() -> io::Result<Self> {
        let kill = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 });
        Ok(Self { timer: Timer::new(ClockId::CLOCK_BOOTTIME, kill)? })
    }

    /// Kills this process after `time`, unless it is set again before. Time in which the machine is suspended counts.
    pub(super) fn set(&mut self, time: Duration) {
        const SHORTEST: Duration = Duration::from_nanos(1); // zero would switch the timer off
        let once = Expiration::OneShot(time.max(SHORTEST).into());
        let _cannot_fail = self.timer.set(once, TimerSetTimeFlags::empty());
    }
}

#[cfg(not(target_os = "linux"))]
impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn set(&mut self, _time: Duration) {}
}
