//! The log of rlock: each extension, each wait and each retry, with the name of the lock.
//!
//! `cargo run -p rlock-examples --bin debug_logging`. It needs no server: the locks are in a temporary file, or in the
//! store at `RLOCK_URL`. rlock logs through `tracing`: use `rlock=warn` in production and `rlock=debug` to find a
//! fault; `rlock=trace` logs each extension. This program uses `rlock=trace` unless `RUST_LOG` is set.

use std::time::Duration;

use rlock::{LockOptions, SimpleLock};
use rlock_examples::Store;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The name of every crate of rlock begins with rlock, so the filter matches all of them.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("rlock=trace"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stdout).init();

    let store = Store::open();
    let client = rlock::connect(store.url()).await?;
    let lock = SimpleLock::new("nightly-report", &client)?;
    let options = LockOptions::new().ttl(Duration::from_secs(3)).watchdog_interval(Duration::from_millis(100));
    let guard = lock.lock_with(options).await?;
    tokio::time::sleep(Duration::from_millis(350)).await;
    guard.unlock().await?;
    Ok(())
}
