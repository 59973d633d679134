//! Locks for code without `async`.
//!
//! Each type corresponds to the type of the same name at the root of this crate, with methods that block the calling
//! thread. The client works on a thread of its own, which renews locks and receives grants, so the calls need no
//! runtime. They also work inside a runtime of tokio, where they block a worker, as any blocking call does.
//!
//! A call on the client's own thread would wait for itself. Therefore a subscriber of `tracing`, a recorder of `metrics`
//! and a waker must not make calls. Callbacks of watchdogs run on threads of their own, and may.
//!
//! ```
//! use rlock_core::{MemoryStore, Namespace, blocking};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new();
//! let client = blocking::Client::new(rlock_core::Client::new(store.client(Namespace::default())))?;
//! let lock = blocking::SimpleLock::new("invoice/42", &client)?;
//! let guard = lock.lock()?;
//! guard.check()?; // between two steps of the work
//! guard.unlock()?;
//! # Ok(()) }
//! ```

mod client;
mod election;
mod guard;
mod lock_set;
mod park;
mod rw_lock;
mod semaphore;
mod simple_lock;
mod snapshots;

pub use self::client::{Client, NoThread};
pub use self::election::{Election, Leadership, Observations};
pub use self::guard::Guard;
pub use self::lock_set::{LockSet, LockSetGuard};
pub use self::park::block_on;
pub use self::rw_lock::RwLock;
pub use self::semaphore::Semaphore;
pub use self::simple_lock::SimpleLock;
pub use self::snapshots::Snapshots;
