//! The cost of a store in memory without locks.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::contract::{BackendError, Baseline, Failure};

/// The minimum cost of a store in the memory of the process: a map behind a mutex, and a channel to another task.
#[derive(Debug, Default)]
pub struct MemoryBaseline {
    values: Mutex<HashMap<String, String>>,
}

impl MemoryBaseline {
    /// A baseline with an empty map.
    pub fn new() -> Self {
        Self::default()
    }

    fn values(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Baseline for MemoryBaseline {
    async fn round_trip(&self) -> Result<(), BackendError> {
        self.values().get("");
        Ok(())
    }

    async fn pair(&self, name: &str) -> Result<(), BackendError> {
        self.values().insert(name.to_owned(), "held".to_owned());
        self.values().remove(name);
        Ok(())
    }

    async fn write_and_push(&self) -> Result<(), BackendError> {
        let (push, pushed) = oneshot::channel();
        let listener = tokio::spawn(pushed);
        self.values().insert("push".to_owned(), "written".to_owned());
        let _listener_gone = push.send(());
        match listener.await {
            Ok(Ok(())) => Ok(()),
            _ => Err(BackendError::Unknown(Failure::new("push", "memory:", "the runtime is shutting down"))),
        }
    }

    async fn counters(&self) -> Result<Vec<(&'static str, u64)>, BackendError> {
        Ok(Vec::new())
    }

    async fn size(&self) -> Result<Option<u64>, BackendError> {
        Ok(None)
    }

    async fn clean_up(&self) -> Result<(), BackendError> {
        self.values().clear();
        Ok(())
    }
}
