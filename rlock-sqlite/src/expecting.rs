//! The leases of a client about which it expects notices.

use std::collections::HashMap;
use std::time::Duration;

use rlock_core::{Acquired, Event, Extended, LeaseId, Moment};

use crate::request::{Answer, Operation};

/// Decides how often a client looks for notices.
#[derive(Debug, Default)]
pub(crate) struct Expecting {
    leases: HashMap<LeaseId, Expected>,
    queued: usize,
    prune_at: Moment,
}

/// A lease of this client.
#[derive(Debug, Clone, Copy)]
struct Expected {
    is_queued: bool,
    /// Its end, if nothing is heard of it before.
    until: Moment,
}

impl Expecting {
    /// While leases wait, and there is no bell.
    const EAGER: Duration = Duration::from_millis(10);
    /// While leases are held, which may be broken, or wait for the bell.
    pub(crate) const CALM: Duration = Duration::from_millis(100);

    pub(crate) fn is_queued(&self) -> bool {
        self.queued > 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    pub(crate) fn next_look(&self, is_bell: bool) -> Option<Duration> {
        let pause = if self.is_queued() && !is_bell { Self::EAGER } else { Self::CALM };
        (!self.leases.is_empty()).then_some(pause)
    }

    /// Forgets what is over, once a second at most.
    pub(crate) fn prune(&mut self, now: Moment) {
        if now < self.prune_at {
            return;
        }
        self.prune_at = now.after(Duration::from_secs(1));
        self.leases.retain(|_, lease| lease.until > now);
        self.queued = self.leases.values().filter(|lease| lease.is_queued).count();
    }

    fn expect(&mut self, id: LeaseId, is_queued: bool, until: Moment) {
        let before = self.leases.get(&id).map_or(until, |before| before.until);
        self.forget(id);
        self.queued += usize::from(is_queued);
        self.leases.insert(id, Expected { is_queued, until: until.max(before) });
    }

    fn forget(&mut self, id: LeaseId) {
        let before = self.leases.remove(&id);
        self.queued -= usize::from(before.is_some_and(|lease| lease.is_queued));
    }

    pub(crate) fn heard(&mut self, event: &Event) {
        match event {
            Event::Granted { id, .. } => {
                if let Some(Expected { until, .. }) = self.leases.get(id).copied() {
                    self.expect(*id, false, until);
                }
            }
            Event::Broken { id } => self.forget(*id),
            _ => {}
        }
    }

    pub(crate) fn answered(&mut self, operations: &[Operation], answers: &[Answer], now: Moment) {
        for pair in operations.iter().zip(answers) {
            match pair {
                (Operation::Acquire(claim), Answer::Acquired(Acquired::Held(_))) => {
                    self.expect(claim.key.id, false, now.after(claim.ttl.get()));
                }
                (Operation::Acquire(claim), Answer::Acquired(Acquired::Queued(_))) => {
                    self.expect(claim.key.id, true, now.after(claim.ttl.get()));
                }
                (Operation::Extend(extension), Answer::Extended(extended)) => match extended {
                    Extended::Held(grant) => self.expect(extension.key.id, false, now.after(grant.ttl)),
                    Extended::Queued(_) => self.expect(extension.key.id, true, now.after(extension.ttl.get())),
                    Extended::Gone { .. } => self.forget(extension.key.id),
                },
                (Operation::Release(release), _) => self.forget(release.key.id),
                _ => {}
            }
        }
    }
}
