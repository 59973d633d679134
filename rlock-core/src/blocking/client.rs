//! The client of blocking code.

use std::time::Duration;

use super::{Guard, block_on};
use crate::client;
use crate::contract::{BackendError, Finding, ListFilter, LockHandle, Page, Snapshot};
use crate::error::{AdoptError, ShutdownError};

/// A client of a store. See [`Client`](crate::Client).
#[derive(Debug, Clone)]
pub struct Client(client::Client);

/// The error for a client without a thread of its own. Blocking calls would keep such a client from working.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "blocking locks need a client with a thread of its own, and this one runs on the caller's runtime: build it \
     without ClientBuilder::runtime"
)]
pub struct NoThread;

impl Client {
    /// The blocking interface of a client.
    ///
    /// # Errors
    ///
    /// [`NoThread`] if the client runs on the caller's [runtime](crate::ClientBuilder::runtime).
    pub fn new(client: client::Client) -> Result<Self, NoThread> {
        if client.has_own_thread() { Ok(Self(client)) } else { Err(NoThread) }
    }

    /// The same client for `async` code.
    pub fn as_async(&self) -> &client::Client {
        &self.0
    }

    /// Returns the holders of the resource called `name` and its waiters.
    ///
    /// # Errors
    ///
    /// As for [`Client::inspect`](crate::Client::inspect).
    pub fn inspect(&self, name: impl AsRef<str>) -> Result<Snapshot, BackendError> {
        block_on(self.0.inspect(name))
    }

    /// Lists the resources that are held or waited for, a page at a time. See [`Client::list`](crate::Client::list).
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        block_on(self.0.list(filter))
    }

    /// Ends all held leases of the resource called `name` by force. See
    /// [`Client::break_leases`](crate::Client::break_leases).
    ///
    /// # Errors
    ///
    /// As for [`Client::break_leases`](crate::Client::break_leases).
    pub fn break_leases(&self, name: impl AsRef<str>) -> Result<u64, BackendError> {
        block_on(self.0.break_leases(name))
    }

    /// Checks the version and the settings of the store for risks to locks.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        block_on(self.0.examine())
    }

    /// Adopts a held lock by the [handle](Guard::into_handle) of its guard. See
    /// [`Client::adopt`](crate::Client::adopt).
    ///
    /// # Errors
    ///
    /// As for [`Client::adopt`](crate::Client::adopt).
    pub fn adopt(&self, handle: &LockHandle) -> Result<Guard, AdoptError> {
        block_on(self.0.adopt(handle)).map(Guard::new)
    }

    /// Refuses new locks, waits for `wait` at most until the guards are dropped, and then releases the remaining leases
    /// within `timeout`. See [`Client::drain`](crate::Client::drain).
    ///
    /// # Errors
    ///
    /// As for [`shutdown`](Self::shutdown).
    pub fn drain(&self, wait: Duration, timeout: Duration) -> Result<(), ShutdownError> {
        block_on(self.0.drain(wait, timeout))
    }

    /// Releases everything that the client holds or waits for. See [`Client::shutdown`](crate::Client::shutdown).
    ///
    /// # Errors
    ///
    /// [`ShutdownError`] if the store has not confirmed everything within `timeout`.
    pub fn shutdown(&self, timeout: Duration) -> Result<(), ShutdownError> {
        block_on(self.0.shutdown(timeout))
    }
}
