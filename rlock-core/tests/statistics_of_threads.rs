//! The statistics of the process while 64 threads are at work. Alone in its file, because they are the process's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rlock_core::{Client, LockOptions, MemoryStore, Namespace, SimpleLock, WatchdogConfig, metrics};

const THREADS: usize = 64;
const CLIENTS: usize = 8;
const CYCLES: u64 = 20;
const SOON: Duration = Duration::from_secs(30);

#[test]
fn they_are_what_the_callbacks_and_the_watchdogs_have_counted() {
    let store = MemoryStore::new();
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::new(store.client(Namespace::default()))).collect();
    let (called_back, extended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let client = clients[number % CLIENTS].clone();
            let (called_back, extended) = (called_back.clone(), extended.clone());
            thread::spawn(move || work(number, &client, &called_back, &extended))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let stats = metrics::global().stats();
    let cycles = THREADS as u64 * CYCLES;
    assert_eq!((stats.locks.acquired, stats.locks.released), (cycles, cycles));
    assert_eq!((stats.locks.lost, stats.locks.held, stats.locks.waiting), (0, 0, 0));
    let watchdog = stats.watchdog;
    assert_eq!((watchdog.active_watchdogs, watchdog.failed_extends), (0, 0));
    assert_eq!(watchdog.successful_extends, extended.load(Ordering::SeqCst));
    assert_eq!(watchdog.total_extends, watchdog.successful_extends);
    assert!(watchdog.successful_extends >= cycles && watchdog.average_extend_time > Duration::ZERO, "{watchdog:?}");
    until(|| called_back.load(Ordering::SeqCst) == watchdog.successful_extends);
}

/// Takes a lock again and again, and keeps it until it was extended.
fn work(number: usize, client: &Client, called_back: &Arc<AtomicU64>, extended: &AtomicU64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lock = SimpleLock::new(format!("job {number}"), client).unwrap();
    for _ in 0..CYCLES {
        let guard = runtime.block_on(lock.lock_with(LockOptions::new().watchdog(false))).unwrap();
        let called_back = called_back.clone();
        let config = WatchdogConfig { interval: Some(Duration::from_millis(2)), ..WatchdogConfig::new() }
            .on_success(move || _ = called_back.fetch_add(1, Ordering::SeqCst));
        let watchdog = guard.start_watchdog(config).unwrap();
        until(|| watchdog.status().extend_count > 0);
        runtime.block_on(guard.unlock()).unwrap();
        extended.fetch_add(watchdog.status().extend_count, Ordering::SeqCst);
    }
}

fn until(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < SOON, "not within {SOON:?}");
        thread::sleep(Duration::from_millis(1));
    }
}
