//! The two lanes of a verb.
//!
//! A call is answered when its slowest request is, so a resource that hangs the store takes the other requests of its
//! call with it. If they were repeated together, they would hang together again, until all of their leases were lost.
//! So a request whose call got no answer is repeated in a lane of its own, in a smaller call: an extension in a call of
//! a sixteenth of the size, any other request alone. After three such calls at most, each lease is alone with its
//! resource. A request that has hung alone stays alone. Once the store answers, the lease shares large calls again.
//!
//! A call counts as unanswered once it has failed without an answer, is stuck, or another extension of its lease is
//! due. A release that follows an extension at once is no repetition.

use std::sync::Arc;
use std::time::Duration;

use super::Slot;
use super::lane::{FEW, Lane, Shares};
use crate::lease::Verb;

/// The lanes of one verb.
#[derive(Debug)]
pub(super) struct Lanes {
    first: Lane<Arc<Slot>>,
    repeated: Lane<Arc<Slot>>,
}

/// Names a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneId {
    pub(super) verb: Verb,
    /// The store has left the last call about the lease unanswered.
    pub(super) is_repeated: bool,
}

impl Lanes {
    pub(super) fn new(shares: Shares) -> Self {
        Self { first: Lane::new(shares), repeated: Lane::new(shares) }
    }

    pub(super) fn get(&self, is_repeated: bool) -> &Lane<Arc<Slot>> {
        if is_repeated { &self.repeated } else { &self.first }
    }

    /// Queues a request, and returns whether it is a repeated one.
    pub(super) fn push(&self, verb: Verb, slot: &Arc<Slot>) -> bool {
        let unanswered = slot.unanswered(verb);
        if unanswered == 0 {
            self.first.push(slot.clone());
        } else {
            slot.left_unanswered(); // a release that follows an overdue extension is alone, too
            self.repeated.push_among(slot.clone(), size_of_repeated(verb, unanswered));
        }
        unanswered > 0
    }

    /// Queues several requests. A worker finds all of them, or none, except for the repeated ones.
    pub(super) fn push_all(&self, verb: Verb, slots: Vec<Arc<Slot>>) {
        let (first, repeated): (Vec<_>, Vec<_>) = slots.into_iter().partition(|slot| slot.unanswered(verb) == 0);
        self.first.push_all(first);
        for slot in &repeated {
            self.push(verb, slot);
        }
    }

    /// The time after which a call without an answer no longer counts as under way, so that it does not delay other
    /// requests. Many repeated calls get no answer, and the others wait behind them. But on a store whose first calls
    /// take long, the answer to a repeated one takes as long.
    pub(super) fn stuck_after(&self, is_repeated: bool) -> Duration {
        const FIRST: Duration = Duration::from_secs(1);
        const REPEATED: Duration = Duration::from_millis(250);
        if !is_repeated {
            return FIRST;
        }
        let round_trip = self.first.shortest_round_trip().unwrap_or_default();
        round_trip.saturating_mul(2).clamp(REPEATED, FIRST)
    }

    pub(super) fn close(&self) {
        self.first.close();
        self.repeated.close();
    }
}

impl LaneId {
    /// The lanes of a verb.
    pub(super) fn of(verb: Verb) -> [Self; 2] {
        [false, true].map(|is_repeated| Self { verb, is_repeated })
    }
}

/// The largest call for a request that got no answer in a call of `unanswered` requests.
fn size_of_repeated(verb: Verb, unanswered: usize) -> usize {
    match verb {
        Verb::Extend => unanswered.div_ceil(FEW),
        Verb::Claim | Verb::Release => 1,
    }
}
