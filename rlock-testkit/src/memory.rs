//! The harness of the in-memory reference backend.

use std::sync::Arc;

use async_trait::async_trait;
use rlock_core::{Backend, MemoryStore, Namespace};

use crate::Harness;

/// The harness of the in-memory reference backend. Other processes cannot reach it, and it cannot be restarted.
#[derive(Debug)]
pub struct MemoryHarness {
    store: Arc<MemoryStore>,
}

#[async_trait]
impl Harness for MemoryHarness {
    async fn start() -> Self {
        Self { store: MemoryStore::new() }
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        Arc::new(self.store.client(namespace.clone()))
    }

    async fn leftovers(&self, _namespace: &Namespace) -> Vec<String> {
        (0..self.store.resources()).map(|_| "a resource in memory".into()).collect()
    }
}
