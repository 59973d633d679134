//! Takes a lock, works under it, gives it back.
//!
//! `cargo run -p rlock-examples --bin quickstart`. Nothing has to be started: the lock is in a temporary file, or in the
//! store that `RLOCK_URL` names. It prints the token that the lock was granted with, that a second try is refused, and that
//! the lock was given back.

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
    println!("nobody else gets it meanwhile");

    guard.unlock().await?;
    println!("given back");
    Ok(())
}
