//! Clients and guards in and outside of runtimes.

mod support;

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join;
use rlock_core::{
    Client, LockError, LockOptions, LockSet, LossReason, MemoryBackend, MemoryStore, Namespace, SimpleLock, StartError,
    UnlockError,
};
use tokio::runtime::{Builder, Runtime};

use support::{Fate, STEP, Scripted, Verb};

/// Waits for a future on a thread that has no runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_client_works_without_a_runtime() {
    let store = MemoryStore::new();
    let client = Client::new(store.client(Namespace::default()));
    let lock = SimpleLock::new("job", &client).unwrap();
    let options = LockOptions::new().ttl(Duration::from_secs(1));
    let guard = block_on(lock.lock_with(options)).unwrap();
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(guard.is_held(), "a thread that sleeps keeps its lock");
    drop(guard);
    block_on(client.shutdown(Duration::from_secs(5))).unwrap();
    assert_eq!(store.resources(), 0);
}

#[test]
fn last_guard_is_released_without_its_client() {
    let store = MemoryStore::new();
    let client = Client::new(store.client(Namespace::default()));
    let lock = SimpleLock::new("job", &client).unwrap();
    let guard = runtime().block_on(lock.lock()).unwrap();
    drop((lock, client));
    drop(guard);
    let other = Client::new(store.client(Namespace::default()));
    let lock = SimpleLock::new("job", &other).unwrap();
    let soon = LockOptions::new().wait(Duration::from_secs(10));
    let _guard = runtime().block_on(lock.lock_with(soon)).unwrap();
}

#[test]
fn a_client_whose_runtime_has_gone_says_so() {
    let store = MemoryStore::new();
    let ended = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let client = Client::builder().runtime(ended.handle().clone()).build(store.client(Namespace::default()));
    let lock = SimpleLock::new("job", &client).unwrap();
    let (first, second) = ended.block_on(async {
        (lock.lock().await.unwrap(), SimpleLock::new("other", &client).unwrap().lock().await.unwrap())
    });
    ended.shutdown_timeout(Duration::from_secs(5));

    let elsewhere = runtime();
    assert_eq!(elsewhere.block_on(first.lost()), LossReason::Shutdown);
    assert!(matches!(elsewhere.block_on(first.unlock()), Err(UnlockError::Lost(_))));
    drop(second);
    assert!(matches!(elsewhere.block_on(lock.lock()), Err(LockError::Closed { .. })));
    assert!(elsewhere.block_on(client.inspect(lock.resource())).is_err());
    assert_eq!(client.open_leases(), 0);
}

#[test]
fn end_of_the_runtime_cancels_tokens_of_sets() {
    let ended = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let builder = Client::builder().runtime(ended.handle().clone());
    let client = builder.build(MemoryStore::new().client(Namespace::default()));
    let held = |names: [&str; 2]| {
        let set = names.into_iter().fold(LockSet::new(&client), |set, name| set.mutex(name).unwrap());
        ended.block_on(set.lock()).unwrap()
    };
    let (lost, released) = (held(["a", "b"]), held(["c", "d"]));
    let (before, of_released) = (lost.cancellation_token(), released.cancellation_token());
    ended.block_on(released.release()).unwrap();
    ended.shutdown_timeout(Duration::from_secs(5));
    assert!(!lost.is_held());
    assert!(before.is_cancelled() && lost.cancellation_token().is_cancelled());
    assert!(!of_released.is_cancelled() && !released.cancellation_token().is_cancelled());
}

#[test]
fn client_on_an_ended_runtime_reports_it() {
    let ended = runtime();
    let handle = ended.handle().clone();
    drop(ended);
    let client = Client::builder().runtime(handle).build(MemoryStore::new().client(Namespace::default()));
    let lock = SimpleLock::new("job", &client).unwrap();
    assert!(matches!(block_on(lock.lock()), Err(LockError::Closed { .. })));
}

#[test]
fn lost_is_pending_while_the_lock_is_held() {
    let client = Client::new(MemoryStore::new().client(Namespace::default()));
    let guard = runtime().block_on(SimpleLock::new("job", &client).unwrap().lock()).unwrap();
    assert_eq!(guard.lost().now_or_never(), None);
    assert!(!guard.cancellation_token().is_cancelled());
    assert!(guard.check().is_ok());
}

#[test]
fn panicking_connect_is_an_error() {
    let connect = async { panic!("the store has no address") };
    let refused = block_on(Client::builder().try_connect::<MemoryBackend, StartError, _>(connect));
    assert!(refused.unwrap_err().to_string().contains("`connect` panicked"));
}

#[test]
fn connect_on_an_ended_runtime_is_an_error() {
    let ended = runtime();
    let builder = Client::builder().runtime(ended.handle().clone());
    drop(ended);
    let connect = async { Ok::<_, StartError>(MemoryStore::new().client(Namespace::default())) };
    assert!(block_on(builder.try_connect(connect)).unwrap_err().to_string().contains("the runtime has ended"));
}

/// A client that woke its waiters under a mutex would wait for itself here.
#[test]
fn executor_may_poll_in_the_wake() {
    const SOON: Duration = Duration::from_secs(10);
    let client = Client::new(MemoryStore::new().client(Namespace::default()));
    let lock = SimpleLock::new("job", &client).unwrap();
    let held = block_on(lock.lock()).unwrap();
    let (granted, grants) = channel();
    let (lost, losses) = channel();
    Inline::run(async move {
        let guard = lock.lock().await.unwrap();
        granted.send(guard.is_held()).unwrap();
        let reason = guard.lost().await;
        lost.send((reason, guard.unlock().await.is_err())).unwrap();
    });
    assert!(grants.try_recv().is_err());
    drop(held); // without a wait, which a client that hangs would not end
    assert_eq!(grants.recv_timeout(SOON), Ok(true));
    Inline::run(async move { _ = client.break_leases("job").await });
    assert_eq!(losses.recv_timeout(SOON), Ok((LossReason::Broken, true)));
}

/// A client that woke adoptions under a mutex would wait for itself here.
#[test]
fn executor_may_poll_in_a_removals_wake() {
    const SOON: Duration = Duration::from_secs(10);
    let (backend, script) = Scripted::client_of(&MemoryStore::new());
    let client = Client::new(backend);
    let locked = |name: &str| block_on(SimpleLock::new(name, &client).unwrap().lock()).unwrap();
    let (handle, other) = (locked("job").into_handle().unwrap(), locked("other"));
    script.decide(Verb::Acquire, Fate::Hangs);
    {
        let mut left = pin!(client.adopt(&handle));
        while script.sizes(Verb::Acquire).len() < 3 {
            assert!(left.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            std::thread::sleep(STEP);
        }
    }
    script.decide(Verb::Release, Fate::AnsweredLate(Duration::from_millis(300)));
    let (unlocked, unlocks) = channel();
    Inline::run(async move {
        let unlocking = async { unlocked.send(other.unlock().await.is_ok()).unwrap() };
        drop(join(client.adopt(&handle), unlocking).await);
    });
    assert_eq!(unlocks.recv_timeout(SOON), Ok(true));
}

/// An executor that polls its future on the thread that wakes it, inside of the wake.
struct Inline {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    /// The wakes since a thread began to poll.
    wakes: AtomicU32,
}

impl Inline {
    fn run(future: impl Future<Output = ()> + Send + 'static) {
        Arc::new(Self { future: Mutex::new(Some(Box::pin(future))), wakes: AtomicU32::new(0) }).wake();
    }

    fn poll(self: &Arc<Self>) {
        let mut future = self.future.lock().unwrap();
        let waker = Waker::from(self.clone());
        if future.as_mut().is_some_and(|future| future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()) {
            *future = None;
        }
    }
}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        if self.wakes.fetch_add(1, Ordering::SeqCst) > 0 {
            return; // the thread that polls will poll again
        }
        let mut seen = 1;
        loop {
            self.poll();
            match self.wakes.compare_exchange(seen, 0, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(wakes) => seen = wakes,
            }
        }
    }
}
