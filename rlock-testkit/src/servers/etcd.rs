//! An etcd server.

use std::io;

use super::gateway::Gateway;
use super::member::Member;
use super::server::{Server, control_by_server};

/// An etcd server for tests, the only member of its cluster, from one of the sources that [`servers`](super) lists. The
/// program is `etcd`.
///
/// Every server keeps all confirmed writes, with any source. Servers that are started here grant leases of 1 s and
/// more. Others start at 2 s, unless they are configured likewise.
///
/// All tests share a server from the environment, so each test needs its own namespace there.
#[derive(Debug)]
pub struct Etcd {
    server: Server,
}

impl Etcd {
    /// Starts a server for the caller, or uses the one from the environment as it is.
    ///
    /// # Panics
    ///
    /// Panics if no server is available. The message says what to install.
    pub fn start() -> Self {
        Self { server: Server::start(Member::alone(&[])) }
    }

    /// Starts a server for the caller, never the one from the environment.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_durable() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server for the caller, never the one from the environment, with more arguments:
    /// `&["--quota-backend-bytes", "1048576"]`.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_with(arguments: &[&str]) -> Self {
        Self { server: Server::start_own(Member::alone(arguments)) }
    }

    /// The URL at which it listens: `etcd://127.0.0.1:41234`.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// A client for direct requests to the server, without rlock.
    ///
    /// # Panics
    ///
    /// Panics if its URL has credentials, which one from the environment may have.
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

    /// Deletes the keys that begin with `prefix`, and returns their number.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached.
    pub fn delete(&self, prefix: &str) -> u64 {
        self.expect("delete keys", self.gateway().delete(prefix))
    }

    /// The number of leases; see [`Gateway::leases`].
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached.
    pub fn leases(&self) -> usize {
        self.expect("list its leases", self.gateway().leases())
    }

    /// The revision of the store. It grows by one with each transaction that changes keys.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached.
    pub fn revision(&self) -> u64 {
        self.expect("read its revision", self.gateway().revision())
    }

    /// The number of proposals that the server has committed so far. Each write of keys, each grant and each end of a
    /// lease is one; reads and renewals of leases are none. A request to `/health` is one as well, and starting a
    /// server sends some.
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

control_by_server!(Etcd);
