//! The time after a server's start or promotion in which it grants nothing.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::error::{CallError, Cause};

/// The grace of one server, as [`restart_grace`](crate::RedisConfig::restart_grace) has it.
///
/// For a server alone it begins at its start, which its uptime tells. No server tells when it was promoted, or when its
/// cluster or its sentinels let clients use it. There, clients leave a mark in it, with its identity: the grace begins with
/// the mark.
#[derive(Debug)]
pub(crate) struct Grace {
    length: Duration,
    is_alone: bool,
    /// Not set while the server withholds its uptime.
    over: OnceLock<Instant>,
}

impl Grace {
    /// The time that a cluster or sentinels take to begin, and their clients to come.
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
    pub(crate) fn is_settled(&self, age: Duration) -> bool {
        self.is_alone || age > self.length + Self::STARTING
    }

    /// Says how much of the grace is over. The first word counts.
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

    /// The rest of the grace. While it is not known, the server may not grant for another moment.
    pub(crate) fn left(&self) -> Duration {
        self.over.get().map_or(Self::MOMENT, |over| over.saturating_duration_since(Instant::now()))
    }
}
