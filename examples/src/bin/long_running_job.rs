//! A job that runs much longer than its lock's TTL, and stops at once if the lock is lost.
//!
//! `cargo run -p rlock-examples --bin long_running_job`. Nothing has to be started: the lock is in a temporary file, or in the
//! store that `RLOCK_URL` names. The TTL is half a second and the job takes three; it prints the batches, and what the
//! watchdog did meanwhile.

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
        guard.check()?; // a batch that was worked on without the lock must not be committed
        println!("batch {batch} is done, the lock is safe for {:?}", guard.remaining());
    }
    guard.unlock().await?;

    let stats = WatchdogManager::global().stats();
    println!("extended {} times, {} failed", stats.successful_extends, stats.failed_extends);
    assert!(stats.successful_extends >= 10 && stats.failed_extends == 0);
    Ok(())
}

/// Computes for half a second without ever awaiting: the lock is kept alive on a thread of the client's own.
fn process(_batch: u32) {
    std::thread::sleep(Duration::from_millis(500));
}
