//! A client at the level of the contract. Every call returns in time, or fails the test.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, Cursor, Entry, Extended, Extension, Grant, IfBusy, LeaseId,
    LeaseKey, ListFilter, Owner, Page, Release, Released, ResourceName, Share, Snapshot, Token, Ttl,
};
use tokio::time::timeout;

use crate::wait::{eventually, within};

/// A TTL that is longer than any test.
pub const LONG: Duration = Duration::from_secs(120);

/// Time limit for everything that only a busy machine can delay.
pub const SOON: Duration = Duration::from_secs(20);

/// A claim on all of `name`, with the TTL [`LONG`], that is refused instead of queued. [`Shape`] changes it.
pub fn claim(name: &str) -> Claim {
    Claim {
        key: LeaseKey { resource: resource(name), id: LeaseId::random() },
        share: Share::EXCLUSIVE,
        ttl: ttl(LONG),
        if_busy: IfBusy::Refuse,
        owner: Arc::new(Owner::current()),
        data: None,
    }
}

/// Changes a claim.
pub trait Shape {
    /// Sets the TTL.
    #[must_use]
    fn living(self, ttl: Duration) -> Self;
    /// Lets the claim queue.
    #[must_use]
    fn queued(self) -> Self;
    /// Sets the share: `weight` of `capacity` permits.
    #[must_use]
    fn weighing(self, weight: u32, capacity: u32) -> Self;
}

impl Shape for Claim {
    fn living(mut self, life: Duration) -> Self {
        self.ttl = ttl(life);
        self
    }

    fn queued(mut self) -> Self {
        self.if_busy = IfBusy::Queue;
        self
    }

    fn weighing(mut self, weight: u32, capacity: u32) -> Self {
        self.share = Share::new(weight, capacity).expect("a valid share");
        self
    }
}

/// A valid resource name.
pub fn resource(name: &str) -> ResourceName {
    ResourceName::new(name).unwrap_or_else(|error| panic!("{error}"))
}

/// A valid TTL.
pub fn ttl(ttl: Duration) -> Ttl {
    Ttl::new(ttl).unwrap_or_else(|error| panic!("{error}"))
}

/// The key of the lease of `name` with the id `id`.
pub fn key(name: &str, id: u128) -> LeaseKey {
    LeaseKey { resource: resource(name), id: LeaseId::from_u128(id) }
}

/// The key of a lease of `name` that does not exist.
pub fn absent(name: &str) -> LeaseKey {
    LeaseKey { resource: resource(name), id: LeaseId::random() }
}

/// A lease that a peer holds.
#[derive(Debug, Clone)]
pub struct Held {
    /// The key of the lease.
    pub key: LeaseKey,
    /// The token of the lease.
    pub token: Token,
    /// The TTL that the store granted.
    pub ttl: Duration,
}

/// A client at the level of the contract. Its calls fail the test if they fail, or take longer than [`SOON`].
#[derive(Debug, Clone)]
pub struct Peer {
    backend: Arc<dyn Backend>,
}

impl Peer {
    /// A peer that calls `backend`.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    /// The backend.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The capabilities of the store.
    pub fn capabilities(&self) -> &Capabilities {
        self.backend.capabilities()
    }

    /// Sends one claim.
    ///
    /// # Errors
    ///
    /// The error of the backend.
    pub async fn ask(&self, claim: &Claim) -> Result<Acquired, BackendError> {
        only(soon("acquire", self.backend.acquire(std::slice::from_ref(claim))).await)
    }

    /// Sends one claim until its outcome is known, as the driver does, for slow stores. Contract rule 8 allows it.
    async fn answer(&self, claim: &Claim) -> Acquired {
        let answered = async {
            loop {
                match only(self.backend.acquire(std::slice::from_ref(claim)).await) {
                    Err(BackendError::Unknown(_)) => {}
                    answer => return well(answer),
                }
            }
        };
        soon("acquire", answered).await
    }

    /// Sends a claim that has to be granted or refused, but not queued.
    pub async fn try_claim(&self, claim: &Claim) -> Option<Held> {
        match self.answer(claim).await {
            Acquired::Held(Grant { token, ttl }) => Some(Held { key: claim.key.clone(), token, ttl }),
            Acquired::Busy => None,
            other => panic!("a claim on {:?} that should be held or refused: {other:?}", claim.key.resource),
        }
    }

    /// Sends a claim that has to be granted at once.
    pub async fn hold(&self, claim: &Claim) -> Held {
        let held = self.try_claim(claim).await;
        held.unwrap_or_else(|| panic!("a claim on {:?} that should be granted was refused", claim.key.resource))
    }

    /// Sends a claim that has to be queued. Returns the number of leases in front of it.
    pub async fn queue(&self, claim: &Claim) -> u64 {
        match self.answer(claim).await {
            Acquired::Queued(place) => place.ahead,
            other => panic!("a claim on {:?} that should be queued: {other:?}", claim.key.resource),
        }
    }

    /// Sends many claims in one call.
    pub async fn acquire(&self, claims: &[Claim]) -> Vec<Acquired> {
        soon("acquire", until_answered(claims, async |claims| self.backend.acquire(claims).await)).await
    }

    /// Extends one lease.
    pub async fn extend(&self, key: &LeaseKey, life: Duration) -> Extended {
        self.extend_all(&[Extension { key: key.clone(), ttl: ttl(life) }]).await[0]
    }

    /// Extends many leases in one call.
    pub async fn extend_all(&self, extensions: &[Extension]) -> Vec<Extended> {
        soon("extend", until_answered(extensions, async |extensions| self.backend.extend(extensions).await)).await
    }

    /// The state of a lease. The request is an extension by the shortest TTL, so it may prolong the lease to that.
    pub async fn state(&self, key: &LeaseKey) -> Extended {
        self.extend(key, Ttl::MIN.get()).await
    }

    /// The token of a lease, if it is held.
    pub async fn token(&self, key: &LeaseKey) -> Option<Token> {
        match self.state(key).await {
            Extended::Held(grant) => Some(grant.token),
            _ => None,
        }
    }

    /// Waits until a queued lease is held, and returns its token. Polls, so that it needs no events.
    pub async fn granted(&self, limit: Duration, key: &LeaseKey) -> Token {
        let mut token = None;
        let is_held = async || {
            token = self.token(key).await;
            token.is_some()
        };
        eventually(limit, "the grant of a queued lease", is_held).await;
        token.expect("the wait above sets it")
    }

    /// Polls `name` until it is free, and holds it.
    pub async fn hold_once_free(&self, limit: Duration, name: &str) -> Held {
        let mut held = None;
        let is_held = async || {
            held = self.try_claim(&claim(name)).await;
            held.is_some()
        };
        eventually(limit, "a resource to become free", is_held).await;
        held.expect("the wait above sets it")
    }

    /// Releases one lease.
    pub async fn release(&self, key: &LeaseKey) -> Released {
        self.release_all(std::slice::from_ref(key)).await[0]
    }

    /// Releases many leases in one call.
    pub async fn release_all(&self, keys: &[LeaseKey]) -> Vec<Released> {
        self.release_each(&keys.iter().cloned().map(Release::from).collect::<Vec<_>>()).await
    }

    /// Releases one lease, and keeps its share taken for `rest`.
    pub async fn release_and_rest(&self, key: &LeaseKey, rest: Duration) -> Released {
        self.release_each(&[Release { key: key.clone(), rest }]).await[0]
    }

    /// Sends releases until their outcomes are known. A try without an answer may have released a lease, so that the next
    /// one finds nothing: that counts as released.
    async fn release_each(&self, releases: &[Release]) -> Vec<Released> {
        let mut released = vec![Released::Released; releases.len()];
        let mut asked: Vec<usize> = (0..releases.len()).collect();
        let mut is_first = true;
        let known = async {
            loop {
                let again: Vec<Release> = asked.iter().map(|&at| releases[at].clone()).collect();
                let answers = self.backend.release(&again).await;
                assert_eq!(answers.len(), again.len(), "one answer for each request");
                let mut unknown = Vec::new();
                for (at, answer) in asked.into_iter().zip(answers) {
                    match answer {
                        Err(BackendError::Unknown(_)) => unknown.push(at),
                        answer if is_first => released[at] = well(answer),
                        answer => drop(well(answer)),
                    }
                }
                if unknown.is_empty() {
                    return;
                }
                (asked, is_first) = (unknown, false);
            }
        };
        soon("release", known).await;
        released
    }

    /// Inspects `name`.
    pub async fn inspect(&self, name: &str) -> Snapshot {
        well(soon("inspect", self.backend.inspect(&resource(name))).await)
    }

    /// The remaining life of the only holder of `name`.
    pub async fn remaining(&self, name: &str) -> Duration {
        let snapshot = self.inspect(name).await;
        let [holder] = &*snapshot.holders else { panic!("one holder was expected: {snapshot:?}") };
        holder.remaining
    }

    /// Waits until `count` leases are queued for `name`.
    pub async fn sees_queued(&self, count: usize, name: &str) {
        eventually(SOON, "waiters to join the queue", async || self.inspect(name).await.queue.len() == count).await;
    }

    /// Waits until `name` has neither holders nor waiters.
    pub async fn sees_free(&self, name: &str) {
        eventually(SOON, "a resource to become free", async || self.inspect(name).await.is_free()).await;
    }

    /// Waits until the store answers.
    pub async fn is_reached(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let name = resource("is anybody there");
        let answers =
            async || timeout(PATIENCE, self.backend.inspect(&name)).await.is_ok_and(|snapshot| snapshot.is_ok());
        eventually(SOON, "an answer of the store", answers).await;
    }

    /// Breaks all held leases of `name`.
    pub async fn break_leases(&self, name: &str) -> u64 {
        well(soon("break", self.backend.break_leases(&resource(name))).await)
    }

    /// One page of resources.
    pub async fn page(&self, prefix: &str, limit: usize, after: Option<Cursor>) -> Page {
        let filter = ListFilter { prefix: prefix.into(), after, limit };
        well(soon("list", self.backend.list(&filter)).await)
    }

    /// One page of resources after a cursor, unless the store refuses the cursor.
    pub async fn page_unless_refused(&self, prefix: &str, limit: usize, after: Cursor) -> Option<Page> {
        let filter = ListFilter { prefix: prefix.into(), after: Some(after), limit };
        match soon("list", self.backend.list(&filter)).await {
            Err(BackendError::Rejected(_)) => None,
            answer => Some(well(answer)),
        }
    }

    /// All resources, read in pages of about `limit`.
    pub async fn list(&self, prefix: &str, limit: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut after = None;
        loop {
            let page = self.page(prefix, limit, after).await;
            entries.extend(page.entries);
            after = page.next;
            if after.is_none() {
                return entries;
            }
        }
    }
}

async fn soon<T>(what: &str, call: impl Future<Output = T>) -> T {
    within(SOON, what, call).await
}

fn well<T>(answer: Result<T, BackendError>) -> T {
    answer.unwrap_or_else(|error| panic!("{error}"))
}

fn only<T>(answers: Vec<T>) -> T {
    let [answer] =
        <[T; 1]>::try_from(answers).unwrap_or_else(|answers| panic!("{} answers to one request", answers.len()));
    answer
}

/// Repeats the requests whose outcome is unknown, as the driver does, for slow stores. Contract rule 8 allows it.
async fn until_answered<R: Clone, T>(
    requests: &[R],
    call: impl AsyncFn(&[R]) -> Vec<Result<T, BackendError>>,
) -> Vec<T> {
    let mut answers: Vec<Option<T>> = requests.iter().map(|_| None).collect();
    loop {
        let unanswered: Vec<usize> = (0..requests.len()).filter(|&at| answers[at].is_none()).collect();
        if unanswered.is_empty() {
            return answers.into_iter().flatten().collect();
        }
        let again: Vec<R> = unanswered.iter().map(|&at| requests[at].clone()).collect();
        let answered = call(&again).await;
        assert_eq!(answered.len(), again.len(), "one answer for each request");
        for (at, answer) in unanswered.into_iter().zip(answered) {
            answers[at] = match answer {
                Err(BackendError::Unknown(_)) => None,
                answer => Some(well(answer)),
            };
        }
    }
}
