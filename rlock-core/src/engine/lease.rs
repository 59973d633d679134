//! One lease, as its client knows it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::renewal::Renewal;
use super::schedule::Timer;
use crate::lock_kind::LockKind;
use crate::watchdog::Plan;
use crate::{BackendError, ExtendError, LeaseKey, LockError, LossReason, Moment, Share, Token, Ttl, UnlockError};

/// One lease, as its client knows it. Shared by whoever waits for it or holds it, the schedule, and the requests
/// under way.
pub(crate) struct Lease {
    pub(crate) key: LeaseKey,
    pub(super) share: Share,
    pub(super) kind: LockKind,
    /// Tells the one who waits for the lock that there is an outcome.
    pub(super) changed: Notify,
    /// The deadline while the lease is held, 0 otherwise: the answer to "is it held" without a lock.
    deadline: AtomicU64,
    pub(super) lost_signal: OnceLock<CancellationToken>,
    state: Mutex<State>,
}

/// What a lease is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is being claimed.
    Asking,
    /// The store has it in its queue.
    Queued,
    /// It is held, up to its deadline.
    Held(Token),
    /// It was lost; its guard is still there.
    Lost,
    /// It is being given back.
    Releasing,
    /// The client is done with it.
    Settled,
}

pub(super) struct State {
    pub(super) phase: Phase,
    /// The life that it is claimed with and, queued, extended by.
    pub(super) ttl: Ttl,
    /// Whether it may wait.
    pub(super) waits: bool,
    pub(super) wait_until: Option<Moment>,
    /// How the lock ended without having been granted.
    pub(super) outcome: Option<LockError>,
    pub(super) lost: Option<LossReason>,
    /// The watchdog to start on the grant.
    pub(super) plan: Option<Plan>,
    pub(super) renewal: Option<Box<Renewal>>,
    /// One extension without a watchdog is wanted: the life that a queued lease is granted with is not a full one.
    pub(super) refresh: bool,

    /// Up to when the store keeps the lease at least, on this client's clock; the deadline while it is held.
    pub(super) alive_until: Moment,
    /// When the next request is due.
    pub(super) due: Option<Moment>,
    pub(super) timer: Option<Timer>,
    /// How often in a row the present request has failed.
    pub(super) tries: u32,
    /// How often a store without a queue has refused it.
    pub(super) polls: u32,
    /// Until when a failing store is asked again on behalf of somebody who waits.
    pub(super) retry_until: Moment,
    pub(super) last_error: Option<Box<BackendError>>,

    /// A claim is under way.
    pub(super) claiming: bool,
    /// When the first claim was sent whose answer got lost, until an answer has come.
    pub(super) first_sent: Option<Moment>,
    /// A claim was sent whose outcome never came, so that it may still take effect.
    pub(super) claim_unknown: bool,
    /// An extension is waiting to be sent.
    pub(super) extend_queued: bool,
    /// The extensions that the holder asked for by hand and that are not sent yet.
    pub(super) by_hand: Vec<(Ttl, ByHand)>,
    /// The store said by an event that the lease is granted, before it said that it is queued.
    pub(super) granted_early: bool,
    /// The store said by an event that the lease was broken.
    pub(super) broken: bool,
    /// The lease was lost, but the store has it, in another state: it is to be released.
    pub(super) still_there: bool,
    /// The first release has been handed over.
    pub(super) release_started: bool,
    /// A release was sent whose outcome never came.
    pub(super) release_unknown: bool,
    /// An answer to a release has been counted.
    pub(super) release_counted: bool,
    /// Until when an unconfirmed release is sent again.
    pub(super) release_until: Moment,
    /// Tells whoever waits for the release.
    pub(super) released: Option<oneshot::Sender<Result<(), UnlockError>>>,

    /// When the claim was made, then when the lease was granted.
    pub(super) since: Moment,
}

pub(super) type ByHand = oneshot::Sender<Result<(), ExtendError>>;

impl Lease {
    pub(super) fn new(key: LeaseKey, share: Share, kind: LockKind, state: State) -> Self {
        Self {
            key,
            share,
            kind,
            changed: Notify::new(),
            deadline: AtomicU64::new(0),
            lost_signal: OnceLock::new(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The deadline, if the lease is held.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let nanos = self.deadline.load(Ordering::Acquire);
        (nanos != 0).then(|| Moment::from_nanos(nanos))
    }

    /// Publishes what `state`, the state of this lease, says of the deadline.
    pub(super) fn publish_deadline(&self, state: &State) {
        let held = matches!(state.phase, Phase::Held(_));
        self.deadline.store(if held { state.alive_until.as_nanos() } else { 0 }, Ordering::Release);
    }
}

impl State {
    pub(super) fn new(ttl: Ttl, plan: Option<Plan>, now: Moment, wait: Option<Duration>) -> Self {
        Self {
            phase: Phase::Asking,
            ttl,
            waits: wait != Some(Duration::ZERO),
            wait_until: wait.filter(|wait| !wait.is_zero()).map(|wait| now.after(wait)),
            outcome: None,
            lost: None,
            plan,
            renewal: None,
            refresh: false,
            alive_until: now,
            due: None,
            timer: None,
            tries: 0,
            polls: 0,
            retry_until: now,
            last_error: None,
            claiming: false,
            first_sent: None,
            claim_unknown: false,
            still_there: false,
            extend_queued: false,
            by_hand: Vec::new(),
            granted_early: false,
            broken: false,
            release_started: false,
            release_unknown: false,
            release_counted: false,
            release_until: now,
            released: None,
            since: now,
        }
    }

    /// Whether the lease was lost by the store's word, and nothing can bring it back.
    pub(super) fn is_gone_for_good(&self) -> bool {
        self.lost.is_some_and(LossReason::is_the_stores_word) && !self.still_there && !self.claim_unknown
    }

    /// When the lease next needs attention.
    pub(super) fn next_timer(&self) -> Option<Moment> {
        match self.phase {
            Phase::Asking | Phase::Queued => earliest(self.due, self.wait_until),
            Phase::Held(_) => earliest(self.due, Some(self.alive_until)),
            Phase::Releasing => self.due,
            Phase::Lost | Phase::Settled => None,
        }
    }
}

fn earliest(a: Option<Moment>, b: Option<Moment>) -> Option<Moment> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).field("phase", &self.lock().phase).finish_non_exhaustive()
    }
}
