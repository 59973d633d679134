//! Requests of one verb on their way to the store: some are under way, the others wait in a queue and travel together.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use tokio::sync::Notify;

use super::call::HandedOver;
use super::window::Window;
use crate::clock::Moment;

/// The requests of one verb.
///
/// A request that a user awaits is sent at once and alone, if it finds the lane quiet. The others wait in a queue. A
/// worker is on its way whenever requests wait and the [window](Window) has room. It takes its share of the requests
/// that have come by the time it runs: all of them, if they are few. So the requests of one moment travel together,
/// and none waits for more to come.
///
/// A [repeated](super::lanes) request limits the size of its call.
#[derive(Debug)]
pub(super) struct Lane<T> {
    inner: Mutex<Inner<T>>,
    /// The length of the queue. A thread sees its own requests here.
    queued: AtomicUsize,
    /// The calls of workers that are under way or about to begin.
    under_way: AtomicUsize,
    shares: Shares,
}

/// The largest call while the store leaves a call unanswered, and the factor by which repeated calls are smaller.
pub(super) const FEW: usize = 16;

/// The number of requests in one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares {
    /// Up to this number of requests go into one call instead of several.
    pub(super) worth_a_call: usize,
    pub(super) max: usize,
}

#[derive(Debug)]
struct Inner<T> {
    /// The requests that wait, each with the largest number of requests that its call may have.
    queue: VecDeque<(T, usize)>,
    under_way: usize,
    /// Unanswered calls that no longer count as under way.
    stuck: usize,
    /// The thread that started the last worker, if that worker has not taken its requests yet. tokio runs the worker
    /// next on that thread, and on no other. While a task there blocks, the requests of other threads need a worker of
    /// their own.
    starting: Option<ThreadId>,
    window: Window,
    idle: Vec<Arc<Worker>>,
    is_closed: bool,
}

/// A task that sends requests, one call after the other.
#[derive(Default)]
pub(super) struct Worker {
    wake: Notify,
    /// A request under way that this worker has to await.
    call: Mutex<Option<HandedOver>>,
    /// There are enough idle workers without this one.
    is_surplus: AtomicBool,
}

/// A worker with work to do.
pub(super) enum Start {
    /// The worker was idle, and is now awake.
    Woken,
    /// The worker is new, and needs a task.
    New(Arc<Worker>),
}

impl<T> Lane<T> {
    pub(super) fn new(shares: Shares) -> Self {
        let inner = Inner {
            queue: VecDeque::new(),
            under_way: 0,
            stuck: 0,
            starting: None,
            window: Window::new(),
            idle: Vec::new(),
            is_closed: false,
        };
        Self { inner: Mutex::new(inner), queued: AtomicUsize::new(0), under_way: AtomicUsize::new(0), shares }
    }

    /// Whether no request waits or is under way. One more request is then sent at once and alone. It does not count as
    /// under way until it is [handed over](Self::hand_over).
    pub(super) fn is_quiet(&self) -> bool {
        self.queued.load(Ordering::Acquire) == 0 && self.under_way.load(Ordering::Acquire) == 0
    }

    /// Queues a request. Call [`start`](Self::start) afterwards, once for one or more requests.
    pub(super) fn push(&self, request: T) {
        self.push_among(request, usize::MAX);
    }

    /// The same for several requests. A worker finds all of them, or none.
    pub(super) fn push_all(&self, requests: impl IntoIterator<Item = T>) {
        self.change(|inner| inner.queue.extend(requests.into_iter().map(|request| (request, usize::MAX))));
    }

    /// The same for a request whose call may have `most` requests.
    pub(super) fn push_among(&self, request: T, most: usize) {
        self.change(|inner| inner.queue.push_back((request, most)));
    }

    /// Starts a worker, if requests wait, the window has room, and this thread has not just started one.
    pub(super) fn start(&self) -> Option<Start> {
        if self.queued.load(Ordering::Acquire) == 0 {
            return None;
        }
        let here = std::thread::current().id();
        self.change(|inner| {
            if inner.queue.is_empty() || inner.starting == Some(here) || inner.under_way >= inner.window.size() {
                return None;
            }
            inner.starting = Some(here);
            Some(inner.start_worker(None))
        })
    }

    /// Gives a request that is under way to a worker.
    pub(super) fn hand_over(&self, call: HandedOver) -> Start {
        self.change(|inner| inner.start_worker(Some(call)))
    }

    /// Gives a worker that was [started](Self::start) its first batch. Without a batch the worker is idle.
    pub(super) fn first(&self, worker: &Arc<Worker>, batch: &mut Vec<T>) -> bool {
        self.change(|inner| {
            inner.starting = None;
            inner.fill(worker, batch, self.shares)
        })
    }

    /// Records the answer to a worker's call, and gives the worker its next batch. Without a batch the worker is idle.
    /// `round_trip` is `None` if nothing was sent.
    pub(super) fn next(
        &self,
        worker: &Arc<Worker>,
        now: Moment,
        round_trip: Option<Duration>,
        batch: &mut Vec<T>,
    ) -> bool {
        self.change(|inner| {
            inner.answered(now, round_trip);
            inner.fill(worker, batch, self.shares)
        })
    }

    /// Stops counting a call that gets no answer, so that it does not delay other requests.
    pub(super) fn is_stuck(&self) {
        self.change(|inner| {
            inner.under_way -= 1;
            inner.stuck += 1;
        });
    }

    /// Counts such a call again, because it has been answered.
    pub(super) fn is_back(&self) {
        self.change(|inner| {
            inner.under_way += 1;
            inner.stuck -= 1;
        });
    }

    /// The shortest recent round trip, if there was one.
    pub(super) fn shortest_round_trip(&self) -> Option<Duration> {
        self.lock().window.shortest()
    }

    /// Ends the workers as soon as they are idle.
    pub(super) fn close(&self) {
        let idle = self.change(|inner| {
            inner.is_closed = true;
            std::mem::take(&mut inner.idle)
        });
        idle.iter().for_each(|worker| worker.wake.notify_one());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    fn change<R>(&self, change: impl FnOnce(&mut Inner<T>) -> R) -> R {
        let mut inner = self.lock();
        let result = change(&mut inner);
        self.queued.store(inner.queue.len(), Ordering::Release);
        self.under_way.store(inner.under_way, Ordering::Release);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Inner<T> {
    fn start_worker(&mut self, call: Option<HandedOver>) -> Start {
        self.under_way += 1;
        let idle = self.idle.pop();
        let was_idle = idle.is_some();
        let worker = idle.unwrap_or_default();
        if call.is_some() {
            *worker.lock() = call;
        }
        if was_idle {
            worker.wake.notify_one();
            Start::Woken
        } else {
            Start::New(worker)
        }
    }

    /// Gives a worker its share of the queue: all of it if the queue is short, otherwise a part, so that every call
    /// under way gets a share. The store can then work on one call while the client works on the answers of another.
    fn fill(&mut self, worker: &Arc<Worker>, batch: &mut Vec<T>, shares: Shares) -> bool {
        if self.queue.is_empty() || self.under_way > self.window.size() {
            self.under_way -= 1;
            if self.idle.len() < Window::MAX {
                self.idle.push(worker.clone());
            } else {
                worker.is_surplus.store(true, Ordering::Release);
            }
            return false;
        }
        let waiting = self.queue.len();
        // A resource that keeps the store busy returns to the queue. It should then delay few other requests.
        let worth_a_call = if self.stuck > 0 { FEW.min(shares.worth_a_call) } else { shares.worth_a_call };
        let share = waiting.div_ceil(self.window.size()).max(worth_a_call).min(shares.max).min(waiting);
        // A store that answers nothing gets repeated requests in larger calls, so that their number stays bounded.
        let least = waiting.div_ceil(self.window.size() * FEW);
        let (mut room, mut taken) = (share, 0);
        while let Some(&(_, most)) = self.queue.front()
            && taken < room.min(most.max(least))
            && let Some((request, _)) = self.queue.pop_front()
        {
            room = room.min(most.max(least));
            taken += 1;
            batch.push(request);
        }
        true
    }

    /// Updates the window with an answer.
    fn answered(&mut self, now: Moment, round_trip: Option<Duration>) {
        let Some(round_trip) = round_trip else { return };
        let is_full = !self.queue.is_empty() || self.under_way >= self.window.size();
        self.window.answered(now, round_trip, self.under_way, is_full);
    }
}

impl Worker {
    /// Takes the request that this worker has to await.
    pub(super) fn handed_over(&self) -> Option<HandedOver> {
        self.lock().take()
    }

    /// Whether this worker has no more work to expect.
    pub(super) fn is_surplus(&self) -> bool {
        self.is_surplus.load(Ordering::Acquire)
    }

    /// Resolves once there is work, or the lane is closed.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<HandedOver>> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
