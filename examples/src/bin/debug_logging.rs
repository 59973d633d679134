//! What rlock says in the log: each extension, each wait, each retry, with the lock's name.
//!
//! `cargo run -p rlock-examples --bin debug_logging`. Nothing has to be started: the locks are in a temporary file, or in the
//! store that `RLOCK_URL` names. rlock logs through `tracing`: `rlock=warn` is for every day, `rlock=debug` for trouble,
//! `rlock=trace` has each extension. This says `rlock=trace` unless `RUST_LOG` says something else.

use std::time::Duration;

use rlock::{LockOptions, SimpleLock};
use rlock_examples::Store;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Every crate of rlock has a name that begins with rlock, which is what the filter goes by.
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
