//! The life of a driver: its loop, the events of the store, and its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, StreamExt as _};

use super::Driver;
use super::quietly::quietly;
use super::schedule::Timer;
use super::step::Sending;
use super::together::send_collected;
use crate::clock::Moment;
use crate::contract::{Event, EventStream, LeaseId};
use crate::error::ShutdownError;
use crate::lease::{Hint, Input, Verb};

/// The minimum time for which a client without handles continues its releases.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// The maximum time for which the end of a client waits for its last reports.
const REPORT_LIMIT: Duration = Duration::from_millis(100);

impl Driver {
    /// Handles the schedule and the store's events until the client has no handle. The driver ends with the future,
    /// even if the future is never polled.
    pub(crate) fn drive(self: Arc<Self>, events: EventStream) -> impl Future<Output = ()> + Send {
        let on_every_way_out = MarkDead(self.clone());
        async move {
            let _on_every_way_out = on_every_way_out;
            self.attend_to_all(events).await;
        }
    }

    async fn attend_to_all(self: Arc<Self>, events: EventStream) {
        let listener = self.runtime.spawn(self.clone().listen(events));
        let mut due = Vec::new();
        let mut drained = None;
        loop {
            let emptied = self.leases.emptied();
            let next = self.schedule.take_due(self.now(), 4096, &mut due);
            for timer in due.drain(..) {
                self.fire(&timer);
            }
            self.start_all();
            if self.is_deserted.load(Ordering::Acquire) {
                let limit =
                    *drained.get_or_insert_with(|| self.now().after(DRAIN_LIMIT.max(self.settings.drop_timeout)));
                if self.open_leases() == 0 || self.now() >= limit {
                    break;
                }
            }
            let wake = [next, drained].into_iter().flatten().min();
            if next.is_some_and(|next| next <= self.now()) {
                tokio::task::yield_now().await; // more timers are due, and other tasks may be as late
            }
            tokio::select! {
                biased;
                () = self.schedule.earlier() => {}
                () = self.settings.clock.sleep_until(wake.unwrap_or_default()), if wake.is_some() => {}
                () = emptied, if drained.is_some() => {}
            }
        }
        listener.abort();
    }

    /// Fires a timer of a lease.
    fn fire(self: &Arc<Self>, Timer { at, slot }: &Timer) {
        let is_due = {
            let mut state = slot.lock();
            if slot.is_forgotten() {
                return;
            }
            state.timers.retain(|scheduled| scheduled != at);
            state.lease.timer().is_some_and(|timer| timer <= self.now())
        };
        if is_due {
            self.step(slot, Input::Timer, Sending::Later);
        } else {
            self.set_timer(slot, &mut slot.lock());
        }
    }

    async fn listen(self: Arc<Self>, mut events: EventStream) {
        let listening = AssertUnwindSafe(async {
            while let Some(event) = events.next().await {
                match event {
                    Event::Granted { id, token } => self.hear_of(id, Hint::Granted(token)),
                    Event::Broken { id } => self.hear_of(id, Hint::Broken),
                    Event::Resync => self.resync().await,
                }
            }
        });
        let end = if listening.catch_unwind().await.is_ok() { "ended" } else { "panicked" };
        if self.backend.capabilities().push {
            let backend = self.store.clone();
            self.log.add(&self.runtime, move || {
                tracing::error!(%backend, "the backend's event stream {end}; waiters learn of grants only by their renewals");
            });
        }
    }

    fn hear_of(self: &Arc<Self>, id: LeaseId, hint: Hint) {
        if let Some(slot) = self.leases.get(id) {
            self.step(&slot, Input::Hint(hint), Sending::Later);
            self.start_all();
        }
    }

    /// Asks the store about every lease. Other tasks of the runtime, such as the one that signals losses, run in
    /// between.
    async fn resync(self: &Arc<Self>) {
        for slots in self.leases.all().chunks(256) {
            slots.iter().for_each(|slot| self.step(slot, Input::Hint(Hint::Resync), Sending::Later));
            self.start_all();
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn start_all(self: &Arc<Self>) {
        [Verb::Claim, Verb::Extend, Verb::Release].into_iter().for_each(|verb| self.start_both(verb));
    }

    /// Refuses new leases, ends the wait of others, and waits for the holders to release theirs.
    pub(crate) async fn drain(self: &Arc<Self>, wait: Duration) {
        for slot in self.leases.close() {
            self.step(&slot, Input::Drain, Sending::Later);
        }
        self.start_all();
        self.emptied_within(wait).await;
    }

    /// Releases every lease, refuses new ones, and waits for the answers.
    pub(crate) async fn shutdown(self: &Arc<Self>, timeout: Duration) -> Result<(), ShutdownError> {
        self.close();
        let until = self.now().after(timeout);
        self.emptied_within(timeout).await;
        self.reported_until(until).await;
        self.was_shut_down.store(true, Ordering::Release);
        match self.open_leases() {
            0 => Ok(()),
            unconfirmed => Err(ShutdownError { unconfirmed, timeout }),
        }
    }

    async fn emptied_within(self: &Arc<Self>, limit: Duration) {
        let until = self.now().after(limit);
        let this = self.clone();
        let waiting = self.runtime.spawn(async move {
            loop {
                let emptied = this.leases.emptied();
                if this.open_leases() == 0 {
                    return;
                }
                tokio::select! {
                    () = emptied => {}
                    () = this.settings.clock.sleep_until(until) => return,
                }
            }
        });
        let _on_a_dead_runtime = waiting.await;
    }

    /// Waits until the reports so far are made, until `until` and for [`REPORT_LIMIT`] at most.
    async fn reported_until(self: &Arc<Self>, until: Moment) {
        let until = until.min(self.now().after(REPORT_LIMIT));
        let this = self.clone();
        let waiting = self.runtime.spawn(async move {
            let made = async {
                this.log.made().await;
                this.measurements.made().await;
            };
            tokio::select! {
                () = made => {}
                () = this.settings.clock.sleep_until(until) => {}
            }
        });
        let _on_a_dead_runtime = waiting.await;
    }

    fn close(self: &Arc<Self>) {
        for slot in self.leases.close() {
            self.step(&slot, Input::Close, Sending::Later);
        }
        self.start_all();
    }

    /// Ends the driver once its leases are forgotten, because its last handle was dropped.
    pub(crate) fn desert(&self) {
        self.is_deserted.store(true, Ordering::Release);
        self.schedule.wake();
    }

    /// Blocks this thread until no release or claim is under way, for the client's `drop_timeout` at most, and within
    /// that time until the reports are made. Logs the number of releases that the store has not confirmed. Returns at
    /// once after a [shutdown](Self::shutdown), which has already waited.
    pub(crate) fn wait_for_releases(&self) {
        let limit = self.settings.drop_timeout;
        if self.was_shut_down.load(Ordering::Acquire) {
            return;
        }
        send_collected();
        let begun = Instant::now();
        let left = self.leases.wait_until_empty(limit);
        let until = Instant::now() + REPORT_LIMIT.min(limit.saturating_sub(begun.elapsed()));
        for reports in [&self.log, &self.measurements] {
            reports.wait_until_made(until.saturating_duration_since(Instant::now()));
        }
        let (unconfirmed, backend) = (left + self.abandoned.load(Ordering::Relaxed), &self.store);
        if unconfirmed > 0 && !limit.is_zero() {
            quietly(|| {
                tracing::warn!(%backend, unconfirmed, ?limit, "releases are not confirmed; each lease ends with its TTL at the latest");
            });
        }
    }
}

/// Abandons every lease when the runtime under a client ends, because no request will be answered any more.
struct MarkDead(Arc<Driver>);

impl Drop for MarkDead {
    fn drop(&mut self) {
        let driver = &self.0;
        driver.is_dead.store(true, Ordering::Release);
        driver.close();
        for slot in driver.leases.all() {
            driver.step(&slot, Input::Abandon, Sending::Later);
        }
        [Verb::Claim, Verb::Extend, Verb::Release].into_iter().for_each(|verb| driver.lanes(verb).close());
    }
}
