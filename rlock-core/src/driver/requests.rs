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

use super::call::{Answer, Call, Limit, Sent};
use super::lane::{Start, Worker};
use super::observe::Report;
use super::quietly::quietly;
use super::step::Sending;
use super::together::is_together;
use super::{Driver, LONGEST_CALL, Slot};
use crate::clock::Moment;
use crate::contract::{BackendError, Claim, Extended, Extension, Failure, IfBusy, Release, Ttl};
use crate::lease::{Fault, Input, Order, Verb};
use crate::metrics;

/// A request without an answer after this time no longer counts as under way, so that it does not delay other requests.
const STUCK: Duration = Duration::from_secs(1);

/// The buffers of a worker, reused for each batch.
#[derive(Default)]
struct Desk {
    batch: Vec<Arc<Slot>>,
    /// The requests under way.
    sent: Vec<Sent>,
    claims: Vec<Claim>,
    extensions: Vec<Extension>,
    releases: Vec<Release>,
}

impl Driver {
    /// Sends a request: at once and alone if its lane is quiet and its user waits for it alone, otherwise by a worker of
    /// the lane. Also sets the timer of its lease, in the schedule or with the call.
    ///
    /// With `is_awaited`, and on the client's runtime, the request is polled for the first time here. So it is on its
    /// way before a worker is awake, and a store that answers at once needs no worker. On another runtime it is not
    /// polled here: a future may leave its waker with the runtime that polls it, and that runtime may end or stop
    /// before it wakes the future.
    pub(super) fn send(self: &Arc<Self>, verb: Verb, slot: &Arc<Slot>, began: Moment, is_awaited: bool) {
        let lane = self.lane(verb);
        if !is_awaited || is_together() || !lane.is_quiet() || !self.is_on_its_runtime() {
            self.set_timer(slot, &mut slot.lock());
            lane.push(slot.clone());
            self.start(verb);
            return;
        }
        let Some((sent, order, timer)) = self.begin(verb, slot, began) else { return };
        let mut call = self.call_of_one(slot, order);
        // Unconstrained, because a future that finds the budget of this task used up would also leave its waker with
        // the runtime.
        match pin!(unconstrained(call.as_mut())).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => {
                self.answered(&sent, answer, self.now());
                self.start_follow_ups(verb);
            }
            Poll::Pending => {
                let limit = Limit { longest: limit_of(order), timer };
                self.run(verb, lane.hand_over((sent, limit, call)));
            }
        }
    }

    /// Begins a request. Also returns the timer that its lease needs from now on, if the schedule does not have it.
    /// `None` if the request is no longer needed.
    fn begin(&self, verb: Verb, slot: &Arc<Slot>, began: Moment) -> Option<(Sent, Order, Option<Moment>)> {
        let mut state = slot.lock();
        let Some((call, order)) = state.lease.begin(verb, began) else {
            self.set_timer(slot, &mut state);
            return None;
        };
        Some((Sent { slot: slot.clone(), call, began }, order, state.missing_timer()))
    }

    fn is_on_its_runtime(&self) -> bool {
        Handle::try_current().is_ok_and(|current| current.id() == self.runtime.id())
    }

    /// Starts a worker for the requests that wait in a lane.
    pub(super) fn start(self: &Arc<Self>, verb: Verb) {
        if let Some(start) = self.lane(verb).start() {
            self.run(verb, start);
        }
    }

    fn run(self: &Arc<Self>, verb: Verb, start: Start) {
        if let Start::New(worker) = start {
            self.runtime.spawn(self.clone().work(verb, worker));
        }
    }

    /// Sends the requests of a lane, one batch after the other, until the lane is closed.
    async fn work(self: Arc<Self>, verb: Verb, worker: Arc<Worker>) {
        let lane = self.lane(verb);
        let mut desk = Desk::default();
        while !lane.is_closed() {
            let mut has_batch = if let Some((sent, limit, call)) = worker.handed_over() {
                let answer = self.bounded(verb, limit, std::slice::from_ref(&sent), call).await;
                let now = self.now();
                self.answered(&sent, answer.unwrap_or_else(|| self.no_answer(verb, limit)), now);
                self.start_follow_ups(verb);
                lane.next(&worker, now, Some(now.since(sent.began)), &mut desk.batch)
            } else {
                behind_others().await;
                lane.first(&worker, &mut desk.batch)
            };
            while has_batch {
                self.start(verb); // for the requests beyond this batch
                let began = self.send_batch(verb, &mut desk).await;
                let now = self.now();
                has_batch = lane.next(&worker, now, began.map(|began| now.since(began)), &mut desk.batch);
            }
            if lane.is_closed() || worker.is_surplus() {
                return; // `close` found this worker busy and will not wake it, or there are enough others
            }
            worker.woken().await;
        }
    }

    /// Awaits a call within its limit. A call that takes longer than [`STUCK`] gives up its place in the lane's window.
    async fn bounded<T>(
        self: &Arc<Self>,
        verb: Verb,
        limit: Limit,
        sent: &[Sent],
        call: impl Future<Output = T>,
    ) -> Option<T> {
        let mut is_stuck = false;
        let answer = async {
            let mut call = pin!(call);
            let first = limit.timer.map_or(STUCK, |timer| timer.since(self.now())).min(STUCK);
            if let Ok(answer) = timeout(first, &mut call).await {
                return Some(answer);
            }
            sent.iter().for_each(|sent| self.set_timer(&sent.slot, &mut sent.slot.lock()));
            if let Ok(answer) = timeout(STUCK - first, &mut call).await {
                return Some(answer);
            }
            is_stuck = true;
            self.lane(verb).is_stuck();
            self.start(verb);
            timeout(limit.longest.saturating_sub(STUCK), call).await.ok()
        };
        // The call itself does not panic, but its drop may.
        let answer = AssertUnwindSafe(answer).catch_unwind().await.ok().flatten();
        if is_stuck {
            self.lane(verb).is_back();
        }
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
            Order::Release { rest } => Box::pin(async move {
                let releases = [Release { key, rest }];
                let mut answers = this.guarded("release", 1, async { this.backend.release(&releases).await }).await;
                Answer::Released(answers.pop().expect("one answer"))
            }),
        }
    }

    /// Sends one call for a batch, and returns the moment when the call began; `None` if no request of the batch is
    /// still needed.
    async fn send_batch(self: &Arc<Self>, verb: Verb, desk: &mut Desk) -> Option<Moment> {
        let Desk { batch, sent, claims, extensions, releases } = desk;
        let began = self.now();
        let mut limit = Limit { longest: STUCK, timer: None };
        for slot in batch.drain(..) {
            let Some((begun, order, timer)) = self.begin(verb, &slot, began) else { continue };
            limit.longest = limit.longest.max(limit_of(order));
            limit.timer = [limit.timer, timer].into_iter().flatten().min();
            match order {
                Order::Claim { queue, ttl } => claims.push(self.claim_of(&slot, queue, ttl)),
                Order::Extend { ttl } => extensions.push(Extension { key: slot.key.clone(), ttl }),
                Order::Release { rest } => releases.push(Release { key: slot.key.clone(), rest }),
            }
            sent.push(begun);
        }
        let count = sent.len();
        if count == 0 {
            return None;
        }
        match verb {
            Verb::Claim => {
                let call = self.guarded("acquire", count, async { self.backend.acquire(claims).await });
                let answers = self.bounded(verb, limit, sent, call).await;
                self.all_answered(sent, answers.map(|answers| answers.into_iter().map(Answer::Claimed)), verb, limit);
                claims.clear();
            }
            Verb::Extend => {
                let call = self.guarded("extend", count, async { self.backend.extend(extensions).await });
                let answers = self.bounded(verb, limit, sent, call).await;
                self.all_answered(sent, answers.map(|answers| answers.into_iter().map(Answer::Extended)), verb, limit);
                extensions.clear();
            }
            Verb::Release => {
                let call = self.guarded("release", count, async { self.backend.release(releases).await });
                let answers = self.bounded(verb, limit, sent, call).await;
                self.all_answered(sent, answers.map(|answers| answers.into_iter().map(Answer::Released)), verb, limit);
                releases.clear();
            }
        }
        self.start_follow_ups(verb);
        Some(began)
    }

    /// Sends the requests that follow from the answers to requests of `verb`. A lease that was claimed or extended may
    /// need an extension, or a release if its user has left.
    fn start_follow_ups(self: &Arc<Self>, verb: Verb) {
        if verb != Verb::Release {
            self.start(Verb::Extend);
            self.start(Verb::Release);
        }
    }

    /// Passes the answers of a batch to its leases, or a failure if none has come within `limit`.
    fn all_answered(
        self: &Arc<Self>,
        sent: &mut Vec<Sent>,
        answers: Option<impl Iterator<Item = Answer>>,
        verb: Verb,
        limit: Limit,
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
                let outcome = match &answer {
                    Ok(Extended::Held(_)) => metrics::RequestOutcome::Done,
                    Ok(_) => metrics::RequestOutcome::Gone,
                    Err(_) => metrics::RequestOutcome::Failed,
                };
                let report = report(answer.as_ref().err(), Some(outcome));
                (report, Input::Extended(sent.call, answer.map_err(|error| fault(&error))))
            }
            Answer::Released(answer) => {
                (report(answer.as_ref().err(), None), Input::Released(sent.call, answer.map_err(|error| fault(&error))))
            }
        };
        // A user's waker that panics does not affect the other leases of the batch.
        quietly(|| self.step_with(&sent.slot, input, Some(report), Sending::Later, |_, _| {}));
    }

    fn claim_of(&self, slot: &Slot, queue: bool, ttl: Ttl) -> Claim {
        let if_busy = if queue { IfBusy::Queue } else { IfBusy::Refuse };
        let (key, owner, data) =
            (slot.key.clone(), slot.owner.as_ref().unwrap_or(&self.owner).clone(), slot.data.clone());
        Claim { key, share: slot.share, ttl, if_busy, owner, data }
    }

    /// Returns the answers to a call of `count` entries, one for each entry, even if the backend panics.
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

    fn no_answer(&self, verb: Verb, limit: Limit) -> Answer {
        let failure = |operation| self.failure(operation, format!("no answer within {:?}", limit.longest));
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

/// Yields once to the tasks that are ready, because they may have requests to send as well.
async fn behind_others() {
    let mut is_behind = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut is_behind, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The time after which the answer to a request is useless: for an extension half of the life that it requests.
fn limit_of(order: Order) -> Duration {
    match order {
        Order::Extend { ttl } => (ttl.get() / 2).clamp(STUCK, LONGEST_CALL),
        Order::Claim { .. } | Order::Release { .. } => LONGEST_CALL,
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
