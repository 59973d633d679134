//! The client of blocking code.

use std::time::Duration;

use super::block_on;
use crate::client;
use crate::contract::{BackendError, ListFilter, Page, ResourceName, Snapshot};
use crate::error::ShutdownError;

/// A client of a store. See [`Client`](crate::Client).
#[derive(Debug, Clone)]
pub struct Client(client::Client);

/// A client without a thread of its own, which blocking calls would keep from working.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "blocking locks need a client with a thread of its own, and this one runs on a runtime of the caller's: build it \
     without ClientBuilder::runtime"
)]
pub struct NoThread;

impl Client {
    /// The blocking side of a client.
    ///
    /// # Errors
    ///
    /// [`NoThread`] if the client runs on a [runtime](crate::ClientBuilder::runtime) of the caller's.
    pub fn new(client: client::Client) -> Result<Self, NoThread> {
        if client.has_own_thread() { Ok(Self(client)) } else { Err(NoThread) }
    }

    /// The same client for `async` code.
    pub fn as_async(&self) -> &client::Client {
        &self.0
    }

    /// The holders of `resource` and its queue.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        block_on(self.0.inspect(resource))
    }

    /// The resources that are held or waited for, a page at a time. See [`Client::list`](crate::Client::list).
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        block_on(self.0.list(filter))
    }

    /// Ends all held leases of `resource` by force. See [`Client::break_leases`](crate::Client::break_leases).
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        block_on(self.0.break_leases(resource))
    }

    /// Gives back everything. See [`Client::shutdown`](crate::Client::shutdown).
    ///
    /// # Errors
    ///
    /// [`ShutdownError`] if the store has not confirmed everything within `timeout`.
    pub fn shutdown(&self, timeout: Duration) -> Result<(), ShutdownError> {
        block_on(self.0.shutdown(timeout))
    }
}
