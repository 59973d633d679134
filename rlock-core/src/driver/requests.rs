//! Requests to the store, alone or in batches, and their answers.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::task::unconstrained;
use tokio::time::timeout;

use super::lane::{Call, Start, Worker};
use super::step::{Report, Sending, quietly};
use super::{Driver, LONGEST_CALL, Slot};
use crate::clock::Moment;
use crate::contract::{Acquired, BackendError, Claim, Extended, Extension, Failure, IfBusy, LeaseKey, Released, Ttl};
use crate::lease::{Fault, Input, Order, Verb};
use crate::metrics;

/// A request without an answer for so long does not count as under way any more, so that it holds nobody up.
const STUCK: Duration = Duration::from_secs(1);

/// A lease whose request was sent.
pub(super) struct Sent {
    slot: Arc<Slot>,
    /// The number of the request.
    call: u32,
    /// A moment before the request was sent.
    began: Moment,
}

/// The answer of the store to the request of one lease.
pub(super) enum Answer {
    Claimed(Result<Acquired, BackendError>),
    Extended(Result<Extended, BackendError>),
    Released(Result<Released, BackendError>),
}

/// The buffers of a worker, used again for each batch.
#[derive(Default)]
struct Buffers {
    sent: Vec<Sent>,
    claims: Vec<Claim>,
    extensions: Vec<Extension>,
    keys: Vec<LeaseKey>,
}

impl Driver {
    /// Sends a request at once and alone if its lane has room.
    ///
    /// With `is_awaited`, and on the client's runtime, the request is polled for the first time here, so that it is on its way
    /// before a worker is awake, and a store that answers at once needs none. On another runtime it is not: a future may leave
    /// its waker with the runtime that polls it, which may end, or stand still, before it wakes that future.
    pub(super) fn send(self: &Arc<Self>, verb: Verb, slot: &Arc<Slot>, began: Moment, is_awaited: bool) {
        let lane = self.lane(verb);
        if !lane.admit() {
            lane.push(slot.clone());
            self.start(verb);
            return;
        }
        let mut round_trip = None;
        if let Some((call, order)) = self.begin(verb, slot, began) {
            let sent = Sent { slot: slot.clone(), call, began };
            let mut call = self.call_of_one(slot, order);
            let polled = if is_awaited && self.is_on_its_runtime() {
                // Without the budget of this task, whose end would leave the waker with the runtime as well.
                pin!(unconstrained(call.as_mut())).poll(&mut Context::from_waker(Waker::noop()))
            } else {
                Poll::Pending
            };
            let Poll::Ready(answer) = polled else {
                self.run(verb, lane.hand_over((sent, limit_of(order), call)));
                return;
            };
            let ended = self.now();
            round_trip = Some(ended.since(began));
            self.answered(&sent, answer, ended);
            self.start_follow_ups(verb);
        }
        lane.finished(began, round_trip);
        self.start(verb);
    }

    fn is_on_its_runtime(&self) -> bool {
        Handle::try_current().is_ok_and(|current| current.id() == self.runtime.id())
    }

    /// Starts workers on the requests that wait in a lane.
    pub(super) fn start(self: &Arc<Self>, verb: Verb) {
        while let Some(start) = self.lane(verb).start() {
            self.run(verb, start);
        }
    }

    fn run(self: &Arc<Self>, verb: Verb, start: Start<Arc<Slot>>) {
        if let Start::New(worker) = start {
            self.runtime.spawn(self.clone().work(verb, worker));
        }
    }

    /// Sends the requests of a lane, one batch after the other, until the lane is closed.
    async fn work(self: Arc<Self>, verb: Verb, worker: Arc<Worker<Arc<Slot>>>) {
        let lane = self.lane(verb);
        let (mut batch, mut buffers) = (Vec::new(), Buffers::default());
        loop {
            let call = {
                let mut job = worker.job();
                std::mem::swap(&mut batch, &mut job.batch);
                job.call.take()
            };
            let mut began = None;
            let is_idle = call.is_none() && batch.is_empty();
            if let Some((sent, limit, call)) = call {
                began = Some(sent.began);
                let answer = self.bounded(verb, limit, call).await;
                self.answered(&sent, answer.unwrap_or_else(|| self.no_answer(verb, limit)), self.now());
                self.start_follow_ups(verb);
            }
            if !batch.is_empty() {
                began = self.send_batch(verb, &mut batch, &mut buffers).await;
            }
            let now = self.now();
            if is_idle || !lane.next(&worker, now, began.map(|began| now.since(began))) {
                if lane.is_closed() {
                    return;
                }
                worker.woken().await;
            }
        }
    }

    /// Awaits a call for `limit` at most. A call that takes longer than [`STUCK`] gives up its place in the lane's window.
    async fn bounded<T>(self: &Arc<Self>, verb: Verb, limit: Duration, call: impl Future<Output = T>) -> Option<T> {
        let mut call = pin!(call);
        if let Ok(answer) = timeout(STUCK, &mut call).await {
            return Some(answer);
        }
        self.lane(verb).is_stuck();
        self.start(verb);
        let answer = timeout(limit.saturating_sub(STUCK), call).await.ok();
        self.lane(verb).is_back();
        answer
    }

    fn call_of_one(self: &Arc<Self>, slot: &Arc<Slot>, order: Order) -> Call {
        let (this, key) = (self.clone(), slot.key.clone());
        match order {
            Order::Claim { queue, ttl } => {
                let claims = [self.claim_of(slot, queue, ttl)];
                Box::pin(async move {
                    let mut answers = this.guarded("acquire", 1, async { this.backend.acquire(&claims).await }).await;
                    Answer::Claimed(answers.pop().expect("one answer"))
                })
            }
            Order::Extend { ttl } => Box::pin(async move {
                let extensions = [Extension { key, ttl }];
                let mut answers = this.guarded("extend", 1, async { this.backend.extend(&extensions).await }).await;
                Answer::Extended(answers.pop().expect("one answer"))
            }),
            Order::Release => Box::pin(async move {
                let keys = [key];
                let mut answers = this.guarded("release", 1, async { this.backend.release(&keys).await }).await;
                Answer::Released(answers.pop().expect("one answer"))
            }),
        }
    }

    /// Sends one call for a batch, and returns when it was begun; `None` if no request of the batch is wanted any more.
    async fn send_batch(
        self: &Arc<Self>,
        verb: Verb,
        batch: &mut Vec<Arc<Slot>>,
        buffers: &mut Buffers,
    ) -> Option<Moment> {
        let Buffers { sent, claims, extensions, keys } = buffers;
        let began = self.now();
        let mut limit = STUCK;
        for slot in batch.drain(..) {
            let Some((call, order)) = self.begin(verb, &slot, began) else { continue };
            limit = limit.max(limit_of(order));
            match order {
                Order::Claim { queue, ttl } => claims.push(self.claim_of(&slot, queue, ttl)),
                Order::Extend { ttl } => extensions.push(Extension { key: slot.key.clone(), ttl }),
                Order::Release => keys.push(slot.key.clone()),
            }
            sent.push(Sent { slot, call, began });
        }
        let count = sent.len();
        if count == 0 {
            return None;
        }
        match verb {
            Verb::Claim => {
                let call = self.guarded("acquire", count, async { self.backend.acquire(claims).await });
                let answers = self.bounded(verb, limit, call).await;
                self.all_answered(sent, answers.map(|answers| answers.into_iter().map(Answer::Claimed)), verb, limit);
                claims.clear();
            }
            Verb::Extend => {
                let call = self.guarded("extend", count, async { self.backend.extend(extensions).await });
                let answers = self.bounded(verb, limit, call).await;
                self.all_answered(sent, answers.map(|answers| answers.into_iter().map(Answer::Extended)), verb, limit);
                extensions.clear();
            }
            Verb::Release => {
                let call = self.guarded("release", count, async { self.backend.release(keys).await });
                let answers = self.bounded(verb, limit, call).await;
                self.all_answered(sent, answers.map(|answers| answers.into_iter().map(Answer::Released)), verb, limit);
                keys.clear();
            }
        }
        self.start_follow_ups(verb);
        Some(began)
    }

    /// Sends the requests that follow from the answers to requests of `verb`: a lease that was claimed is extended, or released
    /// if nobody waits for it any more, and so is one that was extended.
    fn start_follow_ups(self: &Arc<Self>, verb: Verb) {
        if verb != Verb::Release {
            self.start(Verb::Extend);
            self.start(Verb::Release);
        }
    }

    /// Feeds the answers of a batch to its leases, or that none has come within `limit`.
    fn all_answered(
        self: &Arc<Self>,
        sent: &mut Vec<Sent>,
        answers: Option<impl Iterator<Item = Answer>>,
        verb: Verb,
        limit: Duration,
    ) {
        let now = self.now();
        match answers {
            Some(answers) => sent.drain(..).zip(answers).for_each(|(sent, answer)| self.answered(&sent, answer, now)),
            None => sent.drain(..).for_each(|sent| self.answered(&sent, self.no_answer(verb, limit), now)),
        }
    }

    fn answered(self: &Arc<Self>, sent: &Sent, answer: Answer, at: Moment) {
        let took = at.since(sent.began);
        let report = |error: Option<&BackendError>, extension| Report { at, took, error: error.cloned(), extension };
        let (report, input) = match answer {
            Answer::Claimed(answer) => {
                (report(answer.as_ref().err(), None), Input::Claimed(sent.call, answer.map_err(|error| fault(&error))))
            }
            Answer::Extended(answer) => {
                let kind = match &answer {
                    Ok(Extended::Held(_)) => metrics::Answer::Done,
                    Ok(_) => metrics::Answer::Gone,
                    Err(_) => metrics::Answer::Failed,
                };
                let report = report(answer.as_ref().err(), Some(kind));
                (report, Input::Extended(sent.call, answer.map_err(|error| fault(&error))))
            }
            Answer::Released(answer) => {
                (report(answer.as_ref().err(), None), Input::Released(sent.call, answer.map_err(|error| fault(&error))))
            }
        };
        // A waker of the user's that panics costs the other leases of the batch nothing.
        quietly(|| self.step_with(&sent.slot, input, Some(report), Sending::Later, |_, _| {}));
    }

    /// The order of a lease whose turn has come, with the number of the request.
    fn begin(&self, verb: Verb, slot: &Arc<Slot>, now: Moment) -> Option<(u32, Order)> {
        let mut state = slot.lock();
        let order = state.lease.begin(verb, now)?;
        self.set_timer(slot, &mut state);
        Some(order)
    }

    fn claim_of(&self, slot: &Slot, queue: bool, ttl: Ttl) -> Claim {
        let if_busy = if queue { IfBusy::Queue } else { IfBusy::Refuse };
        Claim { key: slot.key.clone(), share: slot.share, ttl, if_busy, owner: self.owner.clone() }
    }

    /// The answers to a call of `count` entries, one for each even if the backend panics.
    async fn guarded<T>(
        &self,
        operation: &'static str,
        count: usize,
        call: impl Future<Output = Vec<Result<T, BackendError>>>,
    ) -> Vec<Result<T, BackendError>> {
        let reason = match AssertUnwindSafe(call).catch_unwind().await {
            Ok(answers) if answers.len() == count => return answers,
            Ok(answers) => format!("the backend gave {} answers to {count} requests", answers.len()),
            Err(_) => "the backend panicked".to_owned(),
        };
        self.failed(operation, count, reason)
    }

    fn failed<T>(&self, operation: &'static str, count: usize, reason: String) -> Vec<Result<T, BackendError>> {
        let failure = self.failure(operation, reason);
        (0..count).map(|_| Err(failure.clone())).collect()
    }

    fn no_answer(&self, verb: Verb, limit: Duration) -> Answer {
        let failure = |operation| self.failure(operation, format!("no answer within {limit:?}"));
        match verb {
            Verb::Claim => Answer::Claimed(Err(failure("acquire"))),
            Verb::Extend => Answer::Extended(Err(failure("extend"))),
            Verb::Release => Answer::Released(Err(failure("release"))),
        }
    }

    fn failure(&self, operation: &'static str, reason: String) -> BackendError {
        quietly(|| tracing::error!(backend = %self.store, operation, %reason, "the backend broke its contract"));
        BackendError::Unknown(Failure::new(operation, self.store.clone(), reason))
    }
}

/// The time after which the answer to a request is of no use: for an extension half of the life that it asks for.
fn limit_of(order: Order) -> Duration {
    match order {
        Order::Extend { ttl } => (ttl.get() / 2).clamp(STUCK, LONGEST_CALL),
        Order::Claim { .. } | Order::Release => LONGEST_CALL,
    }
}

fn fault(error: &BackendError) -> Fault {
    if error.may_have_been_applied() {
        Fault::Unknown
    } else if error.is_transient() {
        Fault::NotApplied
    } else {
        Fault::Rejected
    }
}
