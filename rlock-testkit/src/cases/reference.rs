//! Compares the backend with the reference: the same random operations must give the same answers.

mod operation;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, StreamExt as _};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use rlock_core::{
    Acquired, Backend, BackendError, Claim, Clock, Entry, Event, EventStream, Extended, Extension, IfBusy, LeaseId,
    LeaseKey, ListFilter, MemoryStore, Namespace, Owner, Place, Release, ResourceName, Share, Snapshot, Token, Ttl,
};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::operation::{ClaimOf, Lease, Operation, operation};
use crate::Stage;
use crate::peer::{resource, ttl};

const RESOURCES: [&str; 2] = ["a:{1}", "b*é"];
const IDS: u128 = 6;
/// No new sequence begins after this time.
const LONGEST: Duration = Duration::from_secs(30);

/// Two clients run random operations on shared resources. The backend must answer as the reference does, and send the
/// same events. A sequence ends where an expiry is so close to an operation that either answer is right.
///
/// `PROPTEST_CASES` sets the number of sequences, 40 by default; slow stores run fewer.
pub async fn random_operations_match_the_reference(stage: &Stage) {
    let (stage, runtime) = (stage.clone(), Handle::current());
    let compared = spawn_blocking(move || compare(&stage, &runtime)).await;
    compared.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
}

fn compare(stage: &Stage, runtime: &Handle) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40);
    let config =
        ProptestConfig { cases, failure_persistence: None, max_shrink_time: 20_000, ..ProptestConfig::default() };
    let (number, compared, cut_short) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let count = |counter: &Cell<u32>| counter.set(counter.get() + 1);
    let sequences = prop::collection::vec(operation(), 1..60);
    let begun = Instant::now();
    let outcome = TestRunner::new(config).run(&sequences, |operations| {
        if begun.elapsed() > LONGEST {
            return Ok(()); // a store that counts in seconds runs fewer sequences
        }
        runtime.block_on(async {
            count(&number);
            let namespace = format!("{}-{}", stage.namespace(), number.get());
            let mut run = Run::new(stage, Namespace::new(namespace).expect("it is short and plain")).await;
            for operation in &operations {
                if !run.step(operation).await? {
                    count(&cut_short);
                    return Ok(());
                }
                count(&compared);
            }
            run.same_events().await
        })
    });
    let (number, compared, cut_short) = (number.get(), compared.get(), cut_short.get());
    println!("{number} sequences, {compared} operations compared, {cut_short} sequences cut short");
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(compared > number * 5, "nearly every sequence was cut short: {compared} operations in {number} sequences");
}

/// Both stores, with what the run knows of them.
struct Run {
    real: [Arc<dyn Backend>; 2],
    real_events: [EventStream; 2],
    memory: [rlock_core::MemoryBackend; 2],
    memory_events: [EventStream; 2],
    clock: Clock,
    /// The instant that the clock of the model shows. The current operation on the store takes effect then or later.
    shown: Instant,
    /// The earliest and the latest instant at which each lease may expire in the store. It may contain more than there
    /// are.
    expiries: HashMap<Lease, Vec<(Instant, Instant)>>,
    /// The longest duration of an operation, which bounds the difference between the two clocks.
    longest: Duration,
    /// The token of the model for each token of the store, per resource.
    tokens: [BTreeMap<u64, u64>; RESOURCES.len()],
    /// Leases that were released together with another one of their resource. If the other was released first, they
    /// were granted before their release.
    either_way: HashSet<LeaseId>,
    /// The number of times that each lease was claimed anew after its end, because ids of leases are never used again.
    generations: HashMap<Lease, u128>,
    stage: Stage,
}

impl Run {
    async fn new(stage: &Stage, namespace: Namespace) -> Self {
        let real = [stage.peer_in(&namespace).await, stage.peer_in(&namespace).await];
        let real = real.map(|peer| peer.backend().clone());
        let clock = Clock::manual();
        let store = MemoryStore::with_clock(clock.clone());
        let memory = [store.client(namespace.clone()), store.client(namespace)];
        Self {
            real_events: [real[0].events(), real[1].events()],
            memory_events: [memory[0].events(), memory[1].events()],
            real,
            memory,
            clock,
            shown: Instant::now(),
            expiries: HashMap::new(),
            longest: Duration::ZERO,
            tokens: Default::default(),
            either_way: HashSet::new(),
            generations: HashMap::new(),
            stage: stage.clone(),
        }
    }

    /// A duration of the operations, which assume milliseconds, stretched to the resolution of this store.
    fn span(&self, millis: u64) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(40);
        let stretched = self.stage.kept(SHORTEST).as_secs_f64() / SHORTEST.as_secs_f64();
        Duration::from_millis(millis).mul_f64(stretched)
    }

    /// The TTL to claim or extend a lease by. A coarse store may round an extension up to the TTL of the claim, which
    /// the reference does not. Therefore each lease has one TTL there.
    fn ttl(&self, lease: Lease, millis: u64) -> Ttl {
        const COARSE: [u64; IDS as usize] = [40, 80, 120, 10_000, 10_000, 100_000];
        let millis =
            if self.is_coarse() { COARSE[usize::try_from(lease.1).unwrap_or(0) % COARSE.len()] } else { millis };
        ttl(self.stage.kept(self.span(millis)))
    }

    fn is_coarse(&self) -> bool {
        self.stage.capabilities().ttl_step > Duration::from_millis(1)
    }

    fn claim(&self, claim: &ClaimOf) -> Claim {
        let owner = Arc::new(Owner::current().with_label(&format!("owner of {}", claim.lease.1)));
        let if_busy = if self.stage.capabilities().queue { claim.if_busy } else { IfBusy::Refuse };
        Claim {
            key: self.key(claim.lease),
            share: claim.share,
            ttl: self.ttl(claim.lease, claim.millis),
            if_busy,
            owner,
            data: None,
        }
    }

    /// Gives another id to a lease that has ended.
    async fn renew(&mut self, lease: Lease) -> Result<(), TestCaseError> {
        let key = self.key(lease);
        if well(self.memory[0].inspect(&key.resource).await)?.is_free() || !self.is_there(key).await {
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
        self.memory[0].acquire(&[claim]).await.remove(0).is_ok()
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
        self.longest = self.longest.max(ended - begun);
        self.expiries.values().flatten().all(|&(from, to)| to < begun || ended < from)
    }

    fn will_expire(&mut self, lease: Lease, begun: Instant, millis: u64) {
        let (ttl, lag) = (self.ttl(lease, millis), self.stage.capabilities().expiry_lag);
        // A store with an expiry lag checks again before it reports a grant; a lease must not end before that.
        let earliest = begun + if lag.is_zero() { ttl.get() } else { ttl.get() * 9 / 10 };
        self.expiries.entry(lease).or_default().push((earliest, Instant::now() + ttl.get() + lag));
    }

    /// Runs one operation on both stores. Returns false if later answers cannot be compared.
    async fn step(&mut self, operation: &Operation) -> Result<bool, TestCaseError> {
        match operation {
            Operation::Pass { millis } => {
                // Several pauses still add up to the TTL of a coarse store.
                let millis = if self.is_coarse() { millis / 4 } else { *millis };
                tokio::time::sleep(self.span(millis)).await;
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
                let real = self.real[*client].acquire(&request).await;
                if !self.is_certain(begun) {
                    return Ok(false);
                }
                claims.iter().for_each(|claim| self.will_expire(claim.lease, begun, claim.millis));
                let model = self.memory[*client].acquire(&request).await;
                prop_assert_eq!(real.len(), model.len());
                for ((real, model), claim) in real.into_iter().zip(model).zip(claims) {
                    self.same_acquired(claim.lease.0, real, model)?;
                }
            }
            Operation::Extend { client, leases } => {
                let mut seen = HashSet::new();
                let leases: Vec<_> = leases.iter().filter(|(lease, _)| seen.insert(*lease)).collect();
                let extension = |(lease, millis): &&(Lease, u64)| Extension {
                    key: self.key(*lease),
                    ttl: self.ttl(*lease, *millis),
                };
                let request: Vec<_> = leases.iter().map(extension).collect();
                let begun = self.before();
                let real = self.real[*client].extend(&request).await;
                if !self.is_certain(begun) {
                    return Ok(false);
                }
                leases.iter().for_each(|(lease, millis)| self.will_expire(*lease, begun, *millis));
                let model = self.memory[*client].extend(&request).await;
                for ((real, model), (lease, _)) in real.into_iter().zip(model).zip(&leases) {
                    let is_alone = leases.iter().filter(|(other, _)| other.0 == lease.0).count() == 1;
                    self.same_extended(lease.0, is_alone, well(real)?, well(model)?)?;
                }
            }
            Operation::Release { client, leases } => {
                let mut seen = HashSet::new();
                let request: Vec<Release> =
                    leases.iter().filter(|lease| seen.insert(**lease)).map(|lease| self.key(*lease).into()).collect();
                let is_alone =
                    |one: &&Release| request.iter().filter(|other| other.key.resource == one.key.resource).count() == 1;
                let together = request.iter().filter(|release| !is_alone(release));
                self.either_way.extend(together.map(|release| release.key.id));
                let begun = self.before();
                let real = self.real[*client].release(&request).await;
                if !self.is_certain(begun) {
                    return Ok(false);
                }
                let model = self.memory[*client].release(&request).await;
                for (real, model) in real.into_iter().zip(model) {
                    prop_assert_eq!(well(real)?, well(model)?);
                }
            }
            Operation::Break { client, resource } => {
                let begun = self.before();
                let real = self.real[*client].break_leases(&name_of(*resource)).await;
                if !self.is_certain(begun) {
                    return Ok(false);
                }
                let model = self.memory[*client].break_leases(&name_of(*resource)).await;
                prop_assert_eq!(well(real)?, well(model)?);
            }
            Operation::Inspect { resource } => {
                let begun = self.before();
                let real = self.real[0].inspect(&name_of(*resource)).await;
                if !self.is_certain(begun) {
                    return Ok(false);
                }
                let model = self.memory[0].inspect(&name_of(*resource)).await;
                self.same_snapshot(*resource, &well(real)?, &well(model)?)?;
            }
            Operation::List => {
                let begun = self.before();
                let real = all(&*self.real[0]).await?;
                if !self.is_certain(begun) {
                    return Ok(false);
                }
                prop_assert_eq!(real, all(&self.memory[0]).await?);
            }
        }
        Ok(true)
    }

    fn same_acquired(
        &mut self,
        resource: usize,
        real: Result<Acquired, BackendError>,
        model: Result<Acquired, BackendError>,
    ) -> Result<(), TestCaseError> {
        match (real, model) {
            (Ok(Acquired::Held(real)), Ok(Acquired::Held(model))) => {
                self.same_token(resource, real.token, model.token)?;
                // A client of a coarse store may not know that another client has extended the lease since.
                let known = if self.is_coarse() { real.ttl.max(model.ttl) } else { real.ttl };
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
    fn same_extended(
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
        if !self.stage.capabilities().expiry_lag.is_zero() {
            return Ok(()); // the store reports expiries itself
        }
        self.near(real.ask_again, model.ask_again)
    }

    fn same_snapshot(&mut self, resource: usize, real: &Snapshot, model: &Snapshot) -> Result<(), TestCaseError> {
        prop_assert_eq!((&real.resource, real.capacity), (&model.resource, model.capacity));
        prop_assert_eq!((real.holders.len(), real.queue.len()), (model.holders.len(), model.queue.len()));
        for (real, model) in real.holders.iter().zip(&model.holders) {
            prop_assert_eq!((&real.owner, real.weight), (&model.owner, model.weight));
            self.same_token(resource, real.token, model.token)?;
            // The lease in front may have expired, which some stores notice late, and later still on a busy machine.
            let late = model.held_for.saturating_sub(real.held_for).min(2 * self.stage.capabilities().expiry_lag);
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
        let step = self.stage.capabilities().ttl_step;
        let tolerance = 2 * self.longest + Duration::from_millis(1) + step + step / 10;
        prop_assert!(real.abs_diff(model) <= tolerance, "{:?} and {:?}, beyond {:?}", real, model, tolerance);
        Ok(())
    }

    /// Checks that each client received the same grants and breaks, and no others.
    async fn same_events(&mut self) -> Result<(), TestCaseError> {
        for client in (0..2).filter(|_| self.stage.capabilities().push && self.stage.capabilities().queue) {
            let is_certain = |event: &(&str, LeaseId)| event.0 != "granted" || !self.either_way.contains(&event.1);
            let mut expected = HashSet::new();
            while let Some(event) = self.memory_events[client].next().now_or_never() {
                expected.extend(event.and_then(plain).filter(is_certain));
            }
            let waiter = self.grant_a_last_one(client).await?;
            let last = ("granted", waiter.id);
            expected.insert(last);
            let mut told = HashSet::new();
            let mut how_many = 0;
            let plainly = self.stage.capabilities().expiry_lag.is_zero();
            while !told.contains(&last) || told.len() < expected.len() {
                let patience = if plainly || !told.contains(&last) { 5_000 } else { 300 };
                let next = timeout(Duration::from_millis(patience), self.real_events[client].next()).await;
                let Ok(event) = next else { break };
                told.extend(event.and_then(plain).filter(is_certain));
                how_many += 1;
                prop_assert!(how_many <= 1_000, "{:?}", told);
            }
            well(self.real[client].release(&[waiter.into()]).await.remove(0))?;
            if !plainly {
                prop_assert!(told.contains(&last), "the last grant was not notified");
                // Such a store ends leases by itself, and its clients look up what happened to their leases. They may
                // not know why a lease has ended, nor learn of events that are already over.
                told.retain(|event| event.0 != "broken" || expected.contains(event));
                let mut missing = Vec::new();
                for event in expected.difference(&told).copied() {
                    if !self.is_over(event.1).await? {
                        missing.push(event);
                    }
                }
                prop_assert!(missing.is_empty(), "events are missing: {:?}", missing);
                expected.retain(|event| told.contains(event));
            }
            prop_assert_eq!(told, expected);
        }
        Ok(())
    }
}

impl Run {
    /// Whether a lease was released, or has ended.
    async fn is_over(&self, id: LeaseId) -> Result<bool, TestCaseError> {
        for resource in 0..RESOURCES.len() {
            let ask = Extension { key: LeaseKey { resource: name_of(resource), id }, ttl: Ttl::MIN };
            if !matches!(well(self.memory[0].extend(&[ask]).await.remove(0))?, Extended::Gone { .. }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the client wait for one more grant and get it. Each client receives its events in order, so that earlier
    /// events that are missing by then will not arrive.
    async fn grant_a_last_one(&self, client: usize) -> Result<LeaseKey, TestCaseError> {
        let last = resource("the last one");
        let claim = |id, if_busy| Claim {
            key: LeaseKey { resource: last.clone(), id: LeaseId::from_u128(id) },
            share: Share::EXCLUSIVE,
            ttl: self.ttl((0, IDS - 1), 100_000),
            if_busy,
            owner: Arc::new(Owner::current()),
            data: None,
        };
        let (holder, waiter) = (claim(1 << 100, IfBusy::Refuse), claim(2 << 100, IfBusy::Queue));
        for claim in [&holder, &waiter] {
            well(self.real[client].acquire(std::slice::from_ref(claim)).await.remove(0))?;
        }
        well(self.real[client].release(&[holder.key.into()]).await.remove(0))?;
        Ok(waiter.key)
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

/// Drops the token, which was compared in the answers. A resync is not a difference.
fn plain(event: Event) -> Option<(&'static str, LeaseId)> {
    match event {
        Event::Granted { id, .. } => Some(("granted", id)),
        Event::Broken { id } => Some(("broken", id)),
        _ => None,
    }
}

fn well<T>(answer: Result<T, BackendError>) -> Result<T, TestCaseError> {
    answer.map_err(|error| TestCaseError::fail(error.to_string()))
}

fn name_of(number: usize) -> ResourceName {
    resource(RESOURCES[number])
}
