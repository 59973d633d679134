//! Runs a sequence of operations on both stores.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use proptest::prop_assert_eq;
use proptest::test_runner::TestCaseError;
use rlock_core::{
    Backend, Claim, Clock, Entry, Extension, IfBusy, LeaseId, LeaseKey, ListFilter, Namespace, Owner, Release, Share,
    Ttl,
};

use super::comparison::Comparison;
use super::events::Events;
use super::operation::{ClaimOf, IDS, Lease, Operation, RESOURCES, name_of};
use super::stores::{Stores, is_coarse, well};
use crate::Stage;

/// Both stores, and what the run knows of their leases.
pub(super) struct Run {
    stores: Stores,
    comparison: Comparison,
    events: Events,
    /// The clock of the reference.
    clock: Clock,
    /// The instant that this clock shows. The current operation on the store takes effect then or later.
    shown: Instant,
    /// The earliest and the latest instant at which each lease may expire in the store. It may contain more than there
    /// are.
    expiries: HashMap<Lease, Vec<(Instant, Instant)>>,
    /// The number of times that each lease was claimed anew after its end, because ids of leases are never used again.
    generations: HashMap<Lease, u128>,
}

impl Run {
    pub(super) async fn new(stage: &Stage, namespace: Namespace) -> Self {
        let clock = Clock::manual();
        let stores = Stores::connect(stage, namespace, clock.clone()).await;
        Self {
            comparison: Comparison::of(stores.capabilities().clone()),
            events: Events::of(&stores),
            stores,
            clock,
            shown: Instant::now(),
            expiries: HashMap::new(),
            generations: HashMap::new(),
        }
    }

    /// Runs one operation on both stores. Returns false if later answers cannot be compared.
    pub(super) async fn step(&mut self, operation: &Operation) -> Result<bool, TestCaseError> {
        match operation {
            Operation::Pass { millis } => {
                // Several pauses still add up to the TTL of a coarse store.
                let millis = if is_coarse(self.stores.capabilities()) { millis / 4 } else { *millis };
                tokio::time::sleep(self.stores.span(millis)).await;
            }
            Operation::Acquire { client, claims } => {
                // Of two claims on one resource, either may come first.
                let mut seen = HashSet::new();
                let claims: Vec<_> = claims.iter().filter(|claim| seen.insert(claim.lease.0)).collect();
                self.before();
                for claim in &claims {
                    self.renew(claim.lease).await?;
                }
                let request: Vec<_> = claims.iter().map(|claim| self.claim(claim)).collect();
                let begun = self.before();
                let real = self.stores.real[*client].acquire(&request).await;
                if !self.is_certain(begun) {
                    return Ok(false);
                }
                claims.iter().for_each(|claim| self.will_expire(claim.lease, begun, claim.millis));
                let model = self.stores.memory[*client].acquire(&request).await;
                prop_assert_eq!(real.len(), model.len());
                for ((real, model), claim) in real.into_iter().zip(model).zip(claims) {
                    self.comparison.same_acquired(claim.lease.0, real, model)?;
                }
            }
            Operation::Extend { client, leases } => {
                let mut seen = HashSet::new();
                let leases: Vec<_> = leases.iter().filter(|(lease, _)| seen.insert(*lease)).collect();
                let extension = |(lease, millis): &&(Lease, u64)| Extension {
                    key: self.key(*lease),
                    ttl: self.stores.ttl(*lease, *millis),
                };
                let request: Vec<_> = leases.iter().map(extension).collect();
                let begun = self.before();
                let real = self.stores.real[*client].extend(&request).await;
                if !self.is_certain(begun) {
                    return Ok(false);
                }
                leases.iter().for_each(|(lease, millis)| self.will_expire(*lease, begun, *millis));
                let model = self.stores.memory[*client].extend(&request).await;
                for ((real, model), (lease, _)) in real.into_iter().zip(model).zip(&leases) {
                    let is_alone = leases.iter().filter(|(other, _)| other.0 == lease.0).count() == 1;
                    self.comparison.same_extended(lease.0, is_alone, well(real)?, well(model)?)?;
                }
            }
            Operation::Release { client, leases } => {
                let mut seen = HashSet::new();
                let request: Vec<Release> =
                    leases.iter().filter(|lease| seen.insert(**lease)).map(|lease| self.key(*lease).into()).collect();
                let is_alone =
                    |one: &&Release| request.iter().filter(|other| other.key.resource == one.key.resource).count() == 1;
                let together = request.iter().filter(|release| !is_alone(release));
                self.events.released_together(together.map(|release| release.key.id));
                let begun = self.before();
                let real = self.stores.real[*client].release(&request).await;
                if !self.is_certain(begun) {
                    return Ok(false);
                }
                let model = self.stores.memory[*client].release(&request).await;
                for (real, model) in real.into_iter().zip(model) {
                    prop_assert_eq!(well(real)?, well(model)?);
                }
            }
            Operation::Break { client, resource } => {
                let begun = self.before();
                let real = self.stores.real[*client].break_leases(&name_of(*resource)).await;
                if !self.is_certain(begun) {
                    return Ok(false);
                }
                let model = self.stores.memory[*client].break_leases(&name_of(*resource)).await;
                prop_assert_eq!(well(real)?, well(model)?);
            }
            Operation::Inspect { resource } => {
                let begun = self.before();
                let real = self.stores.real[0].inspect(&name_of(*resource)).await;
                if !self.is_certain(begun) {
                    return Ok(false);
                }
                let model = self.stores.memory[0].inspect(&name_of(*resource)).await;
                self.comparison.same_snapshot(*resource, &well(real)?, &well(model)?)?;
            }
            Operation::List => {
                let begun = self.before();
                let real = all(&*self.stores.real[0]).await?;
                if !self.is_certain(begun) {
                    return Ok(false);
                }
                prop_assert_eq!(real, all(&self.stores.memory[0]).await?);
            }
        }
        Ok(true)
    }

    /// Checks that each client received the same grants and breaks, and no others.
    pub(super) async fn compare_events(&mut self) -> Result<(), TestCaseError> {
        self.events.compare(&self.stores).await
    }

    fn claim(&self, claim: &ClaimOf) -> Claim {
        let owner = Arc::new(Owner::current().with_label(&format!("owner of {}", claim.lease.1)));
        let if_busy = if self.stores.capabilities().queue { claim.if_busy } else { IfBusy::Refuse };
        Claim {
            key: self.key(claim.lease),
            share: claim.share,
            ttl: self.stores.ttl(claim.lease, claim.millis),
            if_busy,
            owner,
            data: None,
        }
    }

    /// Gives another id to a lease that has ended.
    async fn renew(&mut self, lease: Lease) -> Result<(), TestCaseError> {
        let key = self.key(lease);
        if well(self.stores.memory[0].inspect(&key.resource).await)?.is_free() || !self.is_there(key).await {
            *self.generations.entry(lease).or_default() += 1;
        }
        Ok(())
    }

    /// Whether the reference has this lease, on a resource that is not free. It probes with a capacity that no other
    /// claim has, so that a missing lease is refused for its capacity.
    async fn is_there(&self, key: LeaseKey) -> bool {
        let share = Share::new(1, 7).expect("a valid share");
        let owner = Arc::new(Owner::current());
        let claim = Claim { key, share, ttl: Ttl::MIN, if_busy: IfBusy::Refuse, owner, data: None };
        self.stores.memory[0].acquire(&[claim]).await.remove(0).is_ok()
    }

    fn key(&self, (resource, id): Lease) -> LeaseKey {
        let generation = self.generations.get(&(resource, id)).copied().unwrap_or_default();
        let id = (generation * IDS + id) * RESOURCES.len() as u128 + resource as u128;
        LeaseKey { resource: name_of(resource), id: LeaseId::from_u128(id) }
    }

    fn before(&mut self) -> Instant {
        let now = Instant::now();
        self.clock.advance(now - self.shown);
        self.shown = now;
        now
    }

    /// Whether it is certain which leases had expired when the store executed the operation, between `begun` and now.
    fn is_certain(&mut self, begun: Instant) -> bool {
        let ended = Instant::now();
        self.comparison.took(ended - begun);
        self.expiries.values().flatten().all(|&(from, to)| to < begun || ended < from)
    }

    fn will_expire(&mut self, lease: Lease, begun: Instant, millis: u64) {
        let (ttl, lag) = (self.stores.ttl(lease, millis), self.stores.capabilities().expiry_lag);
        // A store with an expiry lag checks again before it reports a grant; a lease must not end before that.
        let earliest = begun + if lag.is_zero() { ttl.get() } else { ttl.get() * 9 / 10 };
        self.expiries.entry(lease).or_default().push((earliest, Instant::now() + ttl.get() + lag));
    }
}

async fn all(backend: &dyn Backend) -> Result<BTreeMap<String, (u64, u64)>, TestCaseError> {
    let mut filter = ListFilter { limit: 1, ..ListFilter::default() };
    let mut found = BTreeMap::new();
    loop {
        let page = well(backend.list(&filter).await)?;
        for Entry { resource, holders, waiters } in page.entries {
            found.insert(resource.to_string(), (holders, waiters));
        }
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return Ok(found),
        }
    }
}
