//! Locks for code without `async`.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = rlock::blocking::connect("memory:")?;
//! let guard = rlock::blocking::SimpleLock::new("invoice/42", &client)?.lock()?;
//! guard.unlock()?;
//! # Ok(()) }
//! ```

pub use rlock_core::blocking::{
    Client, Election, Guard, Leadership, LockSet, LockSetGuard, NoThread, Observations, RwLock, Semaphore, SimpleLock,
    Snapshots, block_on,
};

use crate::ConnectError;

/// Connects to the store at `url`. See [`connect`](crate::connect).
///
/// # Errors
///
/// As for [`connect`](crate::connect).
pub fn connect(url: &str) -> Result<Client, ConnectError> {
    let client = block_on(crate::connect(url))?;
    Ok(Client::new(client).expect("a client has a thread of its own by default"))
}
