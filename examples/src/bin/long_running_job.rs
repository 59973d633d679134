//! A job that runs much longer than its lock's TTL, and stops at once if the lock is lost.
//!
//! `cargo run -p rlock-examples --bin long_running_job`. It needs no server: the lock is in a temporary file, or in the
//! store at `RLOCK_URL`. The TTL is half a second, and the job takes three. It prints the batches, and the number of
//! extensions meanwhile.

use std::time::Duration;

use rlock::{LockOptions, SimpleLock, WatchdogManager};
use rlock_examples::Store;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::open();
    let client = rlock::connect(store.url()).await?;
    let lock = SimpleLock::new("data-processing", &client)?;
    let options = LockOptions::new().ttl(Duration::from_millis(500)).watchdog_interval(Duration::from_millis(150));

    let guard = lock.lock_with(options).await?;
    for batch in 1..=6 {
        process(batch);
        guard.check()?; // do not commit a batch that ran without the lock
        println!("batch {batch} is done, the lock is safe for {:?}", guard.remaining());
    }
    guard.unlock().await?;

    let stats = WatchdogManager::global().stats();
    println!("extended {} times, {} failed", stats.successful_extends, stats.failed_extends);
    assert!(stats.successful_extends >= 10 && stats.failed_extends == 0);
    Ok(())
}

/// Computes for half a second without an `await`. The client keeps the lock alive on its own thread.
fn process(_batch: u32) {
    std::thread::sleep(Duration::from_millis(500));
}
