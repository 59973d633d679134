//! Returns from `main` while it holds a lock: the last drop gives the lock back before the process ends.
//!
//! `cargo run -p rlock-examples --bin early_return` returns at the end of `main`; with the argument `fail`, the work fails
//! and `main` returns by `?`. The lock is in a temporary file, or in the store that `RLOCK_URL` names, where the next run
//! finds it free at once. `std::process::exit` in place of a return would drop nothing, and leave the lock to its TTL.

use rlock::SimpleLock;
use rlock_examples::Store;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::open();
    let client = rlock::connect(store.url()).await?;
    let lock = SimpleLock::new("early-return", &client)?;
    let guard = lock.lock().await?;
    println!("held with token {}", guard.token());
    work()?;
    println!("done");
    Ok(())
}

fn work() -> anyhow::Result<()> {
    anyhow::ensure!(std::env::args().nth(1).is_none_or(|argument| argument != "fail"), "the work fails");
    Ok(())
}
