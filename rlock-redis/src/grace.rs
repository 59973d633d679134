//! The time after a server's start or promotion in which it grants nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rlock_core::Cause;

use crate::error::CallError;

/// The grace of one server, as defined by [`restart_grace`](crate::RedisConfig::restart_grace).
///
/// The grace of a single server begins at its start, by its uptime. No server reports when it was promoted, or when its
/// cluster or its sentinels let clients use it. So clients leave a mark on such a server, with its identity, and the
/// grace begins with the mark. So it does on a server whose clock was set back to before its start.
///
/// A primary that others replace may still run, and then grants and extends until its clients have left it. So the grace
/// of such a server lasts for [`LEAVING`](Self::LEAVING) longer.
///
/// A server that is demoted and promoted again keeps its connections, and its identity changes. So a connection in use
/// asks for the identity again, and a new one begins another grace.
#[derive(Debug)]
pub(crate) struct Grace {
    length: Duration,
    is_alone: bool,
    /// Not set while the server withholds its uptime.
    known: Mutex<Option<Known>>,
    /// Held by the task that asks on behalf of all. The time of the last question and its error, if it failed.
    pub(crate) asking: tokio::sync::Mutex<Option<(Instant, CallError)>>,
}

/// The grace after one start or promotion.
#[derive(Debug)]
struct Known {
    identity: String,
    over: Instant,
    /// The time of the last question that the server answered with this identity.
    asked: Instant,
}

impl Grace {
    /// The time that a cluster or sentinels take to start, and their clients to arrive.
    const STARTING: Duration = Duration::from_secs(60);
    /// The time within which the clients leave a primary that was replaced.
    const LEAVING: Duration = Duration::from_secs(1);
    /// The longest pause before a claim fails, so that callers do not retry in a tight loop.
    const MOMENT: Duration = Duration::from_millis(200);
    /// The time for which an identity counts. A demotion and a promotion within that time go unnoticed until its end.
    const CERTAIN: Duration = Duration::from_secs(1);

    pub(crate) fn new(length: Duration, is_alone: bool) -> Self {
        let length = if is_alone || length.is_zero() { length } else { length + Self::LEAVING };
        Self { length, is_alone, known: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// Whether the server need not be asked: it answered a moment ago, or there is no grace.
    pub(crate) fn is_certain(&self) -> bool {
        self.length.is_zero() || self.known().as_ref().is_some_and(|known| known.asked.elapsed() < Self::CERTAIN)
    }

    /// Whether the server has answered a question that was sent after this time.
    pub(crate) fn was_asked_since(&self, time: Instant) -> bool {
        self.known().as_ref().is_some_and(|known| known.asked >= time)
    }

    /// Whether the grace of a server of this age is over by its age alone.
    pub(crate) fn is_over_at(&self, age: Duration) -> bool {
        self.is_alone || age > self.length + Self::STARTING
    }

    /// Notes the identity that the server answered to a question. Returns false if it was promoted since the last one,
    /// or if its grace is unknown.
    pub(crate) fn is_still(&self, identity: &str, asked: Instant) -> bool {
        match &mut *self.known() {
            Some(known) if known.identity == identity => {
                known.asked = asked;
                true
            }
            _ => false,
        }
    }

    /// Sets how much of the grace of a server has passed.
    pub(crate) fn has_passed(&self, passed: Duration, identity: String, asked: Instant) {
        let over = Instant::now() + self.length.saturating_sub(passed);
        *self.known() = Some(Known { identity, over, asked });
    }

    /// Notes that the server withholds its uptime.
    pub(crate) fn forget(&self) {
        *self.known() = None;
    }

    /// Whether the server may grant. It has to be asked again after a second.
    pub(crate) fn is_over(&self) -> bool {
        self.is_certain() && self.left().is_zero()
    }

    /// Whether the server might grant when it was last asked.
    pub(crate) fn was_over(&self) -> bool {
        self.length.is_zero() || self.known().as_ref().is_some_and(|known| known.over <= Instant::now())
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

    /// The rest of the grace. It is at least 200 ms while the grace is unknown, or the server does not answer.
    pub(crate) fn left(&self) -> Duration {
        if self.length.is_zero() {
            return Duration::ZERO;
        }
        match &*self.known() {
            Some(known) => {
                let rest = known.over.saturating_duration_since(Instant::now());
                // A request that was certain when it began has not become uncertain on its way.
                if known.asked.elapsed() < 2 * Self::CERTAIN { rest } else { rest.max(Self::MOMENT) }
            }
            None => Self::MOMENT,
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_identity_begins_another_grace() {
        const LENGTH: Duration = Duration::from_secs(60);
        let (grace, asked) = (Grace::new(LENGTH, true), Instant::now());
        assert!(!grace.is_certain() && !grace.is_over() && !grace.is_still("first", asked));
        grace.has_passed(LENGTH, "first".into(), asked);
        assert!(grace.is_over() && grace.is_still("first", asked));
        assert!(!grace.is_still("second", asked));
        grace.has_passed(Duration::ZERO, "second".into(), asked);
        assert!(!grace.is_over() && !grace.was_over() && grace.left() > LENGTH / 2);
    }

    #[test]
    fn grace_covers_the_clients_of_a_replaced_primary() {
        const LENGTH: Duration = Duration::from_secs(60);
        for (is_alone, longest) in [(true, LENGTH), (false, LENGTH + Grace::LEAVING)] {
            let grace = Grace::new(LENGTH, is_alone);
            grace.has_passed(Duration::ZERO, "new".into(), Instant::now());
            assert!((longest - Duration::from_millis(500)..=longest).contains(&grace.left()), "{:?}", grace.left());
        }
        assert!(Grace::new(Duration::ZERO, false).was_over(), "it is switched off");
    }

    #[tokio::test]
    async fn slow_answer_does_not_shorten_the_grace() {
        const LENGTH: Duration = Duration::from_secs(60);
        let grace = Grace::new(LENGTH, true);
        let asked = Instant::now().checked_sub(3 * Grace::CERTAIN).expect("the machine is up for longer");
        grace.has_passed(Duration::ZERO, "second".into(), asked);
        assert!(grace.left() > LENGTH / 2);
        assert!(grace.pass().await.is_err());
    }
}
