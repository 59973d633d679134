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

use rlock_core::{ClientBuilder, MemoryStore, Namespace};

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

/// Connects to the store at `url` with the caller's settings. See [`connect_with`](crate::connect_with).
///
/// ```
/// # fn main() -> Result<(), rlock::ConnectError> {
/// let builder = rlock::Client::builder().label("invoices");
/// let client = rlock::blocking::connect_with("memory:", builder)?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// As for [`connect`](crate::connect), and [`ConnectError::NoThread`] for a builder with a
/// [runtime](ClientBuilder::runtime).
pub fn connect_with(url: &str, builder: ClientBuilder) -> Result<Client, ConnectError> {
    // The runtime may be on this thread, and then cannot connect while the thread waits. Only a client shows whether the
    // builder has a runtime.
    Client::new(builder.clone().try_build(MemoryStore::new().client(Namespace::default()))?)?;
    Ok(Client::new(block_on(crate::connect_with(url, builder))?)?)
}
