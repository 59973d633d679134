//! Going on with the lock of another client.

use super::{Guard, RwLock};
use crate::client::Client;
use crate::contract::LockHandle;
use crate::error::AdoptError;
use crate::metrics::LockKind;

impl Client {
    /// Goes on with a held lock, by the [handle](crate::Guard::into_handle) of its guard: extends it by the TTL of the handle, and
    /// keeps it alive as a guard does. The holder that others see stays the one that claimed the lock.
    ///
    /// A lock is to be adopted by one client at a time. Of several, each believes that it holds the lock.
    ///
    /// # Errors
    ///
    /// [`AdoptError::Lost`] if the lock has ended; [`AdoptError::Lock`] for a failure of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the lock to the store, extended or not.
    pub async fn adopt(&self, handle: &LockHandle) -> Result<Guard, AdoptError> {
        let slot = self.handle().driver.adopt(handle, kind_of(handle)).await?;
        Ok(Guard::new(self.handle().clone(), slot, handle.token()))
    }
}

fn kind_of(handle: &LockHandle) -> LockKind {
    match (handle.share.capacity(), handle.share.weight()) {
        (1, _) => LockKind::Mutex,
        (RwLock::MAX_READERS, 1) => LockKind::Read,
        (RwLock::MAX_READERS, _) => LockKind::Write,
        _ => LockKind::Semaphore,
    }
}
