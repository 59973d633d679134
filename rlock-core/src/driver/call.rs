//! A request under way, and its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::LONGEST_CALL;
use super::slot::Slot;
use crate::clock::Moment;
use crate::contract::{Acquired, BackendError, Extended, Released};
use crate::lease::{Order, Terms, Verb};

/// A lease whose request was sent.
pub(super) struct Sent {
    pub(super) slot: Arc<Slot>,
    /// The number of the request.
    pub(super) call: u32,
    /// A moment before the request was sent.
    pub(super) began: Moment,
}

/// The answer of the store to the request of one lease.
pub(super) enum Answer {
    Claimed(Result<Acquired, BackendError>),
    Extended(Result<Extended, BackendError>),
    Released(Result<Released, BackendError>),
}

impl Answer {
    pub(super) fn failure(verb: Verb, error: BackendError) -> Self {
        match verb {
            Verb::Claim => Self::Claimed(Err(error)),
            Verb::Extend => Self::Extended(Err(error)),
            Verb::Release => Self::Released(Err(error)),
        }
    }

    pub(super) fn error(&self) -> Option<&BackendError> {
        match self {
            Self::Claimed(answer) => answer.as_ref().err(),
            Self::Extended(answer) => answer.as_ref().err(),
            Self::Released(answer) => answer.as_ref().err(),
        }
    }
}

/// A request under way.
pub(super) type Call = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The shortest time for which an answer is awaited.
const SHORTEST: Duration = Duration::from_secs(1);

/// The time that a call may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// No answer is awaited after this time.
    pub(super) longest: Duration,
    /// The moment from which the leases need their timers, if the call is not answered by then. Until then the call
    /// replaces their timers: nearly all requests are answered in time and need none. The deadline of a held lease is
    /// always in the schedule. This timer stands still while the machine is suspended, and is then at most a second
    /// late.
    pub(super) timer: Option<Moment>,
}

impl Limit {
    pub(super) const NONE: Self = Self { longest: SHORTEST, timer: None };

    /// The limit of a call for one request of a lease with these terms, sent at `began`. The answer to an extension is
    /// useless after half of the life that the extension requests. A claim with a limited wait may be answered at any
    /// time during that wait; its user learns of the end of the wait first.
    pub(super) fn new(order: Order, terms: &Terms, began: Moment, timer: Option<Moment>) -> Self {
        let patience = terms.retry_for.max(terms.ttl.get() / 2);
        let longest = match order {
            Order::Extend { ttl } => ttl.get() / 2,
            Order::Claim { .. } => {
                let wait = terms.wait.until().map(|until| until.since(began).saturating_add(SHORTEST));
                patience.max(wait.unwrap_or_default())
            }
            Order::Release { .. } => patience,
        };
        Self { longest: longest.clamp(SHORTEST, LONGEST_CALL), timer }
    }

    /// The limit of a call for the requests of both limits.
    pub(super) fn and(self, other: Self) -> Self {
        let timer = [self.timer, other.timer].into_iter().flatten().min();
        Self { longest: self.longest.max(other.longest), timer }
    }

    /// The limit of a call of several requests. Another request may be the reason that the call has no answer, so there
    /// has to be time to repeat this one alone: as little as possible, because the store may only be slow. Only an
    /// extension is repeated while it is under way.
    pub(super) fn shared(self, verb: Verb, retry_for: Duration) -> Self {
        match verb {
            Verb::Extend => self,
            // It would not be repeated: a claim that fails after `retry_for` is given up.
            Verb::Claim if retry_for <= SHORTEST => self,
            Verb::Claim | Verb::Release => {
                let longest = retry_for.saturating_sub(SHORTEST).max(SHORTEST);
                Self { longest: self.longest.min(longest), ..self }
            }
        }
    }
}

/// A request under way that a worker has to await, with its lease.
pub(super) type HandedOver = (Sent, Limit, Call);
