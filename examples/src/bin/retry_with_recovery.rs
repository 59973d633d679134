//! Work that is retried when it fails, when its lock is busy, and when the lock is lost in the middle.
//!
//! `cargo run -p rlock-examples --bin retry_with_recovery`. It needs no server: the lock is in a temporary file, or in
//! the store at `RLOCK_URL`. It prints four attempts: another client has the lock, the lock is lost, the work fails,
//! the work succeeds.

use std::time::Duration;

use anyhow::{bail, ensure};
use rlock::{Client, LockError, LockOptions, SimpleLock};
use rlock_examples::Store;
use tokio::time::sleep;

const NAME: &str = "robust-task";
const ATTEMPTS: u32 = 5;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::open();
    let client = rlock::connect(store.url()).await?;
    let other = rlock::connect(store.url()).await?;
    // At first another client has the lock.
    let mut in_the_way = Some(SimpleLock::new(NAME, &other)?.lock().await?);

    for attempt in 1..=ATTEMPTS {
        match try_once(&client, attempt, &other).await {
            Ok(()) => {
                println!("attempt {attempt}: done");
                ensure!(attempt == 4, "it should have taken four attempts");
                return Ok(());
            }
            Err(error) => println!("attempt {attempt}: {error}"),
        }
        if let Some(guard) = in_the_way.take() {
            guard.unlock().await?;
        }
        // The pause grows with each attempt, to avoid load on a store in trouble.
        sleep(Duration::from_millis(50) * attempt).await;
    }
    bail!("given up after {ATTEMPTS} attempts")
}

/// Makes one attempt. Every error can be temporary, except an invalid configuration, which `lock_with` and `new` report
/// at once.
async fn try_once(client: &Client, attempt: u32, operator: &Client) -> anyhow::Result<()> {
    let lock = SimpleLock::new(NAME, client)?;
    let options = LockOptions::new().ttl(Duration::from_secs(30)).wait(Duration::from_millis(200));
    let guard = match lock.lock_with(options).await {
        Err(error @ (LockError::InvalidConfig(_) | LockError::Rejected { .. })) => panic!("no retry helps: {error}"),
        outcome => outcome?,
    };
    if attempt == 2 {
        // An operator breaks the lock, so this client loses it.
        operator.break_leases(lock.resource()).await?;
    }
    // `run` releases the lock when the work has ended, successful or not.
    guard.run(work(attempt)).await?
}

async fn work(attempt: u32) -> anyhow::Result<()> {
    sleep(Duration::from_millis(200)).await;
    ensure!(attempt != 3, "the work failed");
    Ok(())
}
