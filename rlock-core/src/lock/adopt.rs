//! Adopting the lock of another client.

use super::{Guard, RwLock};
use crate::client::Client;
use crate::contract::LockHandle;
use crate::error::AdoptError;
use crate::metrics::LockKind;

impl Client {
    /// Adopts a held lock by the [handle](crate::Guard::into_handle) of its guard: extends the lock by the TTL of the
    /// handle, and keeps it alive as a guard does. Others still see the client that claimed the lock as its holder.
    ///
    /// Let only one client at a time adopt a lock. Otherwise each of them believes that it holds the lock.
    ///
    /// # Errors
    ///
    /// [`AdoptError::Lost`] if the lock has ended. [`AdoptError::Lock`] for a failure of the store, if this client still
    /// has the lock ([`LockError::Rejected`](crate::LockError::Rejected)), and if the client is shut down meanwhile
    /// ([`LockError::Closed`](crate::LockError::Closed)). The lock then stays in the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the lock in the store, extended or not. A request that is under way then may arrive
    /// after another client has released the lock, and takes it until the store has answered, or for its TTL if the
    /// answer is lost. Another adoption by this client waits for that answer, and extends the lock meanwhile.
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
