//! Takes a lock, works under it, and releases it.
//!
//! `cargo run -p rlock-examples --bin quickstart`. It needs no server: the lock is in a temporary file, or in the store
//! at `RLOCK_URL`. It prints the token of the grant, that a second try is refused, and that the lock was released.

use rlock::SimpleLock;
use rlock_examples::Store;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::open();
    let client = rlock::connect(store.url()).await?;
    let lock = SimpleLock::new("invoice/42", &client)?;

    let guard = lock.lock().await?;
    println!("held with token {}", guard.token());
    assert!(lock.try_lock().await?.is_none());
    println!("a second try is refused");

    guard.unlock().await?;
    println!("released");
    Ok(())
}
