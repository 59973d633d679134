//! What a backend brings along to be checked.

use std::sync::Arc;

use async_trait::async_trait;
use rlock_core::{Backend, Namespace};

use crate::faults::{Control, Proxy};

/// A store for one test, and how to reach it. Dropping it ends what was started for it.
///
/// Every test starts one, and uses namespaces of its own in it, so that one long-lived server can serve all tests.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// Starts a store, or makes sure of one that runs.
    ///
    /// Panics if there is none to be had, and says what to install.
    async fn start() -> Self
    where
        Self: Sized;

    /// An independent client of the store, with connections of its own. Called many times, and on the runtime on
    /// which the client is going to be used.
    ///
    /// Panics if the store cannot be reached.
    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend>;

    /// What the store still keeps for `namespace`, beyond what keeps tokens increasing and goes away by itself:
    /// keys or rows, in words for people. Looks at the store itself, not through the backend.
    ///
    /// Cases ask when all leases have been released, or have expired and been looked for since, by `inspect`.
    async fn leftovers(&self, namespace: &Namespace) -> Vec<String>;
}

/// A store that is reached at an address, by other processes as well.
#[async_trait]
pub trait Shared: Harness {
    /// Where the store is: a URL with host and port, unless [`proxied`](Self::proxied) reads something else.
    fn address(&self) -> String;

    /// A proxy in front of the store at `address`, and the address that leads through it.
    ///
    /// A store of several servers has a way through a proxy to each of them: [`Proxy::in_front_of_all`].
    fn proxied(address: &str) -> (String, Proxy)
    where
        Self: Sized,
    {
        let proxy = Proxy::in_front_of(address);
        (proxy.url().to_owned(), proxy)
    }

    /// The store at `address`, which was started elsewhere and will be ended there.
    async fn attach(address: &str) -> Self
    where
        Self: Sized;
}

/// A store whose server can be paused, killed and restarted.
#[async_trait]
pub trait Controlled: Shared {
    /// As [`start`](Harness::start), for a server of the case's own that keeps on disk what it has confirmed.
    async fn start_durable() -> Self
    where
        Self: Sized;

    /// The server.
    fn server(&self) -> &dyn Control;
}
