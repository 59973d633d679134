//! Compares the events of the store with those of the reference.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use proptest::test_runner::TestCaseError;
use proptest::{prop_assert, prop_assert_eq};
use rlock_core::{
    Backend as _, Claim, Event, EventStream, Extended, Extension, IfBusy, LeaseId, LeaseKey, Owner, Share, Ttl,
};
use tokio::time::timeout;

use super::operation::{IDS, RESOURCES, name_of};
use super::stores::{Stores, well};
use crate::peer::resource;

/// The events of the two clients of each store.
pub(super) struct Events {
    real: [EventStream; 2],
    memory: [EventStream; 2],
    /// Leases that were released together with another one of their resource. If the other was released first, they
    /// were granted before their release.
    either_way: HashSet<LeaseId>,
}

impl Events {
    pub(super) fn of(stores: &Stores) -> Self {
        let real = [stores.real[0].events(), stores.real[1].events()];
        let memory = [stores.memory[0].events(), stores.memory[1].events()];
        Self { real, memory, either_way: HashSet::new() }
    }

    /// Notes leases that were released together with another one of their resource.
    pub(super) fn released_together(&mut self, leases: impl IntoIterator<Item = LeaseId>) {
        self.either_way.extend(leases);
    }

    /// Checks that each client received the same grants and breaks, and no others.
    pub(super) async fn compare(&mut self, stores: &Stores) -> Result<(), TestCaseError> {
        let can = stores.capabilities();
        let plainly = can.expiry_lag.is_zero();
        for client in (0..2).filter(|_| can.push && can.queue) {
            let is_certain = |event: &(&str, LeaseId)| event.0 != "granted" || !self.either_way.contains(&event.1);
            let mut expected = HashSet::new();
            while let Some(event) = self.memory[client].next().now_or_never() {
                expected.extend(event.and_then(plain).filter(is_certain));
            }
            let waiter = grant_a_last_one(stores, client).await?;
            let last = ("granted", waiter.id);
            expected.insert(last);
            let mut received = HashSet::new();
            let mut count = 0;
            while !received.contains(&last) || received.len() < expected.len() {
                let patience = if plainly || !received.contains(&last) { 5_000 } else { 300 };
                let next = timeout(Duration::from_millis(patience), self.real[client].next()).await;
                let Ok(event) = next else { break };
                received.extend(event.and_then(plain).filter(is_certain));
                count += 1;
                prop_assert!(count <= 1_000, "{:?}", received);
            }
            well(stores.real[client].release(&[waiter.into()]).await.remove(0))?;
            if !plainly {
                prop_assert!(received.contains(&last), "the last grant was not notified");
                // Such a store ends leases by itself, and its clients look up what happened to their leases. They may
                // not know why a lease has ended, nor learn of events that are already over.
                received.retain(|event| event.0 != "broken" || expected.contains(event));
                let mut missing = Vec::new();
                for event in expected.difference(&received).copied() {
                    if !is_over(stores, event.1).await? {
                        missing.push(event);
                    }
                }
                prop_assert!(missing.is_empty(), "events are missing: {:?}", missing);
                expected.retain(|event| received.contains(event));
            }
            prop_assert_eq!(received, expected);
        }
        Ok(())
    }
}

/// Whether a lease was released, or has ended.
async fn is_over(stores: &Stores, id: LeaseId) -> Result<bool, TestCaseError> {
    for resource in 0..RESOURCES.len() {
        let ask = Extension { key: LeaseKey { resource: name_of(resource), id }, ttl: Ttl::MIN };
        if !matches!(well(stores.memory[0].extend(&[ask]).await.remove(0))?, Extended::Gone { .. }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the client wait for one more grant and get it. Each client receives its events in order, so that earlier
/// events that are missing by then will not arrive.
async fn grant_a_last_one(stores: &Stores, client: usize) -> Result<LeaseKey, TestCaseError> {
    let last = resource("the last one");
    let claim = |id, if_busy| Claim {
        key: LeaseKey { resource: last.clone(), id: LeaseId::from_u128(id) },
        share: Share::EXCLUSIVE,
        ttl: stores.ttl((0, IDS - 1), 100_000),
        if_busy,
        owner: Arc::new(Owner::current()),
        data: None,
    };
    let (holder, waiter) = (claim(1 << 100, IfBusy::Refuse), claim(2 << 100, IfBusy::Queue));
    for claim in [&holder, &waiter] {
        well(stores.real[client].acquire(std::slice::from_ref(claim)).await.remove(0))?;
    }
    well(stores.real[client].release(&[holder.key.into()]).await.remove(0))?;
    Ok(waiter.key)
}

/// Drops the token, which was compared in the answers. A resync is not a difference.
fn plain(event: Event) -> Option<(&'static str, LeaseId)> {
    match event {
        Event::Granted { id, .. } => Some(("granted", id)),
        Event::Broken { id } => Some(("broken", id)),
        _ => None,
    }
}
