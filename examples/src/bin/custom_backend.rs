//! Locks in a store of one's own: a key-value store that can only compare and set, and 200 lines that put locks into
//! it.
//!
//! `cargo run -p rlock-examples --bin custom_backend`, with nothing installed. Two workers, each with a client of its
//! own, take turns under one lock. A turn takes longer than the TTL and the watchdog keeps the lock; the store cannot
//! queue, so whoever waits asks again until it is free. It prints the turns, and that the store is empty in the end.

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
    let tokens = [first?, second?].concat();

    println!("{} turns, {} keys left in the store", tokens.len(), store.keys("", None, 10).await.len());
    Ok(())
}

/// Takes three turns, and answers their tokens.
async fn work(name: &str, store: &Arc<KeyValue>) -> anyhow::Result<Vec<u64>> {
    let client = Client::new(KeyValueBackend::new(Arc::clone(store), &Namespace::default()));
    let lock = SimpleLock::new("printer", &client)?;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let guard = lock.lock_with(LockOptions::new().ttl(TTL)).await?;
        println!("{name}: my turn, with token {}", guard.token());
        sleep(TURN).await;
        guard.check()?;
        println!("{name}: done, the lock is safe for {:?}", guard.remaining());
        tokens.push(guard.token().get());
        guard.unlock().await?;
        sleep(TURN / 2).await; // no queue makes it polite: let the other one have it
    }
    client.shutdown(TTL).await?;
    Ok(tokens)
}
