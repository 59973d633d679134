//! Requests of one verb on their way to the store: some under way, the others in a queue, to go together.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::requests::{Answer, Sent};
use super::window::Window;
use crate::clock::Moment;

/// A request under way.
pub(super) type Call = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A request under way that a worker has to wait for, with its lease and the limit of the waiting.
pub(super) type HandedOver = (Sent, Duration, Call);

/// The requests of one verb.
///
/// No request ever waits for more to come: one that finds room in the [window](Window) is sent at once and alone. The others
/// queue, and the next worker that is free takes a batch of them.
#[derive(Debug)]
pub(super) struct Lane<T> {
    inner: Mutex<Inner<T>>,
    max_batch: usize,
}

/// Up to this many requests go together rather than over several calls.
const WORTH_A_CALL: usize = 16;

#[derive(Debug)]
struct Inner<T> {
    queue: VecDeque<T>,
    under_way: usize,
    window: Window,
    idle: Vec<Arc<Worker<T>>>,
    is_closed: bool,
}

/// A task that sends requests, one call after the other.
pub(super) struct Worker<T> {
    wake: Notify,
    job: Mutex<Job<T>>,
}

/// The next work of a worker.
pub(super) struct Job<T> {
    pub(super) batch: Vec<T>,
    /// A request that is under way already.
    pub(super) call: Option<HandedOver>,
}

/// A worker that has work to do.
pub(super) enum Start<T> {
    /// It was idle, and is awake.
    Woken,
    /// It is new, and needs a task.
    New(Arc<Worker<T>>),
}

impl<T> Lane<T> {
    pub(super) fn new(max_batch: usize) -> Self {
        let inner =
            Inner { queue: VecDeque::new(), under_way: 0, window: Window::new(), idle: Vec::new(), is_closed: false };
        Self { inner: Mutex::new(inner), max_batch }
    }

    /// Whether a request may be sent at once. If so it counts as under way until [`finished`](Self::finished) or
    /// [`hand_over`](Self::hand_over).
    pub(super) fn admit(&self) -> bool {
        let mut inner = self.lock();
        let is_admitted = inner.queue.is_empty() && inner.under_way < inner.window.size();
        inner.under_way += usize::from(is_admitted);
        is_admitted
    }

    /// Queues a request. [`start`](Self::start) has to follow, after this one or after several.
    pub(super) fn push(&self, request: T) {
        self.lock().queue.push_back(request);
    }

    /// Starts a worker on a batch, if requests wait and there is room in the window. The caller repeats this until `None`.
    pub(super) fn start(&self) -> Option<Start<T>> {
        let mut inner = self.lock();
        if inner.queue.is_empty() || inner.under_way >= inner.window.size() {
            return None;
        }
        inner.under_way += 1;
        let idle = inner.idle.pop();
        let worker = idle.clone().unwrap_or_default();
        self.fill(&mut inner, &worker);
        Some(worker.started(idle.is_some()))
    }

    /// Gives a request that was admitted, and is under way, to a worker.
    pub(super) fn hand_over(&self, call: HandedOver) -> Start<T> {
        let idle = self.lock().idle.pop();
        let worker = idle.clone().unwrap_or_default();
        worker.job().call = Some(call);
        worker.started(idle.is_some())
    }

    /// Takes note of the answer to a request that was admitted and not handed over.
    pub(super) fn finished(&self, now: Moment, round_trip: Option<Duration>) {
        let mut inner = self.lock();
        inner.answered(now, round_trip);
        inner.under_way -= 1;
    }

    /// Takes note of an answer, and gives the worker its next batch; without one the worker is idle from now on.
    pub(super) fn next(&self, worker: &Arc<Worker<T>>, now: Moment, round_trip: Option<Duration>) -> bool {
        let mut inner = self.lock();
        inner.answered(now, round_trip);
        if inner.queue.is_empty() || inner.under_way > inner.window.size() {
            inner.under_way -= 1;
            inner.idle.push(worker.clone());
            return false;
        }
        self.fill(&mut inner, worker);
        true
    }

    /// Stops counting a request that gets no answer, so that it holds nobody up.
    pub(super) fn is_stuck(&self) {
        self.lock().under_way -= 1;
    }

    /// Counts such a request again, because it is answered.
    pub(super) fn is_back(&self) {
        self.lock().under_way += 1;
    }

    /// Ends the workers once they are idle.
    pub(super) fn close(&self) {
        let idle = {
            let mut inner = self.lock();
            inner.is_closed = true;
            std::mem::take(&mut inner.idle)
        };
        idle.iter().for_each(|worker| worker.wake.notify_one());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Gives a worker its share of the queue: all of it if that is little, else enough that every request under way has
    /// something to carry. The store then works on one call while this side works on the answers of another.
    fn fill(&self, inner: &mut Inner<T>, worker: &Worker<T>) {
        let waiting = inner.queue.len();
        let share = waiting.div_ceil(inner.window.size()).max(WORTH_A_CALL).min(self.max_batch).min(waiting);
        worker.job().batch.extend(inner.queue.drain(..share));
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Inner<T> {
    /// Lets the window learn from an answer; `None` if nothing was sent.
    fn answered(&mut self, now: Moment, round_trip: Option<Duration>) {
        let Some(round_trip) = round_trip else { return };
        let is_full = !self.queue.is_empty() || self.under_way >= self.window.size();
        self.window.answered(now, round_trip, self.under_way, is_full);
    }
}

impl<T> Worker<T> {
    pub(super) fn job(&self) -> MutexGuard<'_, Job<T>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once there is work, or the lane is closed.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    fn started(self: Arc<Self>, was_idle: bool) -> Start<T> {
        if was_idle {
            self.wake.notify_one();
            Start::Woken
        } else {
            Start::New(self)
        }
    }
}

impl<T> Default for Worker<T> {
    fn default() -> Self {
        Self { wake: Notify::new(), job: Mutex::new(Job { batch: Vec::new(), call: None }) }
    }
}

impl<T> fmt::Debug for Worker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_nanos(0);
    const ROUND_TRIP: Option<Duration> = Some(Duration::from_millis(1));

    /// The batch of the worker that starts.
    fn start(lane: &Lane<usize>) -> Option<(Arc<Worker<usize>>, Vec<usize>)> {
        match lane.start()? {
            Start::New(worker) => {
                let batch = std::mem::take(&mut worker.job().batch);
                Some((worker, batch))
            }
            Start::Woken => panic!("no worker is idle"),
        }
    }

    #[test]
    fn lone_requests_do_not_wait_for_each_other() {
        let lane = Lane::<usize>::new(256);
        assert!((0..10).all(|_| lane.admit()), "ten requests of one moment are sent at once");
    }

    #[test]
    fn queued_requests_go_together() {
        let lane = Lane::new(3);
        while lane.admit() {}
        (0..4).for_each(|request| lane.push(request));
        assert!(lane.start().is_none());
        lane.finished(NOW, ROUND_TRIP);
        assert!(!lane.admit(), "a new request does not overtake the queue");
        let (worker, batch) = start(&lane).expect("one request was answered");
        assert_eq!(batch, [0, 1, 2]);
        assert!(lane.next(&worker, NOW, ROUND_TRIP));
        assert_eq!(std::mem::take(&mut worker.job().batch), [3]);
        assert!(!lane.next(&worker, NOW, ROUND_TRIP), "the worker is idle");
        assert!(lane.admit());
    }

    #[test]
    fn many_requests_are_shared_among_the_calls() {
        let lane = Lane::new(1000);
        (0..320).for_each(|request| lane.push(request));
        let shares: Vec<usize> = std::iter::from_fn(|| start(&lane)).map(|(_, batch)| batch.len()).collect();
        assert_eq!((shares[0], shares.len()), (20, 16), "{shares:?}");
        assert!(shares.iter().all(|share| *share >= WORTH_A_CALL), "{shares:?}");
    }

    #[test]
    fn idle_worker_is_used_again() {
        let lane = Lane::new(10);
        lane.push(1);
        let (worker, _) = start(&lane).expect("there is room");
        assert!(!lane.next(&worker, NOW, ROUND_TRIP));
        lane.push(2);
        assert!(matches!(lane.start(), Some(Start::Woken)));
        assert_eq!(worker.job().batch, [2]);
    }

    #[test]
    fn stuck_requests_hold_nobody_up() {
        let lane = Lane::<usize>::new(10);
        while lane.admit() {}
        lane.is_stuck();
        assert!(lane.admit() && !lane.admit());
    }
}
