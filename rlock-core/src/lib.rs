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
//! - [`SimpleLock`], [`RwLock`], [`Semaphore`] and, for several at once, [`LockSet`] hand out a [`Guard`], which tells of a loss by its deadline at the latest, on
//!   the holder's own clock.
//! - [`Election`] lets one of many clients lead, and others see which.
//! - [`blocking`] has all of them for code without `async`.
//! - [`Backend`] is what a store has to do. Its documentation is the contract; [`MemoryBackend`] is the reference.
//! - [`metrics`] counts, for exporters and as a snapshot.
//!
//! It has no features. What it cannot do is to keep a holder that was frozen past its deadline from acting before it looks;
//! [`Guard::token`] is for whatever the lock guards to tell.

pub mod blocking;
mod client;
mod clock;
mod contract;
mod driver;
mod election;
mod error;
mod lease;
mod lock;
mod memory;
mod memory_baseline;
pub mod metrics;
mod watchdog;

pub use client::{Client, ClientBuilder};
pub use clock::{Clock, Moment};
pub use contract::{
    Acquired, Backend, BackendError, Backoff, Baseline, Capabilities, Claim, ConnectError, Cursor, Entry, Event,
    EventStream, Events, Extended, Extension, Failure, Finding, Grant, Holder, IfBusy, InvalidData, InvalidHandle,
    InvalidName, InvalidOption, InvalidShare, InvalidTtl, LeaseData, LeaseId, LeaseKey, ListFilter, LockHandle,
    Namespace, Owner, Page, Place, Release, Released, ResourceName, Share, Snapshot, Token, Ttl, Verdict, Waiter,
};
pub use election::{Election, Leader, Leadership, Observation};
pub use error::{
    AdoptError, ExtendError, InvalidConfig, LockError, RunError, ShutdownError, StartError, StartWatchdogError,
    UnlockError,
};
pub use lease::{End, LossReason, Lost};
pub use lock::{Guard, LockOptions, LockSet, LockSetGuard, RwLock, Semaphore, SimpleLock, Watchdog};
pub use memory::{MemoryBackend, MemoryStore};
pub use memory_baseline::MemoryBaseline;
pub use metrics::WatchdogStats;
pub use watchdog::{
    ExtensionFailure, FailureCallback, SuccessCallback, WatchdogConfig, WatchdogFailure, WatchdogManager,
    WatchdogStatus,
};
