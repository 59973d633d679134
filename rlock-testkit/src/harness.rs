//! What a backend brings along to be checked.

use std::sync::Arc;

use async_trait::async_trait;
use rlock_core::{Backend, Namespace};

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
    /// Cases ask when all leases have been released, or have expired and been looked for since.
    async fn leftovers(&self, namespace: &Namespace) -> Vec<String>;
}

/// A store that other processes can reach as well.
#[async_trait]
pub trait Shared: Harness {
    /// Where the store is, in one line for [`attach`](Self::attach).
    fn address(&self) -> String;

    /// The store at `address`, which another process started and will end.
    async fn attach(address: &str) -> Self
    where
        Self: Sized;
}

/// A store that can be restarted without losing what it has confirmed.
#[async_trait]
pub trait Restart: Harness {
    /// As [`start`](Harness::start), for a store that is going to be restarted.
    async fn start_durable() -> Self
    where
        Self: Sized;

    /// Ends the store as a crash would, and starts it again at the same address with its data. Answers when it is
    /// ready.
    async fn restart(&self);
}
