//! A request under way, and its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::LONGEST_CALL;
use super::slot::Slot;
use crate::clock::Moment;
use crate::contract::{Acquired, BackendError, Extended, Released, Ttl};
use crate::lease::{Order, Verb};

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

    /// The limit of a call for one request of a lease with the TTL `ttl`, and with the time `retry_for` for which its
    /// user waits for a store that does not answer. The answer to an extension is useless after half of the life that
    /// the extension requests.
    pub(super) fn new(order: Order, ttl: Ttl, retry_for: Duration, timer: Option<Moment>) -> Self {
        let longest = match order {
            Order::Extend { ttl } => ttl.get() / 2,
            Order::Claim { .. } | Order::Release { .. } => retry_for.max(ttl.get() / 2),
        };
        Self { longest: longest.clamp(SHORTEST, LONGEST_CALL), timer }
    }

    /// The limit of a call for the requests of both limits.
    pub(super) fn and(self, other: Self) -> Self {
        let timer = [self.timer, other.timer].into_iter().flatten().min();
        Self { longest: self.longest.max(other.longest), timer }
    }

    /// The limit of a call of several requests. Another request may be the reason that the call has no answer, so there
    /// has to be time to repeat this one alone. Only an extension is repeated while it is under way.
    pub(super) fn shared(self, verb: Verb, retry_for: Duration) -> Self {
        match verb {
            Verb::Extend => self,
            Verb::Claim | Verb::Release => Self { longest: self.longest.min((retry_for / 2).max(SHORTEST)), ..self },
        }
    }
}

/// A request under way that a worker has to await, with its lease.
pub(super) type HandedOver = (Sent, Limit, Call);
