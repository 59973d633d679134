//! The reference backend: the contract in little code, so that its correctness is easy to see.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::{
    Acquired, Backend, BackendError, Capabilities, Claim, Clock, Cursor, Entry, Event, EventStream, Events, Extended,
    Extension, Grant, Holder, IfBusy, LeaseData, LeaseId, ListFilter, Moment, Namespace, Owner, Page, Place, Release,
    Released, ResourceName, Share, Snapshot, Token, Ttl, Waiter,
};

/// A store in memory, for tests and as the model that other backends are compared with. Its clients are
/// [`MemoryBackend`]s of the same process.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last token. It serves all resources, so that empty resources can be dropped.
    last_token: u64,
    /// The number of resources left after the last sweep of those without live leases.
    swept: usize,
    resources: HashMap<(Namespace, ResourceName), Resource>,
}

#[derive(Debug, Default)]
struct Resource {
    /// In grant order.
    held: Vec<Lease>,
    /// In queue order.
    queue: Vec<Lease>,
    rests: Vec<Rest>,
}

/// A share that stays taken without a holder.
#[derive(Debug)]
struct Rest {
    share: Share,
    until: Moment,
}

#[derive(Debug)]
struct Lease {
    id: LeaseId,
    share: Share,
    owner: Arc<Owner>,
    data: Option<LeaseData>,
    inbox: Inbox,
    expires: Moment,
    since: Moment,
    /// Zero while queued.
    token: u64,
}

type Inbox = Arc<Events>;

impl MemoryStore {
    /// An empty store on the clock of the machine.
    pub fn new() -> Arc<Self> {
        Self::with_clock(Clock::boot())
    }

    /// An empty store on `clock`.
    pub fn with_clock(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default() })
    }

    /// A client of this store.
    pub fn client(self: &Arc<Self>, namespace: Namespace) -> MemoryBackend {
        MemoryBackend { store: self.clone(), namespace, inbox: Inbox::default() }
    }

    /// The number of resources in the store.
    pub fn resources(&self) -> usize {
        lock(&self.state).resources.len()
    }
}

/// A client of a [`MemoryStore`].
pub struct MemoryBackend {
    store: Arc<MemoryStore>,
    namespace: Namespace,
    inbox: Inbox,
}

impl MemoryBackend {
    /// Removes everything expired from a resource and runs `act` on it. Grants what `act` frees before any other client
    /// sees the resource, and forgets the resource if it is empty then.
    fn on<T>(&self, name: &ResourceName, act: impl FnOnce(&mut Resource, &mut u64, Moment) -> T) -> T {
        let now = self.store.clock.now();
        let mut state = lock(&self.store.state);
        let State { last_token, swept, resources } = &mut *state;
        if resources.len() > 2 * *swept + 16 {
            resources.retain(|_, resource| resource.has_live(now));
            *swept = resources.len();
        }
        let mut entry = match resources.entry((self.namespace.clone(), name.clone())) {
            MapEntry::Occupied(entry) => entry,
            MapEntry::Vacant(entry) => entry.insert_entry(Resource::default()),
        };
        let resource = entry.get_mut();
        resource.settle(last_token, now);
        let answer = act(resource, last_token, now);
        resource.settle(last_token, now);
        if resource.is_empty() {
            entry.remove();
        }
        answer
    }
}

impl Resource {
    /// Drops expired leases and rests, then grants waiters from the head of the queue while they fit.
    fn settle(&mut self, last_token: &mut u64, now: Moment) {
        self.held.retain(|lease| lease.expires > now);
        self.rests.retain(|rest| rest.until > now);
        self.queue.retain(|lease| lease.expires > now);
        while let Some(head) = self.queue.first()
            && self.fits(head.share)
        {
            let mut lease = self.queue.remove(0);
            lease.grant(last_token, now);
            let token = Token::new(lease.token);
            lease.inbox.send(Event::Granted { id: lease.id, token });
            self.held.push(lease);
        }
    }

    fn fits(&self, share: Share) -> bool {
        let taken: u64 = self.held.iter().map(|lease| u64::from(lease.share.weight())).sum();
        let taken = taken + self.resting();
        taken + u64::from(share.weight()) <= u64::from(share.capacity())
    }

    /// The number of permits that rest.
    fn resting(&self) -> u64 {
        self.rests.iter().map(|rest| u64::from(rest.share.weight())).sum()
    }

    fn acquire(&mut self, claim: &Claim, inbox: &Inbox, last_token: &mut u64, now: Moment) -> ClaimResult {
        if let Some(state) = self.state_of(claim.key.id, now) {
            return Ok(state);
        }
        if let Some(actual) = self.capacity().filter(|&actual| actual != claim.share.capacity()) {
            let (resource, asked) = (claim.key.resource.clone(), claim.share.capacity());
            return Err(BackendError::CapacityMismatch { resource, asked, actual });
        }
        let mut lease = Lease {
            id: claim.key.id,
            share: claim.share,
            owner: claim.owner.clone(),
            inbox: inbox.clone(),
            data: claim.data.clone(),
            expires: now.after(claim.ttl.get()),
            since: now,
            token: 0,
        };
        if self.queue.is_empty() && self.fits(claim.share) {
            lease.grant(last_token, now);
            self.held.push(lease);
        } else if claim.if_busy == IfBusy::Queue {
            self.queue.push(lease);
        } else {
            return Ok(Acquired::Busy);
        }
        Ok(self.state_of(claim.key.id, now).expect("the lease was put there"))
    }

    fn extend(&mut self, extension: &Extension, now: Moment) -> Extended {
        let id = extension.key.id;
        for lease in self.held.iter_mut().chain(&mut self.queue).filter(|lease| lease.id == id) {
            lease.expires = lease.expires.max(now.after(extension.ttl.get()));
        }
        match self.state_of(id, now) {
            Some(Acquired::Held(grant)) => Extended::Held(grant),
            Some(Acquired::Queued(place)) => Extended::Queued(place),
            _ => Extended::Gone { taken: !self.held.is_empty() },
        }
    }

    fn release(&mut self, release: &Release, now: Moment) -> Released {
        let (id, before) = (release.key.id, self.held.len() + self.queue.len());
        if let Some(lease) = self.held.iter().find(|lease| lease.id == id && !release.rest.is_zero()) {
            self.rests.push(Rest { share: lease.share, until: now.after(release.rest) });
        }
        self.held.retain(|lease| lease.id != id);
        self.queue.retain(|lease| lease.id != id);
        if self.held.len() + self.queue.len() < before { Released::Released } else { Released::Absent }
    }

    fn break_leases(&mut self) -> u64 {
        self.rests.clear();
        let broken = std::mem::take(&mut self.held);
        for lease in &broken {
            lease.inbox.send(Event::Broken { id: lease.id });
        }
        broken.len() as u64
    }

    fn state_of(&self, id: LeaseId, now: Moment) -> Option<Acquired> {
        if let Some(lease) = self.held.iter().find(|lease| lease.id == id) {
            return Some(Acquired::Held(Grant { token: Token::new(lease.token), ttl: lease.expires.since(now) }));
        }
        let ahead = self.queue.iter().position(|lease| lease.id == id)?;
        let ends = self.held.iter().map(|lease| lease.expires).chain(self.rests.iter().map(|rest| rest.until));
        let holder = ends.min().unwrap_or(now);
        let blocked_until = if ahead == 0 { holder } else { self.queue[ahead - 1].expires };
        Some(Acquired::Queued(Place { ahead: ahead as u64, ask_again: blocked_until.since(now) }))
    }

    fn capacity(&self) -> Option<u32> {
        let shares = self.held.iter().chain(&self.queue).map(|lease| lease.share);
        shares.chain(self.rests.iter().map(|rest| rest.share)).next().map(Share::capacity)
    }

    fn has_live(&self, now: Moment) -> bool {
        let is_resting = self.rests.iter().any(|rest| rest.until > now);
        is_resting || self.held.iter().chain(&self.queue).any(|lease| lease.expires > now)
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.queue.is_empty() && self.rests.is_empty()
    }
}

impl Lease {
    fn grant(&mut self, last_token: &mut u64, now: Moment) {
        *last_token += 1;
        self.token = *last_token;
        self.since = now;
    }
}

type ClaimResult = Result<Acquired, BackendError>;

#[async_trait]
impl Backend for MemoryBackend {
    fn capabilities(&self) -> &Capabilities {
        const STEP: Duration = Duration::from_millis(1);
        const CAN: Capabilities = Capabilities {
            backend: "memory",
            min_ttl: Ttl::MIN,
            max_ttl: Ttl::MAX,
            ttl_step: STEP,
            expiry_lag: Duration::ZERO,
            queue: true,
            push: true,
            rest: true,
            data: true,
        };
        &CAN
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<ClaimResult> {
        let acquire = |claim: &Claim| {
            self.on(&claim.key.resource, |resource, last_token, now| {
                resource.acquire(claim, &self.inbox, last_token, now)
            })
        };
        claims.iter().map(acquire).collect()
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let extend = |extension: &Extension| {
            self.on(&extension.key.resource, |resource, _, now| resource.extend(extension, now))
        };
        extensions.iter().map(extend).map(Ok).collect()
    }

    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        let release =
            |release: &Release| self.on(&release.key.resource, |resource, _, now| resource.release(release, now));
        releases.iter().map(release).map(Ok).collect()
    }

    async fn inspect(&self, name: &ResourceName) -> Result<Snapshot, BackendError> {
        Ok(self.on(name, |resource, _, now| Snapshot {
            resource: name.clone(),
            capacity: resource.capacity(),
            holders: resource.held.iter().map(|lease| lease.as_holder(now)).collect(),
            queue: resource.queue.iter().map(|lease| lease.as_waiter(now)).collect(),
            rest: resource.rests.iter().map(|rest| rest.until.since(now)).max(),
        }))
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        let after = filter.after.as_ref().map_or("", |cursor| &cursor.0);
        let mut names: Vec<ResourceName> = lock(&self.store.state)
            .resources
            .keys()
            .filter(|(namespace, name)| *namespace == self.namespace && name.as_str().starts_with(&filter.prefix))
            .map(|(_, name)| name.clone())
            .filter(|name| name.as_str() > after)
            .collect();
        names.sort();
        let more = names.len() > filter.limit.max(1);
        names.truncate(filter.limit.max(1));
        let next = names.last().filter(|_| more).map(|name| Cursor(name.to_string()));
        let entry = |name: &ResourceName| {
            self.on(name, |resource, _, _| Entry {
                resource: name.clone(),
                holders: resource.held.len() as u64,
                waiters: resource.queue.len() as u64,
            })
        };
        let entries = names.iter().map(entry).filter(|entry| entry.holders + entry.waiters > 0).collect();
        Ok(Page { entries, next })
    }

    async fn break_leases(&self, name: &ResourceName) -> Result<u64, BackendError> {
        Ok(self.on(name, |resource, _, _| resource.break_leases()))
    }

    fn events(&self) -> EventStream {
        self.inbox.stream()
    }
}

impl Lease {
    fn as_holder(&self, now: Moment) -> Holder {
        Holder {
            owner: Owner::clone(&self.owner),
            token: Token::new(self.token),
            weight: self.share.weight(),
            held_for: now.since(self.since),
            remaining: self.expires.since(now),
            data: self.data.clone(),
        }
    }

    fn as_waiter(&self, now: Moment) -> Waiter {
        Waiter {
            owner: Owner::clone(&self.owner),
            weight: self.share.weight(),
            waiting_for: now.since(self.since),
            remaining: self.expires.since(now),
            data: self.data.clone(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
