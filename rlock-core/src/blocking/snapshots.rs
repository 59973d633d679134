//! The changes of a lock, for blocking code.

use std::fmt;
use std::pin::Pin;

use futures_core::Stream;

use super::park::next_of;
use crate::contract::{BackendError, Snapshot};

/// The changes of a lock that is watched. `next` blocks until the next change, and returns `None` once the client has
/// ended.
pub struct Snapshots(Pin<Box<dyn Stream<Item = Result<Snapshot, BackendError>> + Send>>);

impl Snapshots {
    pub(super) fn new(changes: impl Stream<Item = Result<Snapshot, BackendError>> + Send + 'static) -> Self {
        Self(Box::pin(changes))
    }
}

impl Iterator for Snapshots {
    type Item = Result<Snapshot, BackendError>;

    fn next(&mut self) -> Option<Self::Item> {
        next_of(&mut self.0)
    }
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").finish_non_exhaustive()
    }
}
