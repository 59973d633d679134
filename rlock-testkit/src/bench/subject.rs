//! A store, and the lock library on it.

use std::sync::Arc;
use std::time::Duration;

use rlock_core::{Backend, Baseline};

use super::counted::Requests;
use super::error::BenchError;
use super::locks::Locks;
use super::row::Row;

/// The thread on which a client does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// On the runtime of the caller.
    Caller,
    /// On a thread of the client.
    Own,
}

impl Home {
    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::Caller => "caller's runtime",
            Self::Own => "own thread",
        }
    }
}

/// A store with a lock library, to be measured.
pub trait Subject: Sync {
    /// A client of the lock library.
    type Locks: Locks;

    /// The homes that a client can have: an rlock client has both, another library may have one.
    fn homes(&self) -> &[Home];

    /// The operations of the store without locks.
    fn baseline(&self) -> Arc<dyn Baseline>;

    /// Opens a backend of the store, if the lock library is rlock: some measurements send requests of a lease themselves.
    fn backend(&self) -> impl Future<Output = Result<Option<Arc<dyn Backend>>, BenchError>> + Send;

    /// Connects a new client. Its leases have this TTL, or by default that of the library.
    fn connect(
        &self,
        home: Home,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<Self::Locks, BenchError>> + Send;

    /// The requests of all clients to the store since the first client connected, if the subject counts them.
    fn requests(&self) -> Option<Requests>;

    /// Releases all locks of the clients, and closes them.
    fn close(&self) -> impl Future<Output = Result<(), BenchError>> + Send;
}

/// The home of the client in measurements that need only one: the last that the subject names.
pub(crate) fn usual_home(subject: &impl Subject) -> Home {
    *subject.homes().last().expect("a client has a home")
}

/// Receives the progress and the rows of a benchmark.
pub trait Observer: Send {
    /// A measurement begins, or has reached this point.
    fn begins(&mut self, what: &str);

    /// A row is complete.
    fn row(&mut self, row: Row);
}
