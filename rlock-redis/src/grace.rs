//! The time after a server's start or promotion in which it grants nothing.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::error::{CallError, Cause};

/// The grace of one server, as defined by [`restart_grace`](crate::RedisConfig::restart_grace).
///
/// The grace of a single server begins at its start, by its uptime. No server reports when it was promoted, or when its
/// cluster or its sentinels let clients use it. So clients leave a mark on such a server, with its identity, and the
/// grace begins with the mark. So it does on a server whose clock was set back to before its start.
#[derive(Debug)]
pub(crate) struct Grace {
    length: Duration,
    is_alone: bool,
    /// Not set while the server withholds its uptime.
    over: OnceLock<Instant>,
}

impl Grace {
    /// The time that a cluster or sentinels take to start, and their clients to arrive.
    const STARTING: Duration = Duration::from_secs(60);
    /// The longest pause before a claim fails, so that callers do not retry in a tight loop.
    const MOMENT: Duration = Duration::from_millis(200);

    pub(crate) fn new(length: Duration, is_alone: bool) -> Self {
        Self { length, is_alone, over: if length.is_zero() { OnceLock::from(Instant::now()) } else { OnceLock::new() } }
    }

    /// The instant from which the server may grant, if it is known.
    pub(crate) fn over(&self) -> Option<Instant> {
        self.over.get().copied()
    }

    /// Whether the grace of a server of this age is over by its age alone.
    pub(crate) fn is_over_at(&self, age: Duration) -> bool {
        self.is_alone || age > self.length + Self::STARTING
    }

    /// Sets how much of the grace has passed. Only the first call counts.
    pub(crate) fn has_passed(&self, passed: Duration) -> Instant {
        *self.over.get_or_init(|| Instant::now() + self.length.saturating_sub(passed))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.get().is_some_and(|over| *over <= Instant::now())
    }

    /// Fails during the grace. A failure takes up to 200 ms.
    pub(crate) async fn pass(&self) -> Result<(), CallError> {
        let left = self.left();
        if left.is_zero() {
            return Ok(());
        }
        tokio::time::sleep(left.min(Self::MOMENT)).await;
        if left <= Self::MOMENT {
            return Ok(());
        }
        let reason = format!(
            "the server was started or promoted a moment ago: earlier holders have {:?} left to learn of their loss \
             (restart_grace)",
            left - Self::MOMENT
        );
        Err(CallError::Unsent(Cause::new(reason)))
    }

    /// The rest of the grace. While it is unknown, it counts as 200 ms.
    pub(crate) fn left(&self) -> Duration {
        self.over.get().map_or(Self::MOMENT, |over| over.saturating_duration_since(Instant::now()))
    }
}
