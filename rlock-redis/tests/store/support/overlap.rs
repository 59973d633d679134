//! Locks that a store grants to a second client while the first one believes in them, and what ends that.

use std::time::Duration;

use rlock_core::{Client, Guard, LockOptions, LossReason, SimpleLock};
use rlock_testkit::wait::within;

use super::SOON;

/// Locks of one client, and of the next one.
#[derive(Debug)]
pub(crate) struct Overlap {
    /// A watchdog renews it every two seconds.
    renewed: Guard,
    /// No watchdog renews it.
    unrenewed: Guard,
    next: Vec<Guard>,
}

const TTL: Duration = Duration::from_secs(6);
const SHORT_TTL: Duration = Duration::from_secs(2);

impl Overlap {
    /// Lets `holder` have two locks, whose names begin with `name`.
    pub(crate) async fn begin(holder: &Client, name: &str) -> Self {
        let lock = async |kind: &str, options| {
            let lock = SimpleLock::new(format!("{name}/{kind}"), holder).unwrap();
            within(SOON, "a lock", lock.lock_with(options)).await.unwrap()
        };
        Self {
            renewed: lock("renewed", LockOptions::new().ttl(TTL)).await,
            unrenewed: lock("unrenewed", LockOptions::new().ttl(SHORT_TTL).watchdog(false)).await,
            next: Vec::new(),
        }
    }

    /// Lets `other` have the locks without waiting, with greater tokens.
    pub(crate) async fn is_granted_to(&mut self, other: &Client) {
        for old in [&self.renewed, &self.unrenewed] {
            let lock = SimpleLock::new(old.resource().as_str(), other).unwrap();
            let new = within(SOON, "an answer", lock.try_lock()).await.unwrap();
            let new = new.unwrap_or_else(|| panic!("{} is not free", old.resource()));
            assert!(new.token() > old.token(), "{new:?} after {old:?}");
            self.next.push(new);
        }
        assert!(self.renewed.remaining() <= TTL && self.unrenewed.remaining() <= SHORT_TTL);
    }

    /// Waits until the first client knows: by a renewal, or at the deadline without one. The locks of the second client
    /// stay held, and are returned.
    pub(crate) async fn ends(self) -> Vec<Guard> {
        let reason = within(SOON, "the loss of a renewed lock", self.renewed.lost()).await;
        assert!(matches!(reason, LossReason::TakenOver | LossReason::Gone), "no renewal reported it: {reason:?}");
        within(SOON, "the deadline", self.unrenewed.lost()).await;
        for old in [self.renewed, self.unrenewed] {
            old.unlock().await.unwrap_err();
        }
        for new in &self.next {
            new.extend(SOON).await.unwrap_or_else(|error| panic!("{new:?}: {error}"));
        }
        self.next
    }
}
