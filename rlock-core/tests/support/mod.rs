//! A client on virtual time, over a store whose answers to extensions a test decides.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, Client, Clock, EventStream, Extended, Extension, Failure,
    LeaseKey, ListFilter, LockOptions, MemoryBackend, MemoryStore, Namespace, Page, Released, ResourceName, SimpleLock,
    Snapshot,
};
use tokio::runtime::Handle;
use tokio::time::Instant;

pub(crate) const TTL: Duration = Duration::from_secs(30);
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// What becomes of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fate {
    #[default]
    Answered,
    /// It takes effect, and the answer gets lost.
    AnswerLost,
    Failed,
    Hangs,
    Panics,
}

/// The reference backend, with extensions that go as the test decides and are written down.
#[derive(Debug)]
pub(crate) struct Scripted {
    inner: MemoryBackend,
    script: Arc<Script>,
}

#[derive(Debug, Default)]
pub(crate) struct Script {
    fate: Mutex<Fate>,
    /// Extensions of this resource hang, whatever the fate of the others.
    hanging: Mutex<Option<String>>,
    calls: Mutex<Vec<Call>>,
}

/// One call to extend: when, and for what.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) at: Instant,
    pub(crate) resources: Vec<String>,
}

impl Script {
    pub(crate) fn set(&self, fate: Fate) {
        *self.fate.lock().unwrap() = fate;
    }

    pub(crate) fn hang(&self, resource: &str) {
        *self.hanging.lock().unwrap() = Some(resource.to_owned());
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// When `resource` was extended.
    pub(crate) fn times(&self, resource: &str) -> Vec<Instant> {
        let of = |call: &Call| call.resources.iter().any(|name| name == resource).then_some(call.at);
        self.calls().iter().filter_map(of).collect()
    }
}

#[async_trait]
impl Backend for Scripted {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        self.inner.acquire(claims).await
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let resources: Vec<String> = extensions.iter().map(|extension| extension.key.resource.to_string()).collect();
        let hanging = self.script.hanging.lock().unwrap().clone();
        let hangs = hanging.is_some_and(|hanging| resources.contains(&hanging));
        self.script.calls.lock().unwrap().push(Call { at: Instant::now(), resources });
        let fate = if hangs { Fate::Hangs } else { *self.script.fate.lock().unwrap() };
        let lost = || extensions.iter().map(|_| Err(failure())).collect();
        match fate {
            Fate::Answered => self.inner.extend(extensions).await,
            Fate::AnswerLost => {
                self.inner.extend(extensions).await;
                lost()
            }
            Fate::Failed => lost(),
            Fate::Hangs => std::future::pending().await,
            Fate::Panics => panic!("the backend panics"),
        }
    }

    async fn release(&self, leases: &[LeaseKey]) -> Vec<Result<Released, BackendError>> {
        self.inner.release(leases).await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        self.inner.inspect(resource).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        self.inner.list(filter).await
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        self.inner.break_leases(resource).await
    }

    fn events(&self) -> EventStream {
        self.inner.events()
    }
}

fn failure() -> BackendError {
    BackendError::Unknown(Failure::new("extend", "memory", "the answer got lost"))
}

/// A store on virtual time.
pub(crate) struct World {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) script: Arc<Script>,
    pub(crate) client: Client,
}

impl World {
    pub(crate) fn new() -> Self {
        let store = MemoryStore::with_clock(Clock::tokio());
        let script = Arc::new(Script::default());
        let backend = Scripted { inner: store.client(Namespace::default()), script: script.clone() };
        let client = on_this_runtime(backend);
        Self { store, script, client }
    }

    /// A client that the script has no hold on.
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

/// Lets everything run that is ready, without letting time pass.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
