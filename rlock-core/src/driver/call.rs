//! A request under way, and its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::slot::Slot;
use crate::clock::Moment;
use crate::contract::{Acquired, BackendError, Extended, Released};

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

/// A request under way.
pub(super) type Call = Pin<Box<dyn Future<Output = Answer> + Send>>;

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

/// A request under way that a worker has to await, with its lease.
pub(super) type HandedOver = (Sent, Limit, Call);
