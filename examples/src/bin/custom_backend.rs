//! Locks in a custom store: a key-value store that can only compare and set, and one short file that implements locks
//! on it.
//!
//! `cargo run -p rlock-examples --bin custom_backend`, without any server. Two workers, each with its own client, take
//! turns under one lock. A turn takes longer than the TTL, and the watchdog keeps the lock. The store has no queue, so
//! a waiter retries until the lock is free. The program prints the turns, and that the store is empty at the end.

use std::sync::Arc;
use std::time::Duration;

use rlock::{Client, LockOptions, Namespace, SimpleLock};
use rlock_examples::{KeyValue, KeyValueBackend};
use tokio::time::sleep;

const TTL: Duration = Duration::from_millis(200);
const TURN: Duration = Duration::from_millis(300);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Arc::new(KeyValue::new());
    let (first, second) = tokio::join!(work("first", &store), work("second", &store));
    first.and(second)?;

    println!("all turns are over, {} keys are left in the store", store.keys("", None, 10).await.len());
    Ok(())
}

/// Takes three turns.
async fn work(name: &str, store: &Arc<KeyValue>) -> anyhow::Result<()> {
    let client = Client::new(KeyValueBackend::new(Arc::clone(store), &Namespace::default()));
    let lock = SimpleLock::new("printer", &client)?;
    for _ in 0..3 {
        let guard = lock.lock_with(LockOptions::new().ttl(TTL)).await?;
        println!("{name}: my turn, with token {}", guard.token());
        sleep(TURN).await;
        guard.check()?;
        println!("{name}: done, the lock is safe for {:?}", guard.remaining());
        guard.unlock().await?;
        sleep(TURN).await; // long enough for the other worker to retry, since there is no queue
    }
    Ok(())
}
