//! The live status of a lock and its watchdog, and the statistics of all watchdogs of the process.
//!
//! `cargo run -p rlock-examples --bin live_status`. It needs no server: the locks are in a temporary file, or in the
//! store at `RLOCK_URL`. It prints the holder of one lock, then five times the status of its watchdog and
//! the statistics of three.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use rlock::{LockOptions, SimpleLock, WatchdogManager, metrics};
use rlock_examples::Store;
use tokio::time::sleep;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::open();
    let client = rlock::connect(store.url()).await?;
    let options = LockOptions::new()
        .ttl(Duration::from_secs(5))
        .watchdog_interval(Duration::from_millis(100))
        .label("status page")
        .hold_at_most(Duration::from_secs(60));
    let mut guards = Vec::new();
    for name in ["report", "index", "mail"] {
        guards.push(SimpleLock::new(name, &client)?.lock_with(options.clone()).await?);
    }

    let report = SimpleLock::new("report", &client)?;
    for holder in report.holders().await? {
        println!("{} is held by {} with token {}", report.resource(), holder.owner, holder.token);
    }

    let watchdog = guards[0].watchdog().context("it is on by default")?;
    for _ in 0..5 {
        sleep(Duration::from_millis(250)).await;
        let status = watchdog.status();
        let in_ms =
            |time: Option<SystemTime>| time.map(|time| time.duration_since(SystemTime::now()).unwrap_or_default());
        println!(
            "watchdog of {}: running {}, extended {} times, {} failures in a row, next in {:?}, last error {:?}",
            guards[0].resource(),
            status.is_running,
            status.extend_count,
            status.failure_count,
            in_ms(status.next_extend_time).unwrap_or_default(),
            status.last_error,
        );
        let stats = WatchdogManager::global().stats();
        println!(
            "all watchdogs: {} active, {} extensions, {} succeeded, {} failed, {:?} on average",
            stats.active_watchdogs,
            stats.total_extends,
            stats.successful_extends,
            stats.failed_extends,
            stats.average_extend_time,
        );
    }
    ensure!(watchdog.status().extend_count >= 5, "extended every 100 ms");

    for guard in guards {
        guard.unlock().await?;
    }
    let locks = metrics::global().stats().locks;
    println!(
        "locks: {} acquired, {} released, {} lost, {} held",
        locks.acquired, locks.released, locks.lost, locks.held
    );
    ensure!(!report.is_locked().await?, "it is released");
    ensure!(WatchdogManager::global().stats().active_watchdogs == 0, "they end with their locks");
    Ok(())
}
