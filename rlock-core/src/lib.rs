//! The heart of rlock: the contract between locks and stores, the lock types, and the watchdog that keeps a lock
//! for exactly as long as the work under it runs.
//!
//! Users depend on the package `rlock-client` (the library `rlock`), which adds the stores. A custom backend implements
//! [`Backend`] and is checked by `rlock-testkit`.
//!
//! ```
//! use rlock_core::{Client, MemoryStore, Namespace, SimpleLock};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new(); // the reference of what a backend does, in the memory of this process
//! let client = Client::new(store.client(Namespace::default()));
//! let guard = SimpleLock::new("invoice/42", &client)?.lock().await?;
//! println!("held with token {} for {:?}", guard.token(), guard.remaining());
//! guard.unlock().await?;
//! # Ok(()) }
//! ```
//!
//! # What is in it
//!
//! - [`Client`] drives the leases of all locks of a store: one timer, one request for what is due together.
//! - [`SimpleLock`], [`RwLock`] and [`Semaphore`] hand out a [`Guard`], which tells of a loss by its deadline at the latest, on
//!   the holder's own clock.
//! - [`Backend`] is what a store has to do. Its documentation is the contract; [`MemoryBackend`] is the reference.
//! - [`metrics`] counts, for exporters and as a snapshot.
//!
//! It has no features. What it cannot do is to keep a holder that was frozen past its deadline from acting before it looks;
//! [`Guard::token`] is for whatever the lock guards to tell.

mod backend;
mod backend_error;
mod baseline;
mod client;
mod clock;
mod engine;
mod error;
mod events;
mod face;
mod finding;
mod guard;
mod handle;
mod home;
mod lease;
mod lock_kind;
mod loss;
mod manager;
mod memory;
mod memory_baseline;
pub mod metrics;
mod name;
mod options;
mod owner;
mod rw_lock;
mod semaphore;
mod share;
mod simple_lock;
mod snapshot;
mod token;
mod ttl;
mod watchdog;

pub use backend::{Backend, Capabilities, Event, EventStream};
pub use backend_error::{BackendError, Failure};
pub use baseline::Baseline;
pub use client::{Client, ClientBuilder};
pub use clock::{Clock, Moment};
pub use error::{ExtendError, InvalidConfig, LockError, RunError, ShutdownError, StartWatchdogError, UnlockError};
pub use events::Events;
pub use finding::{Finding, Verdict};
pub use guard::Guard;
pub use lease::{Acquired, Claim, Extended, Extension, Grant, IfBusy, LeaseId, LeaseKey, Place, Released};
pub use loss::{LossReason, Lost};
pub use manager::{WatchdogManager, WatchdogStats};
pub use memory::{MemoryBackend, MemoryStore};
pub use memory_baseline::MemoryBaseline;
pub use name::{InvalidName, Namespace, ResourceName};
pub use options::LockOptions;
pub use owner::Owner;
pub use rw_lock::RwLock;
pub use semaphore::Semaphore;
pub use share::{InvalidShare, Share};
pub use simple_lock::SimpleLock;
pub use snapshot::{Cursor, Entry, Holder, ListFilter, Page, Snapshot, Waiter};
pub use token::Token;
pub use ttl::{InvalidTtl, Ttl};
pub use watchdog::{
    ExtensionFailure, FailureCallback, SuccessCallback, Watchdog, WatchdogConfig, WatchdogFailure, WatchdogStatus,
};
