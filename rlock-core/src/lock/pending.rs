//! A lock that a user waits for.

use std::sync::Arc;
use std::time::Duration;

use super::options::ValidOptions;
use super::{Guard, LockOptions};
use crate::client::{Client, Handle};
use crate::contract::{ResourceName, Share};
use crate::driver::{Claimed, LockRequest, Slot};
use crate::error::{InvalidConfig, LockError};
use crate::lease::{LossReason, Wait};
use crate::metrics::LockKind;

/// A lock that a user asks for, with options that are not checked yet.
#[derive(Debug, Clone)]
pub(super) struct LockSpec {
    pub(super) resource: ResourceName,
    pub(super) share: Share,
    pub(super) kind: LockKind,
    pub(super) options: LockOptions,
}

impl LockSpec {
    pub(super) fn one_try(mut self) -> Result<Self, InvalidConfig> {
        self.options = self.options.one_try()?;
        Ok(self)
    }
}

/// A lock that a user waits for. Dropping it gives up the lock and leaves the queue.
pub(super) struct Pending {
    client: Arc<Handle>,
    slot: Arc<Slot>,
    request: LockRequest,
    /// The number of grants that ran out before the user polled.
    run_out: u32,
    is_over: bool,
}

impl Pending {
    pub(super) fn new(client: &Client, spec: LockSpec) -> Result<Self, LockError> {
        let client = client.handle().clone();
        let driver = &client.driver;
        let LockSpec { resource, share, kind, options } = spec;
        let valid = options.with_defaults(&driver.settings().defaults).parse()?;
        let started = driver.now();
        let wait = match valid.wait {
            None => Wait::Forever,
            Some(Duration::ZERO) => Wait::Never,
            Some(wait) => Wait::Until(started.after(wait)),
        };
        let ValidOptions { ttl, watchdog, hold_at_least, hold_at_most, data, label, place, .. } = valid;
        let owner = label.map(|label| Arc::new(driver.settings().owner.clone().with_label(&label)));
        let request = LockRequest {
            resource,
            share,
            kind,
            ttl,
            watchdog,
            wait,
            since: started,
            hold_at_least,
            hold_at_most,
            data,
            owner,
            place,
        };
        let slot = driver.claim(&request, started)?;
        Ok(Self { client, slot, request, run_out: 0, is_over: false })
    }

    /// Waits for the outcome. A loop that locks and unlocks yields to other tasks now and then, even if the store
    /// answers at once.
    pub(super) async fn granted(mut self) -> Result<Guard, LockError> {
        tokio::task::consume_budget().await;
        loop {
            let claimed =
                std::future::poll_fn(|context| self.slot.poll_for(context, || self.client.driver.claimed(&self.slot)));
            let outcome = match claimed.await {
                Claimed::Granted(token) => Ok(token),
                Claimed::Failed(error) => Err(error),
                Claimed::Ended(reason) => match self.begin_again(reason) {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
            };
            self.is_over = true;
            let guard = outcome.map(|token| Guard::new(self.client.clone(), self.slot.clone(), token));
            // A user's recorder that panics drops the guard.
            self.client.driver.acquire_ended(self.request.kind, guard.as_ref().err(), self.request.since);
            return guard;
        }
    }

    /// Claims the lock again, with another lease, after a lease that ended before the user got its lock: the store lost
    /// its place in the queue, or the grant ran out before the user polled.
    fn begin_again(&mut self, reason: LossReason) -> Result<(), LockError> {
        const MOST: u32 = 3;
        let driver = &self.client.driver;
        driver.give_back(&self.slot);
        self.run_out += u32::from(matches!(reason, LossReason::Expired | LossReason::HeldTooLong));
        if self.run_out == MOST {
            let (resource, ttl) = (self.request.resource.clone(), self.request.ttl);
            return Err(LockError::TtlTooShort { resource, ttl, grants: MOST });
        }
        let now = driver.now();
        if matches!(self.request.wait, Wait::Until(until) if until <= now) {
            return Err(driver.timed_out(&self.request.resource, now.since(self.request.since)));
        }
        self.slot = driver.claim(&self.request, now)?;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_over {
            self.client.driver.give_up(&self.slot, self.request.since);
        }
    }
}
