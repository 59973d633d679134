//! Counting the requests of clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, EventStream, Extended, Extension, Finding, ListFilter, Page,
    Release, Released, ResourceName, Snapshot,
};

/// A number of requests to a store. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<AtomicU64>);

impl Requests {
    /// The number so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A backend that counts its calls. A call may carry many leases; it is one request to the store, or a few if it
/// carries very many.
#[derive(Debug)]
pub struct Counted<B> {
    backend: B,
    requests: Requests,
}

impl<B: Backend> Counted<B> {
    /// Adds the calls to `backend` to `requests`.
    pub fn new(backend: B, requests: Requests) -> Self {
        Self { backend, requests }
    }
}

#[async_trait]
impl<B: Backend> Backend for Counted<B> {
    fn capabilities(&self) -> &Capabilities {
        self.backend.capabilities()
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        self.requests.add();
        self.backend.acquire(claims).await
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        self.requests.add();
        self.backend.extend(extensions).await
    }

    async fn release(&self, leases: &[Release]) -> Vec<Result<Released, BackendError>> {
        self.requests.add();
        self.backend.release(leases).await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        self.requests.add();
        self.backend.inspect(resource).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        self.requests.add();
        self.backend.list(filter).await
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        self.requests.add();
        self.backend.break_leases(resource).await
    }

    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        self.requests.add();
        self.backend.examine().await
    }

    fn events(&self) -> EventStream {
        self.backend.events()
    }
}
