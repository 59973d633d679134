//! The statistics of the process while 64 threads work. The test is alone in its file, because all tests of a file
//! share the process.

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
fn statistics_match_callbacks_and_watchdogs() {
    let store = MemoryStore::new();
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::new(store.client(Namespace::default()))).collect();
    let counted = Arc::new(Counted::default());
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let client = clients[number % CLIENTS].clone();
            let counted = counted.clone();
            thread::spawn(move || work(number, &client, &counted))
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
    assert_eq!(watchdog.active_watchdogs, 0);
    assert_eq!(watchdog.successful_extends, counted.extended.load(Ordering::SeqCst));
    assert_eq!(watchdog.total_extends, watchdog.successful_extends + watchdog.failed_extends);
    assert!(watchdog.successful_extends >= cycles && watchdog.average_extend_time > Duration::ZERO, "{watchdog:?}");
    until(|| counted.successes.load(Ordering::SeqCst) == watchdog.successful_extends);
    // On a busy machine an answer may take longer than the interval.
    until(|| counted.failures.load(Ordering::SeqCst) == watchdog.failed_extends);
}

/// The numbers that the callbacks have counted, and those of the watchdogs when their locks were released.
#[derive(Default)]
struct Counted {
    successes: AtomicU64,
    failures: AtomicU64,
    extended: AtomicU64,
}

/// Takes a lock again and again, and holds it each time until it has been extended.
fn work(number: usize, client: &Client, counted: &Arc<Counted>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lock = SimpleLock::new(format!("job {number}"), client).unwrap();
    for _ in 0..CYCLES {
        let guard = runtime.block_on(lock.lock_with(LockOptions::new().watchdog(false))).unwrap();
        let (on_success, on_failure) = (counted.clone(), counted.clone());
        let interval = Some(Duration::from_millis(2));
        let config = WatchdogConfig { interval, max_failures: u32::MAX, ..WatchdogConfig::new() }
            .on_success(move || _ = on_success.successes.fetch_add(1, Ordering::SeqCst))
            .on_failure(move |_| _ = on_failure.failures.fetch_add(1, Ordering::SeqCst));
        let watchdog = guard.start_watchdog(config).unwrap();
        until(|| watchdog.status().extend_count > 0);
        runtime.block_on(guard.unlock()).unwrap();
        counted.extended.fetch_add(watchdog.status().extend_count, Ordering::SeqCst);
    }
}

fn until(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < SOON, "not within {SOON:?}");
        thread::sleep(Duration::from_millis(1));
    }
}
