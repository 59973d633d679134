//! The heart of rlock: the contract between locks and stores, the lock types, and the watchdog that keeps a lock
//! for exactly as long as the work under it runs.
//!
//! Users depend on the crate `rlock`, which adds the stores. A backend of one's own implements [`Backend`] and is
//! checked by `rlock-testkit`.

mod backend;
mod backend_error;
mod client;
mod clock;
mod engine;
mod error;
mod events;
mod face;
mod finding;
mod guard;
mod home;
mod lease;
mod lock_kind;
mod loss;
mod manager;
mod memory;
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
pub use client::{Client, ClientBuilder};
pub use clock::{Clock, Moment};
pub use error::{ExtendError, InvalidConfig, LockError, ShutdownError, StartWatchdogError, UnlockError};
pub use events::Events;
pub use finding::{Finding, Verdict};
pub use guard::Guard;
pub use lease::{Acquired, Claim, Extended, Extension, Grant, IfBusy, LeaseId, LeaseKey, Place, Released};
pub use loss::{LossReason, Lost};
pub use manager::{WatchdogManager, WatchdogStats};
pub use memory::{MemoryBackend, MemoryStore};
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
