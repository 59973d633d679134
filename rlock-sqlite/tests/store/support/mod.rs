//! Helpers that the tests share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rlock_core::{
    Acquired, Backend as _, BackendError, Claim, Extended, Extension, IfBusy, Owner, Release, Released, Share, Ttl,
};
use rlock_sqlite::{ConnectError, SqliteBackend, SqliteConfig};
use rusqlite::Connection;

pub(crate) use rlock_testkit::peer::key;

pub(crate) async fn open(path: &Path) -> SqliteBackend {
    SqliteBackend::connect(config(path)).await.unwrap()
}

pub(crate) async fn refused(config: SqliteConfig) -> ConnectError {
    SqliteBackend::connect(config).await.unwrap_err()
}

pub(crate) fn config(path: &Path) -> SqliteConfig {
    SqliteConfig::at(path).unwrap()
}

/// The file, for a look at its tables.
pub(crate) fn sqlite(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

pub(crate) fn claim_of(name: &str, id: u128) -> Claim {
    let ttl = Ttl::new(Duration::from_secs(30)).unwrap();
    let owner = Arc::new(Owner::current());
    Claim { key: key(name, id), share: Share::EXCLUSIVE, ttl, if_busy: IfBusy::Queue, owner, data: None }
}

pub(crate) async fn claim(backend: &SqliteBackend, name: &str, id: u128) -> Result<Acquired, BackendError> {
    backend.acquire(&[claim_of(name, id)]).await.remove(0)
}

pub(crate) async fn extend(backend: &SqliteBackend, name: &str, id: u128) -> Result<Extended, BackendError> {
    let ttl = claim_of(name, id).ttl;
    backend.extend(&[Extension { key: key(name, id), ttl }]).await.remove(0)
}

pub(crate) async fn release(backend: &SqliteBackend, name: &str, id: u128) -> Result<Released, BackendError> {
    backend.release(&[Release::from(key(name, id))]).await.remove(0)
}

pub(crate) fn is_held(answer: Result<Acquired, BackendError>) -> bool {
    matches!(answer, Ok(Acquired::Held(_)))
}
