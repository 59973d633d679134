//! The core of rlock: the contract between locks and stores, the lock types, and the watchdog that keeps a lock alive
//! for exactly as long as the work under it runs.
//!
//! Users depend on the package `rlock-client` (the library `rlock`), which adds the stores. A custom backend implements
//! [`Backend`], and `rlock-testkit` checks it.
//!
//! ```
//! use rlock_core::{Client, MemoryStore, Namespace, SimpleLock};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new(); // the reference backend, in the memory of this process
//! let client = Client::new(store.client(Namespace::default()));
//! let guard = SimpleLock::new("invoice/42", &client)?.lock().await?;
//! println!("held with token {} for {:?}", guard.token(), guard.remaining());
//! guard.unlock().await?;
//! # Ok(()) }
//! ```
//!
//! # Contents
//!
//! - [`Client`] drives the leases of all locks of a store, with one timer and with one request for all leases that are
//!   due together.
//! - [`SimpleLock`], [`RwLock`], [`Semaphore`] and, for several locks at once, [`LockSet`] return a [`Guard`]. It
//!   reports a loss by its deadline at the latest, on the holder's own clock.
//! - [`Election`] lets one of many clients lead, and shows the leader to the others.
//! - [`blocking`] offers all of them to code without `async`.
//! - [`Backend`] is the contract for a store, in its documentation. [`MemoryBackend`] is the reference implementation.
//! - [`metrics`] counts, for exporters and as a snapshot.
//!
//! The feature `serde`, which is off by default, implements `Serialize` and `Deserialize` for names, tokens, TTLs,
//! owners, handles, data, loss reasons, leaders, snapshots, pages and their filters. It implements `Serialize` alone for
//! observations of an election, findings, the status of a watchdog and statistics. A handle is its text, and a loss
//! reason is the label of metrics.
//!
//! The crate cannot stop a holder that was frozen past its deadline and acts before it checks the guard.
//! [`Guard::token`] lets the protected system reject such a holder.

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
#[cfg(feature = "serde")]
mod serialized;
mod watchdog;

pub use client::{Client, ClientBuilder};
pub use clock::{Clock, Moment};
pub use contract::{
    Acquired, Backend, BackendError, Backoff, Baseline, Capabilities, Cause, Claim, ConnectError, Cursor, Entry, Event,
    EventStream, Events, Extended, Extension, Failure, Finding, Grant, Holder, IfBusy, InvalidData, InvalidHandle,
    InvalidName, InvalidOption, InvalidShare, InvalidTtl, LeaseData, LeaseId, LeaseKey, ListFilter, LockHandle,
    Namespace, Owner, Page, Place, Release, Released, ResourceName, ServerClock, Share, Snapshot, TlsFiles, Token, Ttl,
    Verdict, Waiter,
};
pub use driver::QueuePlace;
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
