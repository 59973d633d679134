//! Locks through the public API. Every call returns in time, or fails the test.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use rlock_core::{Client, Guard, LockError, LockOptions, SimpleLock};

use crate::peer::{LONG, SOON};
use crate::wait::within;

/// The mutex `name`.
pub(crate) fn mutex(client: &Client, name: &str) -> SimpleLock {
    SimpleLock::new(name, client).expect("a valid name")
}

/// Options with the TTL [`LONG`], so that only a message can wake waiters in time.
pub(crate) fn long() -> LockOptions {
    LockOptions::new().ttl(LONG)
}

/// Options for a lock without a watchdog.
pub(crate) fn unwatched(ttl: Duration) -> LockOptions {
    LockOptions::new().ttl(ttl).watchdog(false)
}

/// The value of `future`, which has to be `Ok`, within [`SOON`].
pub(crate) async fn soon<T, E: Debug>(what: &str, future: impl Future<Output = Result<T, E>>) -> T {
    within(SOON, what, future).await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
}

/// Waits for the mutex `name`.
pub(crate) async fn lock(client: &Client, name: &str) -> Guard {
    lock_as(client, name, long()).await
}

/// Waits for the mutex `name`, with `options`.
pub(crate) async fn lock_as(client: &Client, name: &str, options: LockOptions) -> Guard {
    soon("a lock", mutex(client, name).lock_with(options)).await
}

/// Waits for the mutex with this number as its name, with this TTL.
pub(crate) async fn lock_numbered(client: &Client, number: usize, ttl: Duration) -> Guard {
    lock_as(client, &number.to_string(), LockOptions::new().ttl(ttl)).await
}

/// Tries to acquire the mutex `name`.
pub(crate) async fn try_lock(client: &Client, name: &str) -> Option<Guard> {
    soon("a try", mutex(client, name).try_lock_with(long())).await
}

/// Releases a lock, which has to be held until then.
pub(crate) async fn unlock(guard: Guard) {
    soon("an unlock", guard.unlock()).await;
}

/// Waits for the mutex `name` in a new task.
pub(crate) fn lock_in_background(client: &Client, name: &str) -> tokio::task::JoinHandle<Result<Guard, LockError>> {
    let lock = mutex(client, name);
    tokio::spawn(async move { lock.lock_with(long()).await })
}

/// The guard of a task of [`lock_in_background`], which has to succeed within [`SOON`].
pub(crate) async fn served(task: tokio::task::JoinHandle<Result<Guard, LockError>>) -> Guard {
    let task = async { task.await.expect("the waiting task does not panic") };
    soon("a lock that was waited for", task).await
}
