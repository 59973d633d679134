//! The clock for deadlines, and sleeping by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// An instant of a [`Clock`]. Do not compare instants of different clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The instant `duration` later, or the last one that can be represented.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// The instant `duration` earlier, or the first one that can be represented.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }

    /// The time from `earlier` to this instant, zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }
}

/// A clock that never goes back, and that continues while the machine is suspended.
///
/// `std::time::Instant` is not such a clock on Linux: it stops while the machine is suspended. A holder that used it
/// would believe in a lock that expired long ago.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
    /// In nanoseconds.
    ahead: u64,
}

#[derive(Debug, Clone)]
enum Source {
    Boot,
    Tokio(tokio::time::Instant),
    Manual(Arc<Manual>),
}

#[derive(Debug, Default)]
struct Manual {
    nanos: AtomicU64,
    moved: Notify,
}

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

impl Clock {
    /// The time since the machine booted: `CLOCK_BOOTTIME` on Linux and Android, `CLOCK_MONOTONIC` on macOS and iOS,
    /// and `std::time::Instant` elsewhere. The first two continue while the machine is suspended.
    pub fn boot() -> Self {
        Self { source: Source::Boot, ahead: 0 }
    }

    /// tokio's clock, which tests can pause. Only for a client on the caller's runtime.
    ///
    /// # Panics
    ///
    /// [`now`](Self::now) panics outside a tokio runtime once that runtime's time is paused.
    pub fn tokio() -> Self {
        Self { source: Source::Tokio(tokio::time::Instant::now()), ahead: SECOND }
    }

    /// A clock for tests that stands still until it is [advanced](Self::advance).
    pub fn manual() -> Self {
        Self { source: Source::Manual(Arc::default()), ahead: SECOND }
    }

    /// Moves a [manual](Self::manual) clock and its clones.
    ///
    /// # Panics
    ///
    /// Panics on any other clock.
    pub fn advance(&self, by: Duration) {
        let Source::Manual(manual) = &self.source else { panic!("only a manual clock can be moved") };
        manual.nanos.fetch_add(nanos(by), Ordering::SeqCst);
        manual.moved.notify_waiters();
    }

    /// The same clock, ahead by `offset`: for tests of decisions that must not depend on a client's clock.
    #[must_use]
    pub fn ahead_by(mut self, offset: Duration) -> Self {
        self.ahead = self.ahead.saturating_add(nanos(offset));
        self
    }

    /// The current instant.
    pub fn now(&self) -> Moment {
        let passed = match &self.source {
            Source::Boot => since_boot(),
            Source::Tokio(start) => nanos(start.elapsed()),
            Source::Manual(manual) => manual.nanos.load(Ordering::SeqCst),
        };
        Moment(passed.saturating_add(self.ahead))
    }

    /// Sleeps until this clock shows `until`. Time in which the machine was suspended counts.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the sleep and has no other effect.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime with I/O and time enabled, except on a manual clock.
    pub async fn sleep_until(&self, until: Moment) {
        loop {
            let moved = if let Source::Manual(manual) = &self.source { Some(manual.moved.notified()) } else { None };
            let left = until.since(self.now());
            if left.is_zero() {
                return;
            }
            match (&self.source, moved) {
                (_, Some(moved)) => moved.await,
                (Source::Tokio(_), None) => tokio::time::sleep(left).await,
                (Source::Boot | Source::Manual(_), None) => sleep_through_suspend(left).await,
            }
        }
    }
}

impl Default for Clock {
    /// [`boot`](Self::boot).
    fn default() -> Self {
        Self::boot()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds on a clock that continues while the machine is suspended.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn since_boot() -> u64 {
    whole_nanos(rustix::time::clock_gettime(rustix::time::ClockId::Boottime))
}

/// `Instant` reads a clock that stops in suspend on this platform. This clock continues.
#[cfg(target_vendor = "apple")]
fn since_boot() -> u64 {
    whole_nanos(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic))
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn whole_nanos(time: rustix::time::Timespec) -> u64 {
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or_default().saturating_mul(SECOND).saturating_add(nanos.unwrap_or_default())
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn since_boot() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    nanos(START.get_or_init(Instant::now).elapsed()).saturating_add(SECOND)
}

/// The longest sleep on a timer that stops in suspend. After a suspend the sleep ends this much too late at most.
const NAP: Duration = Duration::from_secs(1);

/// Sleeps on a timer of `CLOCK_BOOTTIME`, which fires as soon as the machine wakes up. A tokio sleep does not count the
/// time in suspend. Without such a timer this sleeps for a second at most, and the caller sleeps again until its moment
/// has come.
#[cfg(any(target_os = "linux", target_os = "android"))]
async fn sleep_through_suspend(left: Duration) {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let Ok(timer) = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC) else {
        return tokio::time::sleep(left.min(NAP)).await; // out of file descriptors
    };
    let at = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
    let once = Itimerspec { it_interval: NEVER, it_value: at };
    if timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once).is_err() {
        return tokio::time::sleep(left.min(NAP)).await;
    }
    // Deprecated for descriptors that other code may close; this one is owned. The replacement is unsafe.
    #[allow(deprecated)]
    match AsyncFd::with_interest(timer, tokio::io::Interest::READABLE) {
        Ok(timer) => drop(timer.readable().await),
        Err(_) => tokio::time::sleep(left.min(NAP)).await,
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
async fn sleep_through_suspend(left: Duration) {
    tokio::time::sleep(left.min(NAP)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleeps_until_the_moment_and_not_less() {
        let clock = Clock::boot();
        let until = clock.now().after(Duration::from_millis(20));
        clock.sleep_until(until).await;
        assert!(clock.now() >= until);
    }

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual();
        let before = clock.now();
        let clone = clock.clone();
        clone.advance(Duration::from_secs(3));
        assert_eq!(clock.now().since(before), Duration::from_secs(3));
    }

    #[tokio::test]
    async fn advancing_a_manual_clock_wakes_sleepers() {
        let clock = Clock::manual();
        let mut sleep = Box::pin(clock.sleep_until(clock.now().after(Duration::from_secs(2))));
        for _ in 0..2 {
            assert!(futures_util::poll!(&mut sleep).is_pending());
            clock.advance(Duration::from_secs(1));
        }
        sleep.await;
    }
}
