//! A key-value store that can only compare and set.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::yield_now;

/// A store of bytes under keys, like one that speaks HTTP with `If-Match` and answers with a `Date`. It knows nothing
/// about locks, and no time except its own clock.
#[derive(Debug)]
pub struct KeyValue {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    entries: BTreeMap<String, Versioned>,
}

/// A value, and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Vec<u8>,
    /// The version of the write that set the value.
    pub version: u64,
}

/// The error for a key that was changed meanwhile; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict;

impl KeyValue {
    /// An empty store. Its clock starts now.
    pub fn new() -> Self {
        Self { started: Instant::now(), state: Mutex::default() }
    }

    /// Returns the value of `key`, and the time on the store's clock at which it was read.
    pub async fn get(&self, key: &str) -> (Option<Versioned>, Duration) {
        yield_now().await; // a round trip, during which other tasks run
        let state = self.state();
        (state.entries.get(key).cloned(), self.started.elapsed())
    }

    /// Sets `key` to `value`, or deletes it, if it still has the version `expected` or is still absent.
    ///
    /// Returns the version of this write. Versions grow with every write to the store, whatever its key.
    ///
    /// # Errors
    ///
    /// [`Conflict`] if the key was set or deleted meanwhile.
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Option<Vec<u8>>,
    ) -> Result<u64, Conflict> {
        yield_now().await;
        let mut state = self.state();
        if state.entries.get(key).map(|entry| entry.version) != expected {
            return Err(Conflict);
        }
        state.version += 1;
        let version = state.version;
        match value {
            Some(value) => state.entries.insert(key.to_owned(), Versioned { value, version }),
            None => state.entries.remove(key),
        };
        Ok(version)
    }

    /// Returns at most `limit` keys that begin with `prefix`, in the order of their bytes, starting after `after`.
    pub async fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        yield_now().await;
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let state = self.state();
        let keys = state.entries.range::<str, _>((from, Bound::Unbounded)).map(|(key, _)| key);
        keys.take_while(|key| key.starts_with(prefix)).take(limit).cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for KeyValue {
    fn default() -> Self {
        Self::new()
    }
}
