//! One lease with its data in the driver.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::QueuePlace;
use super::quietly::quietly;
use super::watch::Watch;
use crate::clock::Moment;
use crate::contract::{BackendError, LeaseData, LeaseKey, Owner, ResourceName, Share, Ttl};
use crate::error::ExtendError;
use crate::lease::{Lease, LossReason, Phase, Refusal, ReleaseOutcome, Verb, Wait};
use crate::metrics::LockKind;
use crate::watchdog::Plan;

/// A valid request of a user for a lock.
#[derive(Clone)]
pub(crate) struct LockRequest {
    pub(crate) resource: ResourceName,
    pub(crate) share: Share,
    pub(crate) kind: LockKind,
    pub(crate) ttl: Ttl,
    pub(crate) watchdog: Option<Plan>,
    pub(crate) wait: Wait,
    /// The moment from which the user waits.
    pub(crate) since: Moment,
    pub(crate) hold_at_least: Duration,
    pub(crate) hold_at_most: Option<Duration>,
    pub(crate) data: Option<LeaseData>,
    /// The owner to show instead of the client's.
    pub(crate) owner: Option<Arc<Owner>>,
    pub(crate) place: Option<QueuePlace>,
}

/// One lease with its data in the driver. The guard or the waiter, the schedule, and the requests under way share it.
pub(crate) struct Slot {
    pub(crate) key: LeaseKey,
    pub(super) share: Share,
    pub(super) kind: LockKind,
    pub(super) data: Option<LeaseData>,
    pub(super) owner: Option<Arc<Owner>>,
    pub(super) place: Option<QueuePlace>,
    /// The deadline while the lease is held, 0 otherwise. It lets readers check the lock without the mutex.
    deadline: AtomicU64,
    /// The index of the loss plus one; 0 without a loss.
    loss: AtomicU8,
    is_forgotten: AtomicBool,
    /// The number of requests in the last call about this lease; 0 once the store has answered.
    call_size: AtomicU32,
    /// The store has left a call about this lease unanswered, and has answered none since.
    is_unanswered: AtomicBool,
    /// The signals that users wait for, created for the first user.
    pub(super) signals: OnceLock<Signals>,
    /// The waker of the future that waits for the lock, and later of the one that waits for its release.
    pub(super) user: AtomicWaker,
    state: Mutex<State>,
}

/// The signals for the end of a held lease.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Cancelled when the lease is lost. It is the parent of the tokens of users, whose wakers may panic.
    pub(super) lost: CancellationToken,
    /// Cancelled when the lease is lost or released. Only a [`QuietWaker`](super::QuietWaker) waits for it.
    pub(super) ended: CancellationToken,
}

pub(super) struct State {
    pub(super) lease: Lease,
    /// The timers in the schedule, each earlier than the one before.
    pub(super) timers: SmallVec<[Moment; 2]>,
    /// The reason why the waiter gets no lock.
    pub(super) refusal: Option<Refusal>,
    /// The outcome of the release.
    pub(super) release: Option<ReleaseOutcome>,
    /// Extensions whose replies the holder awaits.
    pub(super) tickets: Vec<Ticket>,
    /// The last failure of a request, until one succeeds.
    pub(super) last_error: Option<Box<BackendError>>,
    pub(super) watch: Option<Box<Watch>>,
}

impl State {
    /// The timer of the lease, if it is earlier than every timer in the schedule.
    pub(super) fn missing_timer(&self) -> Option<Moment> {
        self.lease.timer().filter(|at| self.timers.last().is_none_or(|earliest| at < earliest))
    }
}

/// The task that drops the last reference may be the one that fires the timers of all leases, and the drop of a backend's
/// error may panic.
impl Drop for State {
    fn drop(&mut self) {
        quietly(|| drop(self.last_error.take()));
        quietly(|| drop(self.watch.take()));
    }
}

/// The number of an extension whose reply the holder awaits, and the sender of the reply.
pub(super) type Ticket = (u64, oneshot::Sender<Result<(), ExtendError>>);

impl Slot {
    pub(super) fn new(key: LeaseKey, request: &LockRequest, lease: Lease, watch: Option<Box<Watch>>) -> Self {
        let state = State {
            lease,
            timers: SmallVec::new(),
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
            place: request.place.clone(),
            deadline: AtomicU64::new(0),
            loss: AtomicU8::new(0),
            is_forgotten: AtomicBool::new(false),
            call_size: AtomicU32::new(0),
            is_unanswered: AtomicBool::new(false),
            signals: OnceLock::new(),
            user: AtomicWaker::new(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls `news` for news of the lease. The future that polls is woken when there is news.
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

    /// Drops the waker of the waiting future. It must not stay in the schedule, whose mutex would be held when the
    /// waker is dropped.
    pub(super) fn forget_user(&self) {
        drop(self.user.take());
    }

    /// The deadline, if the lease is held.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let nanos = self.deadline.load(Ordering::Acquire);
        (nanos != 0).then(|| Moment::from_nanos(nanos))
    }

    /// The reason for the loss, as far as it is known.
    pub(super) fn loss(&self) -> Option<LossReason> {
        LossReason::of_index(usize::from(self.loss.load(Ordering::Acquire)).checked_sub(1)?)
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.is_forgotten.load(Ordering::Acquire)
    }

    /// The number of requests in the last call about this lease, if a request of `verb` now means that the store leaves
    /// that call unanswered; otherwise 0. Another extension follows only if the answer to the last one is overdue. A
    /// release may follow an extension that was sent a moment ago.
    pub(super) fn unanswered(&self, verb: Verb) -> usize {
        let is_unanswered = verb == Verb::Extend || self.is_unanswered.load(Ordering::Relaxed);
        if is_unanswered { self.call_size.load(Ordering::Relaxed) as usize } else { 0 }
    }

    /// Records a call of `count` requests, one of them about this lease.
    pub(super) fn sent_among(&self, count: usize) {
        self.call_size.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Records that the store has answered.
    pub(super) fn answered(&self) {
        self.call_size.store(0, Ordering::Relaxed);
        self.is_unanswered.store(false, Ordering::Relaxed);
    }

    /// Records that the store leaves a call unanswered.
    pub(super) fn left_unanswered(&self) {
        self.is_unanswered.store(true, Ordering::Relaxed);
    }

    /// Publishes the part of `state`, the state of this slot, that other threads read without the mutex.
    pub(super) fn publish(&self, state: &State) {
        if matches!(state.lease.phase(), Phase::Forgotten) {
            self.is_forgotten.store(true, Ordering::Release);
        }
        let deadline = state.lease.deadline().map_or(0, Moment::as_nanos);
        self.deadline.store(deadline, Ordering::Release);
    }

    /// Records a loss, before the deadline is cleared.
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
