//! An etcd server.

use std::io;

use async_trait::async_trait;

use super::gateway::Gateway;
use super::member::Member;
use super::server::Server;
use crate::faults::{Control, Data};

/// An etcd server for tests, alone in its cluster, from one of the sources that [`servers`](super) lists; the program is
/// `etcd`.
///
/// Whatever it is started by, it keeps every write that it has confirmed. Those that are started here take leases of 1 s
/// and more; others begin at 2 s, unless they are configured likewise.
///
/// A server from the environment is shared by all tests, so that each needs a namespace of its own there.
#[derive(Debug)]
pub struct Etcd {
    server: Server,
}

impl Etcd {
    /// A server of the caller's own, or the one from the environment as it is.
    ///
    /// # Panics
    ///
    /// Panics if there is no server to be had, and says what to install.
    pub fn start() -> Self {
        Self { server: Server::start(Member::alone(&[])) }
    }

    /// A server of the caller's own, never that of the environment.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_durable() -> Self {
        Self::start_with(&[])
    }

    /// A server of the caller's own, never that of the environment, with more arguments: `&["--quota-backend-bytes",
    /// "1048576"]`.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_with(arguments: &[&str]) -> Self {
        Self { server: Server::start_own(Member::alone(arguments)) }
    }

    /// Where it listens: `etcd://127.0.0.1:41234`.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// A way to look at the server from outside.
    ///
    /// # Panics
    ///
    /// Panics if its URL, which may be from the environment, has credentials.
    pub fn gateway(&self) -> Gateway {
        self.expect("use its URL", Gateway::new(self.url()))
    }

    /// The keys that begin with `prefix`, sorted.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.expect("list its keys", self.gateway().keys(prefix))
    }

    /// Deletes the keys that begin with `prefix`, and says how many there were.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached.
    pub fn delete(&self, prefix: &str) -> u64 {
        self.expect("delete keys", self.gateway().delete(prefix))
    }

    /// How many leases there are; see [`Gateway::leases`].
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached.
    pub fn leases(&self) -> usize {
        self.expect("list its leases", self.gateway().leases())
    }

    /// The revision that the store is at: it grows by one with each transaction that changes keys.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached.
    pub fn revision(&self) -> u64 {
        self.expect("read its revision", self.gateway().revision())
    }

    /// How many proposals the server has committed so far. Each write of keys is one, and each grant and end of a lease;
    /// reads and renewals of leases are none. A look at `/health` is one as well, which starting a server takes.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached.
    pub fn raft_proposals(&self) -> u64 {
        self.expect("read its status", self.gateway().status()).raft_index
    }

    fn expect<T>(&self, what: &str, result: io::Result<T>) -> T {
        result.unwrap_or_else(|error| panic!("cannot {what}, of etcd at {}: {error}", self.url()))
    }
}

#[async_trait]
impl Control for Etcd {
    async fn pause(&self) {
        self.server.pause().await;
    }

    async fn resume(&self) {
        self.server.resume().await;
    }

    async fn kill(&self) {
        self.server.kill().await;
    }

    async fn restart(&self, data: Data) {
        self.server.restart(data).await;
    }
}
