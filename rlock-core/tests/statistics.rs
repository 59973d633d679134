//! The statistics of the process. The test is alone in its file, because all tests of a file share the process.

mod support;

use std::time::Duration;

use rlock_core::{WatchdogConfig, WatchdogManager, metrics};
use tokio::time::sleep;

use support::{Fate, INTERVAL, TTL, World, options, until_idle};

#[tokio::test(start_paused = true)]
async fn status_and_global_stats_add_up() {
    let world = World::new();
    let other = World::new();
    let mut guards = Vec::new();
    for number in 0..10 {
        let of = if number % 2 == 0 { &world } else { &other };
        guards.push(of.lock(&format!("job {number}")).lock_with(options()).await.unwrap());
    }
    let config = WatchdogConfig { interval: Some(INTERVAL), extend_by: Some(20 * TTL), ..WatchdogConfig::new() };
    let watchdogs: Vec<_> = guards.iter().map(|guard| guard.start_watchdog(config.clone()).unwrap()).collect();
    assert_eq!(WatchdogManager::global().stats().active_watchdogs, 10);

    sleep(3 * TTL).await;
    other.script.set(Fate::Failed);
    sleep(2 * INTERVAL).await;
    let statuses: Vec<_> = watchdogs.iter().map(|watchdog| watchdog.status()).collect();
    let succeeded: u64 = statuses.iter().map(|status| status.extend_count).sum();
    let failed: u64 = statuses.iter().map(|status| u64::from(status.failure_count)).sum();
    let stats = WatchdogManager::global().stats();
    assert_eq!((stats.successful_extends, stats.failed_extends), (succeeded, failed));
    assert_eq!(stats.total_extends, succeeded + failed);
    assert!(succeeded >= 80 && failed >= 5, "{stats:?}");
    assert_eq!(metrics::global().stats().watchdog, stats);
    let status = &statuses[0];
    assert!(status.is_running && status.last_extend_time.is_some() && status.next_extend_time.is_some());

    other.script.set(Fate::Answered);
    drop(guards);
    until_idle().await;
    sleep(Duration::from_secs(1)).await;
    let stats = metrics::global().stats();
    assert_eq!(stats.watchdog.active_watchdogs, 0);
    assert_eq!((stats.locks.acquired, stats.locks.released, stats.locks.held), (10, 10, 0));
}
