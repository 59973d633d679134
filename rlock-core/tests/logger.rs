//! The crate `log` instead of a subscriber. The logger is that of the process, so this file has one test.

mod support;

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};

use support::{TTL, World, options, until_reported};

/// A logger that blocks before it records a line.
struct Blocking {
    until_unblocked: Mutex<Receiver<()>>,
    lines: Mutex<Vec<String>>,
}

impl Log for Blocking {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("rlock_core")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let _until_unblocked = self.until_unblocked.lock().unwrap().recv_timeout(Duration::from_secs(10));
            self.lines.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[tokio::test(start_paused = true)]
async fn blocked_logger_delays_no_loss() {
    let (unblock, blocking) = channel();
    let logger: &Blocking =
        Box::leak(Box::new(Blocking { until_unblocked: Mutex::new(blocking), lines: Mutex::default() }));
    log::set_logger(logger).unwrap();
    log::set_max_level(LevelFilter::Debug);
    let world = World::new();
    let unwatched = || options().watchdog(false);
    let first = world.lock("first").lock_with(unwatched()).await.unwrap();
    let second = world.lock("second").lock_with(unwatched()).await.unwrap();
    tokio::time::advance(TTL).await;
    first.lost().await;
    second.lost().await;
    assert!(logger.lines.lock().unwrap().is_empty(), "a loss waited for the logger");
    drop(unblock);
    until_reported().await;
    let lines = logger.lines.lock().unwrap();
    let at = |text: &str| lines.iter().position(|line| line.contains(text));
    let (acquired, lost) = (at("acquired the lock"), at("lost the lock"));
    assert!(acquired.is_some() && acquired < lost, "{lines:?}");
}
