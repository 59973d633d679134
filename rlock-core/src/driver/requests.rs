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
use super::lanes::LaneId;
use super::observe::Report;
use super::quietly::quietly;
use super::step::Sending;
use super::together::collect;
use super::{Driver, Slot};
use crate::clock::Moment;
use crate::contract::{BackendError, Claim, Extended, Extension, Failure, IfBusy, Release, Ttl};
use crate::lease::{Fault, Input, Order, Verb};
use crate::metrics;

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
    /// the lane. A request that is awaited together with others waits for the end of the poll. Also sets the timer of its
    /// lease, in the schedule or with the call.
    ///
    /// With `is_awaited`, and on the client's runtime, the request is polled for the first time here. So it is on its
    /// way before a worker is awake, and a store that answers at once needs no worker. On another runtime it is not
    /// polled here: a future may leave its waker with the runtime that polls it, and that runtime may end or stop
    /// before it wakes the future.
    pub(super) fn send(self: &Arc<Self>, verb: Verb, slot: &Arc<Slot>, began: Moment, is_awaited: bool) {
        let id = LaneId { verb, is_repeated: false };
        let lane = self.lane(id);
        if is_awaited && collect(self, verb, slot) {
            self.set_timer(slot, &mut slot.lock());
            return;
        }
        let is_alone = is_awaited && lane.is_quiet() && slot.unanswered(verb) == 0;
        if !is_alone || !self.is_on_its_runtime() {
            self.set_timer(slot, &mut slot.lock());
            let is_repeated = self.lanes(verb).push(verb, slot);
            self.start(LaneId { verb, is_repeated });
            return;
        }
        let Some((sent, order, limit)) = self.begin(verb, slot, began) else { return };
        let mut call = self.call_of_one(slot, order);
        // Unconstrained, because a future that finds the budget of this task used up would also leave its waker with
        // the runtime.
        match pin!(unconstrained(call.as_mut())).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => {
                self.answered(&sent, answer, self.now());
                self.start_follow_ups(verb);
            }
            Poll::Pending => self.run(id, lane.hand_over((sent, limit, call))),
        }
    }

    /// Sends requests by workers, in one call if they are few.
    pub(super) fn send_all(self: &Arc<Self>, verb: Verb, slots: Vec<Arc<Slot>>) {
        self.lanes(verb).push_all(verb, slots);
        self.start_both(verb);
    }

    /// Begins a request. Its limit contains the timer that its lease needs from now on, if the schedule does not have
    /// it. `None` if the request is no longer needed.
    fn begin(&self, verb: Verb, slot: &Arc<Slot>, began: Moment) -> Option<(Sent, Order, Limit)> {
        let mut state = slot.lock();
        let Some((call, order)) = state.lease.begin(verb, began) else {
            self.set_timer(slot, &mut state);
            return None;
        };
        let limit = Limit::new(order, state.lease.terms(), began, state.missing_timer());
        slot.sent_among(1);
        Some((Sent { slot: slot.clone(), call, began }, order, limit))
    }

    fn is_on_its_runtime(&self) -> bool {
        Handle::try_current().is_ok_and(|current| current.id() == self.runtime.id())
    }

    /// Starts a worker for the requests that wait in a lane.
    fn start(self: &Arc<Self>, id: LaneId) {
        if let Some(start) = self.lane(id).start() {
            self.run(id, start);
        }
    }

    /// Starts a worker for each lane of `verb` that has waiting requests.
    pub(super) fn start_both(self: &Arc<Self>, verb: Verb) {
        LaneId::of(verb).into_iter().for_each(|id| self.start(id));
    }

    fn run(self: &Arc<Self>, id: LaneId, start: Start) {
        if let Start::New(worker) = start {
            self.runtime.spawn(self.clone().work(id, worker));
        }
    }

    /// Sends the requests of a lane, one batch after the other, until the lane is closed.
    async fn work(self: Arc<Self>, id: LaneId, worker: Arc<Worker>) {
        let (lane, verb) = (self.lane(id), id.verb);
        // A call that was stuck does not show how busy the store is.
        let round_trip = |took: Duration| (took < self.stuck_after(id)).then_some(took);
        let mut desk = Desk::default();
        while !lane.is_closed() {
            let mut has_batch = if let Some((sent, limit, call)) = worker.handed_over() {
                let answer = self.bounded(id, limit, std::slice::from_ref(&sent), call).await;
                let now = self.now();
                let no_answer = || Answer::failure(verb, self.no_answer(verb, limit));
                self.answered(&sent, answer.unwrap_or_else(no_answer), now);
                self.start_follow_ups(verb);
                lane.next(&worker, now, round_trip(now.since(sent.began)), &mut desk.batch)
            } else {
                behind_others().await;
                lane.first(&worker, &mut desk.batch)
            };
            while has_batch {
                self.start(id); // for the requests beyond this batch
                tokio::task::consume_budget().await; // the store may answer each call at once
                let began = self.send_batch(id, &mut desk).await;
                let now = self.now();
                let took = began.and_then(|began| round_trip(now.since(began)));
                has_batch = lane.next(&worker, now, took, &mut desk.batch);
            }
            if lane.is_closed() || worker.is_surplus() {
                return; // `close` found this worker busy and will not wake it, or there are enough others
            }
            worker.woken().await;
        }
    }

    /// Awaits a call within its limit. A call that is [stuck](super::lanes::Lanes::stuck_after) gives up its place in
    /// the lane's window, and its leases leave it.
    async fn bounded<T>(
        self: &Arc<Self>,
        id: LaneId,
        limit: Limit,
        sent: &[Sent],
        call: impl Future<Output = T>,
    ) -> Option<T> {
        let mut is_stuck = false;
        let answer = async {
            let mut call = pin!(call);
            let stuck_after = self.stuck_after(id);
            let first = limit.timer.map_or(stuck_after, |timer| timer.since(self.now())).min(stuck_after);
            if let Ok(answer) = timeout(first, &mut call).await {
                return Some(answer);
            }
            sent.iter().for_each(|sent| self.set_timer(&sent.slot, &mut sent.slot.lock()));
            if let Ok(answer) = timeout(stuck_after - first, &mut call).await {
                return Some(answer);
            }
            is_stuck = true;
            sent.iter().for_each(|sent| sent.slot.left_unanswered());
            self.lane(id).is_stuck();
            self.start(id);
            timeout(limit.longest.saturating_sub(stuck_after), call).await.ok()
        };
        // The call itself does not panic, but its drop may.
        let answer = AssertUnwindSafe(answer).catch_unwind().await.ok().flatten();
        if is_stuck {
            self.lane(id).is_back();
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
    async fn send_batch(self: &Arc<Self>, id: LaneId, desk: &mut Desk) -> Option<Moment> {
        let Desk { batch, sent, claims, extensions, releases } = desk;
        let (began, verb) = (self.now(), id.verb);
        let mut limit = Limit::NONE;
        for slot in batch.drain(..) {
            let Some((begun, order, own)) = self.begin(verb, &slot, began) else { continue };
            limit = limit.and(own);
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
        if count > 1 {
            limit = limit.shared(verb, self.settings.retry_for);
            sent.iter().for_each(|sent| sent.slot.sent_among(count));
        }
        match verb {
            Verb::Claim => {
                let call = self.guarded("acquire", count, async { self.backend.acquire(claims).await });
                let answers = self.bounded(id, limit, sent, call).await;
                self.all_answered(sent, answers.map(|answers| answers.into_iter().map(Answer::Claimed)), verb, limit);
                claims.clear();
            }
            Verb::Extend => {
                let call = self.guarded("extend", count, async { self.backend.extend(extensions).await });
                let answers = self.bounded(id, limit, sent, call).await;
                self.all_answered(sent, answers.map(|answers| answers.into_iter().map(Answer::Extended)), verb, limit);
                extensions.clear();
            }
            Verb::Release => {
                let call = self.guarded("release", count, async { self.backend.release(releases).await });
                let answers = self.bounded(id, limit, sent, call).await;
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
            self.start_both(Verb::Extend);
            self.start_both(Verb::Release);
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
            None => {
                let error = self.no_answer(verb, limit);
                sent.drain(..).for_each(|sent| self.answered(&sent, Answer::failure(verb, error.clone()), now));
            }
        }
    }

    fn answered(self: &Arc<Self>, sent: &Sent, answer: Answer, at: Moment) {
        // A request whose call got no answer is repeated in a smaller one.
        if answer.error().is_some_and(BackendError::may_have_been_applied) {
            sent.slot.left_unanswered();
        } else {
            sent.slot.answered();
        }
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

    fn no_answer(&self, verb: Verb, limit: Limit) -> BackendError {
        let operation = match verb {
            Verb::Claim => "acquire",
            Verb::Extend => "extend",
            Verb::Release => "release",
        };
        self.failure(operation, format!("no answer within {:?}", limit.longest))
    }

    fn failure(&self, operation: &'static str, reason: String) -> BackendError {
        let (backend, text) = (self.store.clone(), reason.clone());
        self.log.add(&self.runtime, move || {
            tracing::error!(%backend, operation, reason = %text, "the backend broke its contract");
        });
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

fn fault(error: &BackendError) -> Fault {
    if error.may_have_been_applied() {
        Fault::Unknown
    } else if error.is_transient() {
        Fault::NotApplied
    } else {
        Fault::Rejected
    }
}
