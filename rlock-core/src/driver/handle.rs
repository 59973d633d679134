//! Leases that move from one client to another, for handles.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::step::Sending;
use super::{Claimed, Driver, LONGEST_CALL, LockRequest, Slot};
use crate::clock::Moment;
use crate::contract::{Extended, Extension, LockHandle, Token};
use crate::error::{AdoptError, LockError};
use crate::lease::{Input, LossReason, Lost, Phase, Wait};
use crate::metrics::LockKind;
use crate::watchdog::WatchdogConfig;

/// The longest pause after a failed extension of a lease whose adoption waits.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Driver {
    /// Forgets a held lease, which stays in the store.
    pub(crate) fn hand_over(self: &Arc<Self>, slot: &Arc<Slot>, token: Token) -> Result<LockHandle, Lost> {
        if let Some(reason) = self.loss(slot) {
            return Err(Lost { resource: slot.key.resource.clone(), reason });
        }
        let ttl = slot.lock().lease.terms().ttl;
        self.step(slot, Input::HandOver, Sending::Later);
        if let Some(reason) = slot.loss() {
            return Err(Lost { resource: slot.key.resource.clone(), reason });
        }
        Ok(LockHandle { key: slot.key.clone(), token, share: slot.share, ttl })
    }

    /// Adopts a lease that another client has held, and extends it.
    pub(crate) async fn adopt(self: &Arc<Self>, handle: &LockHandle, kind: LockKind) -> Result<Arc<Slot>, AdoptError> {
        let mut extended = self.now();
        self.extend_left(handle, LONGEST_CALL).await?;
        let slot = loop {
            extended = self.left_one_removed(handle, extended).await?;
            match self.claim_handle(handle, kind) {
                // Another adoption was left meanwhile, or has just been removed.
                Err(LockError::Rejected { .. })
                    if self.leases.get(handle.key.id).is_none_or(|slot| is_left(&slot) || slot.is_forgotten()) => {}
                claimed => break claimed?,
            }
        };
        let lost = |reason| Lost { resource: handle.key.resource.clone(), reason };
        let mut adopting = Adopting { driver: self.clone(), slot: Some(slot) };
        let claimed = std::future::poll_fn(|context| {
            let slot = adopting.slot.as_ref().expect("it is taken at the end");
            slot.poll_for(context, || self.claimed(slot))
        });
        match claimed.await {
            Claimed::Granted(_) => Ok(adopting.take()?),
            Claimed::Ended(reason) => Err(lost(reason).into()),
            Claimed::Failed(LockError::TimedOut { .. }) => Err(lost(LossReason::TakenOver).into()),
            Claimed::Failed(error) => Err(error.into()),
        }
    }

    /// Extends a lease that no client keeps alive.
    async fn extend_left(&self, handle: &LockHandle, limit: Duration) -> Result<(), AdoptError> {
        let resource = || handle.key.resource.clone();
        let extension = Extension { key: handle.key.clone(), ttl: handle.ttl };
        let extended = self.call_within(limit, "extend", async move |backend| {
            let answer = backend.extend(&[extension]).await.pop();
            answer.expect("a backend answers for each lease")
        });
        let reason = match extended.await {
            Ok(Extended::Held(grant)) if grant.token == handle.token => return Ok(()),
            Ok(Extended::Gone { taken: true }) => LossReason::TakenOver,
            Ok(_) => LossReason::Gone,
            Err(source) => return Err(LockError::Unavailable { resource: resource(), source }.into()),
        };
        Err(Lost { resource: resource(), reason }.into())
    }

    /// Waits until the adoption of this lease that its user has left is removed, or the client is closed, and extends the
    /// lease meanwhile. `extended` is the moment before its last successful extension; returns the new one. A task of the
    /// client waits, so the removal runs no code of the user.
    async fn left_one_removed(self: &Arc<Self>, handle: &LockHandle, extended: Moment) -> Result<Moment, AdoptError> {
        let id = handle.key.id;
        if !self.leases.get(id).is_some_and(|slot| is_left(&slot)) {
            return Ok(extended);
        }
        let (this, left) = (self.clone(), handle.clone());
        let mut waiting = AbortOnDrop(self.runtime.spawn(async move {
            let mut extended = extended;
            tokio::select! {
                biased;
                () = this.leases.removed(id, is_left) => Ok(extended),
                error = this.keep_left(&left, &mut extended) => Err(error),
            }
        }));
        // The task fails only if the runtime ends.
        (&mut waiting.0)
            .await
            .unwrap_or_else(|_| Err(LockError::Closed { resource: handle.key.resource.clone() }.into()))
    }

    /// Extends a lease that no client keeps alive, again and again. Returns the error once the store refuses, or has
    /// confirmed no extension for the TTL.
    async fn keep_left(&self, handle: &LockHandle, extended: &mut Moment) -> AdoptError {
        let ttl = handle.ttl.get();
        let mut next = extended.after(ttl / 3);
        loop {
            self.settings.clock.sleep_until(next).await;
            let began = self.now();
            match self.extend_left(handle, ttl / 3).await {
                Ok(()) => {
                    *extended = began;
                    next = began.after(ttl / 3);
                }
                Err(error) if is_transient(&error) && self.now() < extended.after(ttl) => {
                    next = self.now().after(RETRY_AFTER.min(ttl / 3));
                }
                Err(error) => return error,
            }
        }
    }

    /// Claims the lease of a handle: the store answers a claim of its id with the lease that it has.
    fn claim_handle(self: &Arc<Self>, handle: &LockHandle, kind: LockKind) -> Result<Arc<Slot>, LockError> {
        let watchdog = WatchdogConfig { max_failures: u32::MAX, ..WatchdogConfig::new() }.plan(handle.ttl)?;
        let now = self.now();
        let request = LockRequest {
            resource: handle.key.resource.clone(),
            share: handle.share,
            kind,
            ttl: handle.ttl,
            watchdog: Some(watchdog),
            wait: Wait::Never,
            since: now,
            hold_at_least: Duration::ZERO,
            hold_at_most: None,
            data: None,
            owner: None,
            place: None,
        };
        self.claim_lease(Some((handle.key.id, handle.token)), &request, now)
    }
}

/// Whether the user of an adoption has left it. The adoption keeps its id until the store has answered its claim.
fn is_left(slot: &Slot) -> bool {
    matches!(slot.lock().lease.phase(), Phase::Releasing(_))
}

fn is_transient(error: &AdoptError) -> bool {
    matches!(error, AdoptError::Lock(LockError::Unavailable { source, .. }) if source.is_transient())
}

/// A task that ends when this is dropped.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A lease that is being adopted. Dropping this leaves the lease in the store.
struct Adopting {
    driver: Arc<Driver>,
    slot: Option<Arc<Slot>>,
}

impl Adopting {
    /// Makes the lease one of this client. Fails if the client was shut down meanwhile.
    fn take(&mut self) -> Result<Arc<Slot>, LockError> {
        let slot = self.slot.take().expect("it is taken once");
        let mut is_forgotten = false;
        self.driver.step_with(&slot, Input::Adopt, None, Sending::Later, |state, _| {
            is_forgotten = matches!(state.lease.phase(), Phase::Forgotten);
        });
        if is_forgotten { Err(LockError::Closed { resource: slot.key.resource.clone() }) } else { Ok(slot) }
    }
}

impl Drop for Adopting {
    fn drop(&mut self) {
        if let Some(slot) = &self.slot {
            slot.forget_user();
            self.driver.step(slot, Input::GiveUp, Sending::Later);
        }
    }
}
