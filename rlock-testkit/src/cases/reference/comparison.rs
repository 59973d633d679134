//! Compares the answers of the store with those of the reference.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::test_runner::TestCaseError;
use proptest::{prop_assert, prop_assert_eq};
use rlock_core::{Acquired, BackendError, Capabilities, Extended, Place, Snapshot, Token};

use super::operation::RESOURCES;
use super::stores::is_coarse;

/// Compares answers, and keeps what later comparisons need.
pub(super) struct Comparison {
    capabilities: Capabilities,
    /// The longest duration of an operation, which bounds the difference between the two clocks.
    longest: Duration,
    /// The token of the reference for each token of the store, per resource.
    tokens: [BTreeMap<u64, u64>; RESOURCES.len()],
}

impl Comparison {
    /// Compares answers of a store with these capabilities.
    pub(super) fn of(capabilities: Capabilities) -> Self {
        Self { capabilities, longest: Duration::ZERO, tokens: Default::default() }
    }

    /// Notes the duration of an operation on the store.
    pub(super) fn took(&mut self, time: Duration) {
        self.longest = self.longest.max(time);
    }

    pub(super) fn same_acquired(
        &mut self,
        resource: usize,
        real: Result<Acquired, BackendError>,
        model: Result<Acquired, BackendError>,
    ) -> Result<(), TestCaseError> {
        match (real, model) {
            (Ok(Acquired::Held(real)), Ok(Acquired::Held(model))) => {
                self.same_token(resource, real.token, model.token)?;
                // A client of a coarse store may not know that another client has extended the lease since.
                let known = if is_coarse(&self.capabilities) { real.ttl.max(model.ttl) } else { real.ttl };
                self.near(known, model.ttl)
            }
            (Ok(Acquired::Queued(real)), Ok(Acquired::Queued(model))) => self.same_place(real, model),
            (Ok(Acquired::Busy), Ok(Acquired::Busy)) => Ok(()),
            (Err(real), Err(model)) => {
                prop_assert_eq!(real.to_string(), model.to_string());
                Ok(())
            }
            (real, model) => Err(TestCaseError::fail(format!("the store said {real:?}, and the reference {model:?}"))),
        }
    }

    /// In a batch, the leases in front of this one may be extended before or after it.
    pub(super) fn same_extended(
        &mut self,
        resource: usize,
        is_alone: bool,
        real: Extended,
        model: Extended,
    ) -> Result<(), TestCaseError> {
        match (real, model) {
            (Extended::Held(real), Extended::Held(model)) => {
                self.same_token(resource, real.token, model.token)?;
                self.near(real.ttl, model.ttl)
            }
            (Extended::Queued(real), Extended::Queued(model)) if is_alone => self.same_place(real, model),
            (Extended::Queued(real), Extended::Queued(model)) => {
                prop_assert_eq!(real.ahead, model.ahead);
                Ok(())
            }
            (real, model) => {
                prop_assert_eq!(real, model);
                Ok(())
            }
        }
    }

    fn same_place(&self, real: Place, model: Place) -> Result<(), TestCaseError> {
        prop_assert_eq!(real.ahead, model.ahead);
        if !self.capabilities.expiry_lag.is_zero() {
            return Ok(()); // the store reports expiries itself
        }
        self.near(real.ask_again, model.ask_again)
    }

    pub(super) fn same_snapshot(
        &mut self,
        resource: usize,
        real: &Snapshot,
        model: &Snapshot,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!((&real.resource, real.capacity), (&model.resource, model.capacity));
        prop_assert_eq!((real.holders.len(), real.queue.len()), (model.holders.len(), model.queue.len()));
        for (real, model) in real.holders.iter().zip(&model.holders) {
            prop_assert_eq!((&real.owner, real.weight), (&model.owner, model.weight));
            self.same_token(resource, real.token, model.token)?;
            // The lease in front may have expired, which some stores notice late, and later still on a busy machine.
            let late = model.held_for.saturating_sub(real.held_for).min(2 * self.capabilities.expiry_lag);
            self.near(real.held_for + late, model.held_for)?;
            self.near(real.remaining, model.remaining)?;
        }
        for (real, model) in real.queue.iter().zip(&model.queue) {
            prop_assert_eq!((&real.owner, real.weight), (&model.owner, model.weight));
            self.near(real.waiting_for, model.waiting_for)?;
            self.near(real.remaining, model.remaining)?;
        }
        Ok(())
    }

    /// The same lease has the same token, and both stores order their tokens alike.
    fn same_token(&mut self, resource: usize, real: Token, model: Token) -> Result<(), TestCaseError> {
        let tokens = &mut self.tokens[resource];
        let known = *tokens.entry(real.get()).or_insert(model.get());
        prop_assert_eq!(known, model.get());
        prop_assert!(tokens.values().is_sorted(), "tokens in another order: {:?}", tokens);
        Ok(())
    }

    fn near(&self, real: Duration, model: Duration) -> Result<(), TestCaseError> {
        let step = self.capabilities.ttl_step;
        let tolerance = 2 * self.longest + Duration::from_millis(1) + step + step / 10;
        prop_assert!(real.abs_diff(model) <= tolerance, "{:?} and {:?}, beyond {:?}", real, model, tolerance);
        Ok(())
    }
}
