//! The traits that connect a backend to the suite.

use std::sync::Arc;

use async_trait::async_trait;
use rlock_core::{Backend, Namespace};

use crate::faults::{Control, Proxy};

/// A store for one test, and connections to it. Dropping it stops what it started.
///
/// Every test starts one, and uses its own namespaces in it, so that one long-lived server can serve all tests.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// Starts a store, or checks that one is running.
    ///
    /// Panics if no store is available. The message says what to install.
    async fn start() -> Self
    where
        Self: Sized;

    /// An independent client of the store, with its own connections. Called many times, on the runtime that will use
    /// the client.
    ///
    /// Panics if the store cannot be reached.
    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend>;

    /// The data that the store still keeps for `namespace`, except what keeps tokens increasing and what expires by
    /// itself: keys or rows, as text for people. Reads the store directly, not through the backend.
    ///
    /// Cases call this when all leases have been released, or have expired and were inspected since then.
    async fn leftovers(&self, namespace: &Namespace) -> Vec<String>;
}

/// A store with an address, so that other processes can reach it.
#[async_trait]
pub trait Shared: Harness {
    /// The address of the store: a URL with host and port, unless [`proxied`](Self::proxied) parses another format.
    fn address(&self) -> String;

    /// Starts a proxy in front of the store at `address`. Returns the address of the store through the proxy.
    ///
    /// For a store of several servers, one proxy stands in front of all: [`Proxy::in_front_of_all`].
    fn proxied(address: &str) -> (String, Proxy)
    where
        Self: Sized,
    {
        let proxy = Proxy::in_front_of(address);
        (proxy.url().to_owned(), proxy)
    }

    /// Attaches to the store at `address`, which another process started and will stop.
    async fn attach(address: &str) -> Self
    where
        Self: Sized;
}

/// A store whose server can be paused, killed and restarted.
#[async_trait]
pub trait Controlled: Shared {
    /// Like [`start`](Harness::start), but starts a server for this case alone, which keeps its confirmed writes on
    /// disk.
    async fn start_durable() -> Self
    where
        Self: Sized;

    /// The server.
    fn server(&self) -> &dyn Control;
}
