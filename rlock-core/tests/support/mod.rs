//! A client on virtual time, with a store whose answers the test controls.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

mod log;

use std::error::Error;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::poll;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, Client, Clock, EventStream, Extended, Extension, Failure,
    Finding, LeaseKey, ListFilter, LockOptions, MemoryBackend, MemoryStore, Namespace, Page, Release, Released,
    ResourceName, SimpleLock, Snapshot,
};
use tokio::runtime::Handle;
use tokio::time::Instant;

pub(crate) use self::log::{Log, OnEvent};

pub(crate) const TTL: Duration = Duration::from_secs(30);
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// The time between two polls of [`dropped_after`].
pub(crate) const STEP: Duration = Duration::from_millis(1);

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fate {
    #[default]
    Answered,
    /// The request takes effect, and the answer is lost.
    AnswerLost,
    /// The request takes effect, and the answer is delayed.
    AnsweredLate(Duration),
    /// The request reaches the store after a delay.
    Delayed(Duration),
    Failed,
    /// The request fails with an error whose drop panics.
    FailedBadly,
    Hangs,
    Panics,
}

/// The kinds of requests whose outcome a test controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Acquire,
    Extend,
    Release,
}

/// The reference backend, with requests whose outcome the test controls. It records extensions.
#[derive(Debug)]
pub(crate) struct Scripted {
    inner: MemoryBackend,
    script: Arc<Script>,
    capabilities: Capabilities,
}

impl Scripted {
    /// A client of `store`, and the script that controls its requests.
    pub(crate) fn client_of(store: &Arc<MemoryStore>) -> (Self, Arc<Script>) {
        let inner = store.client(Namespace::default());
        let (capabilities, script) = (inner.capabilities().clone(), Arc::<Script>::default());
        (Self { inner, script: script.clone(), capabilities }, script)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Script {
    fates: Mutex<[Fate; 3]>,
    /// Requests of this kind with this resource hang, whatever the outcome of the others is.
    hanging: Mutex<Option<(Verb, String)>>,
    calls: Mutex<Vec<Call>>,
    /// The claims and releases of each request so far.
    sizes: Mutex<Vec<(Verb, usize)>>,
    /// The outcome of inspections, and their number so far.
    looks: Mutex<(Fate, u32)>,
    /// The number of times that core may ask for the capabilities before the backend panics. `None` for no limit.
    capabilities_left: Mutex<Option<u32>>,
}

/// One call to extend.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) at: Instant,
    pub(crate) resources: Vec<String>,
}

impl Script {
    /// Sets the outcome of extensions.
    pub(crate) fn set(&self, fate: Fate) {
        self.decide(Verb::Extend, fate);
    }

    pub(crate) fn decide(&self, verb: Verb, fate: Fate) {
        self.fates.lock().unwrap()[verb as usize] = fate;
    }

    /// Runs a request with the outcome `fate`.
    async fn run<T>(
        &self,
        fate: Fate,
        count: usize,
        request: impl Future<Output = Vec<Result<T, BackendError>>>,
    ) -> Vec<Result<T, BackendError>> {
        let lost = || (0..count).map(|_| Err(failure())).collect();
        match fate {
            Fate::Answered => request.await,
            Fate::AnswerLost => {
                request.await;
                lost()
            }
            Fate::AnsweredLate(delay) => {
                let answers = request.await;
                tokio::time::sleep(delay).await;
                answers
            }
            Fate::Delayed(delay) => {
                tokio::time::sleep(delay).await;
                request.await
            }
            Fate::Failed => lost(),
            Fate::FailedBadly => (0..count).map(|_| Err(bad_failure())).collect(),
            Fate::Hangs => std::future::pending().await,
            Fate::Panics => panic!("the backend panics"),
        }
    }

    fn fate(&self, verb: Verb) -> Fate {
        self.fates.lock().unwrap()[verb as usize]
    }

    /// Lets every extension call hang that contains `resource`.
    pub(crate) fn hang(&self, resource: &str) {
        self.hang_on(Verb::Extend, resource);
    }

    /// Lets every call of this kind hang that contains `resource`.
    pub(crate) fn hang_on(&self, verb: Verb, resource: &str) {
        *self.hanging.lock().unwrap() = Some((verb, resource.to_owned()));
    }

    /// The outcome of a call with these keys.
    fn fate_of<'a>(&self, verb: Verb, mut keys: impl Iterator<Item = &'a LeaseKey>) -> Fate {
        match &*self.hanging.lock().unwrap() {
            Some((of, name)) if *of == verb && keys.any(|key| key.resource.as_str() == name) => Fate::Hangs,
            _ => self.fate(verb),
        }
    }

    /// Sets the outcome of inspections.
    pub(crate) fn look_away(&self, fate: Fate) {
        self.looks.lock().unwrap().0 = fate;
    }

    /// Lets the backend panic when core asks for its capabilities more than `left` times; never for `None`.
    pub(crate) fn panic_in_capabilities(&self, left: Option<u32>) {
        *self.capabilities_left.lock().unwrap() = left;
    }

    fn asked_for_capabilities(&self) {
        let mut left = self.capabilities_left.lock().unwrap();
        let was_left = *left;
        *left = was_left.map(|left| left.saturating_sub(1));
        drop(left);
        assert_ne!(was_left, Some(0), "the backend panics");
    }

    /// The number of inspections so far.
    pub(crate) fn looks(&self) -> u32 {
        self.looks.lock().unwrap().1
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The number of claims or releases in each request of this kind so far.
    pub(crate) fn sizes(&self, verb: Verb) -> Vec<usize> {
        let of = |(of, size): &(Verb, usize)| (*of == verb).then_some(*size);
        self.sizes.lock().unwrap().iter().filter_map(of).collect()
    }

    fn note(&self, verb: Verb, size: usize) {
        self.sizes.lock().unwrap().push((verb, size));
    }

    /// The instants at which `resource` was extended.
    pub(crate) fn times(&self, resource: &str) -> Vec<Instant> {
        let of = |call: &Call| call.resources.iter().any(|name| name == resource).then_some(call.at);
        self.calls().iter().filter_map(of).collect()
    }
}

#[async_trait]
impl Backend for Scripted {
    fn capabilities(&self) -> &Capabilities {
        self.script.asked_for_capabilities();
        &self.capabilities
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        self.script.note(Verb::Acquire, claims.len());
        let fate = self.script.fate_of(Verb::Acquire, claims.iter().map(|claim| &claim.key));
        self.script.run(fate, claims.len(), self.inner.acquire(claims)).await
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let resources: Vec<String> = extensions.iter().map(|extension| extension.key.resource.to_string()).collect();
        self.script.calls.lock().unwrap().push(Call { at: Instant::now(), resources });
        let fate = self.script.fate_of(Verb::Extend, extensions.iter().map(|extension| &extension.key));
        self.script.run(fate, extensions.len(), self.inner.extend(extensions)).await
    }

    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        self.script.note(Verb::Release, releases.len());
        let fate = self.script.fate_of(Verb::Release, releases.iter().map(|release| &release.key));
        self.script.run(fate, releases.len(), self.inner.release(releases)).await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        let fate = {
            let mut looks = self.script.looks.lock().unwrap();
            looks.1 += 1;
            looks.0
        };
        match fate {
            Fate::Hangs => std::future::pending().await,
            Fate::Failed => Err(failure()),
            Fate::AnsweredLate(delay) => {
                let snapshot = self.inner.inspect(resource).await;
                tokio::time::sleep(delay).await;
                snapshot
            }
            _ => self.inner.inspect(resource).await,
        }
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        self.inner.list(filter).await
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        self.inner.break_leases(resource).await
    }

    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        Ok(vec![Finding::note("answers", "they are scripted")])
    }

    fn events(&self) -> EventStream {
        if self.capabilities.push { self.inner.events() } else { Box::pin(futures_util::stream::pending()) }
    }
}

fn failure() -> BackendError {
    BackendError::Unknown(Failure::new("ask", "memory", "the answer got lost"))
}

fn bad_failure() -> BackendError {
    #[derive(Debug)]
    struct Bad;
    impl fmt::Display for Bad {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the store failed")
        }
    }
    impl Error for Bad {}
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("the error panics");
        }
    }
    BackendError::Unknown(Failure::new("ask", "memory", "the store failed").caused_by(Bad))
}

/// A store on virtual time.
pub(crate) struct World {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) script: Arc<Script>,
    pub(crate) client: Client,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Creates a client whose backend has other capabilities.
    pub(crate) fn with(change: impl FnOnce(&mut Capabilities)) -> Self {
        let store = MemoryStore::with_clock(Clock::tokio());
        let (mut backend, script) = Scripted::client_of(&store);
        change(&mut backend.capabilities);
        let client = on_this_runtime(backend);
        Self { store, script, client }
    }

    /// A client without a script.
    pub(crate) fn other_client(&self) -> Client {
        on_this_runtime(self.store.client(Namespace::default()))
    }

    pub(crate) fn lock(&self, name: &str) -> SimpleLock {
        SimpleLock::new(name, &self.client).unwrap()
    }
}

fn on_this_runtime(backend: impl Backend) -> Client {
    Client::builder().runtime(Handle::current()).clock(Clock::tokio()).build(backend)
}

pub(crate) fn options() -> LockOptions {
    LockOptions::new().ttl(TTL)
}

/// Waits for the reports to the log and to metrics: virtual time stands still while a thread makes them.
pub(crate) async fn until_reported() {
    tokio::time::sleep(STEP).await;
}

/// Runs every task that is ready, without advancing the time.
pub(crate) async fn until_idle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// A waker that panics, as that of a broken executor does.
pub(crate) fn broken_waker() -> Waker {
    struct Broken;
    impl Wake for Broken {
        fn wake(self: Arc<Self>) {
            panic!("the executor is broken");
        }
    }
    Waker::from(Arc::new(Broken))
}

/// Polls `future` up to `polls` times, a [`STEP`] apart, and drops it. Returns its output if it was ready before.
pub(crate) async fn dropped_after<F: Future>(polls: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = poll!(future.as_mut()) {
            return Some(output);
        }
        tokio::time::sleep(STEP).await;
    }
    None
}
