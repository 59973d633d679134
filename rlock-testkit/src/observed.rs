//! A backend that records the calls to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, EventStream, Extended, Extension, Finding, LeaseId,
    ListFilter, Page, Release, Released, ResourceName, Snapshot,
};

/// The calls of a client to its backend.
#[derive(Debug, Default)]
pub struct Record {
    calls: AtomicU64,
    claimed: Mutex<Vec<LeaseId>>,
}

impl Record {
    /// The number of calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// The ids of all claims, in the order of the calls.
    pub fn claimed(&self) -> Vec<LeaseId> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn call(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }

    fn claim(&self, claims: &[Claim]) {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.extend(claims.iter().map(|claim| claim.key.id));
    }
}

/// A backend that records its calls in a [`Record`].
#[derive(Debug)]
pub struct Observed<B> {
    backend: B,
    record: Arc<Record>,
}

impl<B: Backend> Observed<B> {
    /// Records all calls to `backend` in `record`.
    pub fn new(backend: B, record: Arc<Record>) -> Self {
        Self { backend, record }
    }
}

#[async_trait]
impl<B: Backend> Backend for Observed<B> {
    fn capabilities(&self) -> &Capabilities {
        self.backend.capabilities()
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        self.record.call();
        self.record.claim(claims);
        self.backend.acquire(claims).await
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        self.record.call();
        self.backend.extend(extensions).await
    }

    async fn release(&self, leases: &[Release]) -> Vec<Result<Released, BackendError>> {
        self.record.call();
        self.backend.release(leases).await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        self.record.call();
        self.backend.inspect(resource).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        self.record.call();
        self.backend.list(filter).await
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        self.record.call();
        self.backend.break_leases(resource).await
    }

    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        self.record.call();
        self.backend.examine().await
    }

    fn events(&self) -> EventStream {
        self.backend.events()
    }
}
