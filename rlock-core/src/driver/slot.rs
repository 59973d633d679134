//! One lease with its place in the driver.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::watch::Watch;
use crate::clock::Moment;
use crate::contract::{BackendError, LeaseData, LeaseKey, Owner, ResourceName, Share, Ttl};
use crate::error::ExtendError;
use crate::lease::{Lease, LossReason, Phase, Refusal, ReleaseOutcome, Wait};
use crate::metrics::LockKind;
use crate::watchdog::Plan;

/// The lock that a user asks for.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) resource: ResourceName,
    pub(crate) share: Share,
    pub(crate) kind: LockKind,
    pub(crate) ttl: Ttl,
    pub(crate) watchdog: Option<Plan>,
    pub(crate) wait: Wait,
    pub(crate) hold_at_least: Duration,
    pub(crate) data: Option<LeaseData>,
    /// Shown in place of the client's.
    pub(crate) owner: Option<Arc<Owner>>,
}

/// One lease with its place in the driver. The guard or the waiter, the schedule, and the requests under way share it.
pub(crate) struct Slot {
    pub(crate) key: LeaseKey,
    pub(super) share: Share,
    pub(super) kind: LockKind,
    pub(super) data: Option<LeaseData>,
    pub(super) owner: Option<Arc<Owner>>,
    /// The deadline while the lease is held, 0 otherwise: the answer to "is it held" without the mutex.
    deadline: AtomicU64,
    /// The index of the loss plus one, 0 without a loss.
    loss: AtomicU8,
    is_settled: AtomicBool,
    /// The signals that users wait for, made for the first of them.
    pub(super) signals: OnceLock<Signals>,
    /// The future that waits for the lock, then the one that waits for its release.
    pub(super) user: AtomicWaker,
    state: Mutex<State>,
}

/// The ends of a held lease.
#[derive(Debug, Default)]
pub(super) struct Signals {
    pub(super) lost: CancellationToken,
    /// Lost or released.
    pub(super) ended: CancellationToken,
}

pub(super) struct State {
    pub(super) lease: Lease,
    /// The earliest timer in the schedule that has not fired.
    pub(super) timer: Option<Moment>,
    /// The number of timers in the schedule.
    pub(super) timers: usize,
    /// The reason why the waiter gets no lock.
    pub(super) refusal: Option<Refusal>,
    /// The outcome of the release.
    pub(super) release: Option<ReleaseOutcome>,
    /// Extensions that the holder waits for.
    pub(super) tickets: Vec<Ticket>,
    /// The last failure of a request, until one succeeds.
    pub(super) last_error: Option<Box<BackendError>>,
    pub(super) watch: Option<Box<Watch>>,
}

impl State {
    /// The timer of the lease, if the schedule has none that is as early.
    pub(super) fn missing_timer(&self) -> Option<Moment> {
        self.lease.timer().filter(|at| self.timer.is_none_or(|timer| *at < timer))
    }
}

/// An extension that the holder waits for, and its number.
pub(super) type Ticket = (u64, oneshot::Sender<Result<(), ExtendError>>);

impl Slot {
    pub(super) fn new(key: LeaseKey, request: &Request, lease: Lease, watch: Option<Box<Watch>>) -> Self {
        let state = State {
            lease,
            timer: None,
            timers: 0,
            refusal: None,
            release: None,
            tickets: Vec::new(),
            last_error: None,
            watch,
        };
        Self {
            key,
            share: request.share,
            kind: request.kind,
            data: request.data.clone(),
            owner: request.owner.clone(),
            deadline: AtomicU64::new(0),
            loss: AtomicU8::new(0),
            is_settled: AtomicBool::new(false),
            signals: OnceLock::new(),
            user: AtomicWaker::new(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls for news of the lease, by `news`. The future that is polled is woken when there are some.
    pub(crate) fn poll_for<T>(&self, context: &Context<'_>, mut news: impl FnMut() -> Option<T>) -> Poll<T> {
        if let Some(news) = news() {
            return Poll::Ready(news);
        }
        self.user.register(context.waker());
        let late = news();
        if late.is_some() {
            self.forget_user();
        }
        late.map_or(Poll::Pending, Poll::Ready)
    }

    /// Lets go of the future that waits. Its waker must not live on in the schedule, whose mutex would be held at its drop.
    pub(super) fn forget_user(&self) {
        drop(self.user.take());
    }

    /// The deadline, if the lease is held.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let nanos = self.deadline.load(Ordering::Acquire);
        (nanos != 0).then(|| Moment::from_nanos(nanos))
    }

    /// The reason of the loss, as far as it is known.
    pub(super) fn loss(&self) -> Option<LossReason> {
        LossReason::of_index(usize::from(self.loss.load(Ordering::Acquire)).checked_sub(1)?)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Acquire)
    }

    /// Publishes the part of `state`, the state of this slot, that is read without the mutex.
    pub(super) fn publish(&self, state: &State) {
        if matches!(state.lease.phase(), Phase::Settled) {
            self.is_settled.store(true, Ordering::Release);
        }
        let deadline = state.lease.deadline().map_or(0, Moment::as_nanos);
        self.deadline.store(deadline, Ordering::Release);
    }

    /// Takes note of a loss, before the deadline is taken back.
    pub(super) fn lose(&self, reason: LossReason) {
        let index = u8::try_from(reason.index()).expect("there are few reasons");
        self.loss.store(index + 1, Ordering::Release);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("key", &self.key).field("phase", self.lock().lease.phase()).finish_non_exhaustive()
    }
}
