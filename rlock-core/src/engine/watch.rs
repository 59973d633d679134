//! What holders and their watchdogs ask for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::lease::{Lease, Phase, State};
use super::renewal::{Renewal, pause};
use crate::{ExtendError, InvalidConfig, LossReason, Lost, Ttl, WatchdogConfig, WatchdogStatus};

impl Engine {
    pub(crate) fn remaining(&self, lease: &Lease) -> Duration {
        lease.deadline().map(|deadline| deadline.since(self.now())).unwrap_or_default()
    }

    /// The token that is cancelled when the lease is lost.
    pub(crate) fn lost_signal(self: &Arc<Self>, lease: &Arc<Lease>) -> CancellationToken {
        let signal = lease.lost_signal.get_or_init(CancellationToken::new);
        // Under the lease's lock: a loss before this has seen no signal to cancel, one after it sees this one.
        let by_the_clock = self.loss(lease).is_some();
        if by_the_clock || lease.lock().lost.is_some() {
            signal.cancel();
        }
        signal.clone()
    }

    pub(crate) async fn extend_by_hand(self: &Arc<Self>, lease: &Arc<Lease>, ttl: Ttl) -> Result<(), ExtendError> {
        self.check_max(ttl)?;
        let give_up = self.now().after(self.settings.retry_for);
        for tries in 0.. {
            match self.extend_once(lease, ttl).await {
                Err(ExtendError::Unconfirmed { source, .. }) if source.is_transient() && self.now() < give_up => {}
                answer => return answer,
            }
            let left = ttl.get().min(self.remaining(lease));
            let (first, most) = (left / 100, left / 12);
            let pause = pause(tries, first.max(Duration::from_millis(5)), most.max(Duration::from_millis(20)));
            let next = self.now().after(pause).min(give_up);
            let clock = self.settings.clock.clone();
            // The caller may be on no runtime.
            let _runtime_gone = self.runtime.spawn(async move { clock.sleep_until(next).await }).await;
        }
        unreachable!("the tries end by being answered, or by the time")
    }

    async fn extend_once(self: &Arc<Self>, lease: &Arc<Lease>, ttl: Ttl) -> Result<(), ExtendError> {
        let (answer, answered) = oneshot::channel();
        let is_held = {
            let mut state = lease.lock();
            let is_held = matches!(state.phase, Phase::Held(_));
            if is_held {
                state.by_hand.push((ttl, answer));
                self.queue_extension(lease, &mut state);
            }
            is_held
        };
        if !is_held {
            return Err(self.lost_error(lease).into());
        }
        self.send_extensions();
        answered.await.unwrap_or_else(|_| Err(self.lost_error(lease).into()))
    }

    /// That the lease is lost; it is, or its runtime has gone.
    pub(super) fn lost_error(&self, lease: &Lease) -> Lost {
        let reason = lease.lock().lost.unwrap_or(LossReason::Shutdown);
        Lost { resource: lease.key.resource.clone(), reason }
    }

    /// Starts a watchdog in place of the one that runs, and answers with the number that tells the two apart.
    pub(crate) fn start_watchdog(
        self: &Arc<Self>,
        lease: &Arc<Lease>,
        config: &WatchdogConfig,
    ) -> Result<u64, InvalidConfig> {
        let mut state = lease.lock();
        let plan = config.plan(state.ttl)?;
        self.check_max(plan.extend_by)?;
        let generation = self.new_generation();
        if matches!(state.phase, Phase::Held(_)) {
            let now = self.now();
            self.end_watchdog(&mut state);
            let little = state.alive_until.since(now) < plan.interval * 3 / 2;
            let renewal = Renewal::start(plan, generation, now, little);
            state.due = Some(renewal.due().max(now));
            state.refresh = false;
            state.tries = 0;
            state.renewal = Some(Box::new(renewal));
            self.metrics.watchdog_started();
            self.reschedule(lease, &mut state);
        }
        Ok(generation)
    }

    pub(crate) fn running_watchdog(&self, lease: &Lease) -> Option<u64> {
        lease.lock().renewal.as_ref().filter(|renewal| renewal.running).map(|renewal| renewal.generation)
    }

    /// Ends the watchdog of that number, if it still runs.
    pub(crate) fn stop_watchdog(&self, lease: &Arc<Lease>, generation: u64) {
        let mut state = lease.lock();
        let runs = |renewal: &Renewal| renewal.running && renewal.generation == generation;
        if state.renewal.as_deref().is_some_and(runs) {
            self.end_watchdog(&mut state);
            state.due = None;
            self.reschedule(lease, &mut state);
        }
    }

    pub(super) fn end_watchdog(&self, state: &mut State) {
        if let Some(renewal) = state.renewal.as_mut().filter(|renewal| renewal.running) {
            renewal.running = false;
            self.metrics.watchdog_ended();
        }
    }

    pub(crate) fn watchdog_status(&self, lease: &Lease, generation: u64) -> WatchdogStatus {
        let state = lease.lock();
        let Some(renewal) = state.renewal.as_ref().filter(|renewal| renewal.generation == generation) else {
            return WatchdogStatus::default();
        };
        let next = renewal.next_at.since(self.now());
        WatchdogStatus {
            is_running: renewal.running,
            extend_count: renewal.extend_count,
            failure_count: renewal.failures,
            last_extend_time: renewal.last_extend,
            next_extend_time: renewal.running.then(|| SystemTime::now() + next),
            last_error: renewal.last_error.clone(),
        }
    }

    /// Refuses a TTL that the store cannot keep.
    pub(super) fn check_max(&self, ttl: Ttl) -> Result<(), InvalidConfig> {
        let can = self.backend.capabilities();
        if ttl > can.max_ttl {
            return Err(InvalidConfig::TtlTooLong { ttl, backend: can.backend, max: can.max_ttl });
        }
        Ok(())
    }

    pub(super) fn new_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }
}
