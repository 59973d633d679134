//! A process at the limits of the system: without a free file descriptor, without another thread.
#![cfg(unix)]

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rlock_core::{Client, Clock, MemoryBackend, MemoryStore, Namespace, SimpleLock, StartError, WatchdogConfig};
use tokio::runtime::{Builder, Runtime};

/// The time limit for actions of real threads.
const SOON: Duration = Duration::from_secs(10);

/// The tests share the process and its limits, so they take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `act` under a lower limit.
fn limited<T>(resource: Resource, limit: u64, act: impl FnOnce() -> T) -> T {
    struct Restore(Resource, u64, u64);
    impl Drop for Restore {
        fn drop(&mut self) {
            setrlimit(self.0, self.1, self.2).expect("a process may raise this limit again");
        }
    }
    let (soft, hard) = getrlimit(resource).unwrap();
    let _restore = Restore(resource, soft, hard);
    setrlimit(resource, limit, hard).unwrap();
    act()
}

/// Runs `act` while the process can open no file descriptor.
fn without_descriptors<T>(act: impl FnOnce() -> T) -> T {
    limited(Resource::RLIMIT_NOFILE, 0, act)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn backend() -> MemoryBackend {
    MemoryStore::new().client(Namespace::default())
}

#[test]
fn client_that_cannot_start_is_an_error() {
    let _turn = turn();
    let elsewhere = runtime();
    let connect = Client::builder().try_connect(async { Ok::<_, StartError>(backend()) });
    let refused = without_descriptors(|| [Client::builder().try_build(backend()), elsewhere.block_on(connect)]);
    for refused in refused {
        let (error, why) = (refused.unwrap_err(), io::Error::from(Errno::EMFILE));
        assert!(error.to_string().contains(&why.to_string()), "{error}");
    }
    assert!(Client::builder().try_build(backend()).is_ok());
}

#[test]
fn watchdog_extends_without_descriptors() {
    let _turn = turn();
    let client = Client::new(backend());
    let guard = runtime().block_on(SimpleLock::new("job", &client).unwrap().lock()).unwrap();
    let (sender, successes) = channel();
    let every = WatchdogConfig { interval: Some(Duration::from_millis(5)), ..WatchdogConfig::new() };
    without_descriptors(|| {
        let _watchdog = guard.start_watchdog(every.on_success(move || _ = sender.send(()))).unwrap();
        for _ in 0..10 {
            successes.recv_timeout(SOON).expect("the watchdog goes on");
        }
    });
    assert!(guard.is_held(), "{:?}", guard.loss());
}

/// The sleep uses a timer that stands still while the machine is suspended. It looks at the clock every second.
#[test]
fn sleep_without_descriptors_looks_up_often() {
    #[derive(Default)]
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let _turn = turn();
    let paused = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    paused.block_on(async {
        let clock = Clock::boot();
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(woken.clone());
        let mut sleep = pin!(clock.sleep_until(clock.now().after(Duration::from_secs(3_600))));
        let polled = without_descriptors(|| sleep.as_mut().poll(&mut Context::from_waker(&waker)));
        assert!(polled.is_pending());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(woken.0.load(Ordering::SeqCst), "it sleeps for longer than a second");
    });
}

/// The address space has room for everything but the stack of another thread.
#[cfg(target_os = "linux")]
#[test]
fn callbacks_wait_for_a_thread() {
    use std::sync::atomic::AtomicU64;

    const STACK: usize = 1 << 30;
    const ROOM: u64 = 1 << 29;
    let _turn = turn();
    let large = Builder::new_current_thread().enable_all().thread_stack_size(STACK).build().unwrap();
    let client = Client::builder().runtime(large.handle().clone()).build(backend());
    let guard = large.block_on(SimpleLock::new("job", &client).unwrap().lock()).unwrap();
    let calls = Arc::<AtomicU64>::default();
    let counted = calls.clone();
    let every = WatchdogConfig { interval: Some(Duration::from_millis(2)), ..WatchdogConfig::new() };
    let every = every.on_success(move || _ = counted.fetch_add(1, Ordering::SeqCst));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.strip_suffix("kB")).unwrap();
    let used = size.trim().parse::<u64>().unwrap() << 10;
    let watchdog = limited(Resource::RLIMIT_AS, used + ROOM, || {
        large.block_on(async {
            let watchdog = guard.start_watchdog(every).unwrap();
            while watchdog.status().extend_count < 100 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            watchdog
        })
    });
    assert_eq!(calls.load(Ordering::SeqCst), 0, "a thread was started");
    large.block_on(async {
        let all_called = async {
            while calls.load(Ordering::SeqCst) < 4 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, all_called).await.expect("the callbacks are called once there is a thread");
    });
    assert!(guard.is_held(), "{:?}", guard.loss());
    watchdog.stop();
}
