//! Tests that the last drop of a client's handles waits for the releases, within a limit and where that is safe.

mod support;

use std::convert::Infallible;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rlock_core::{
    Client, ClientBuilder, Clock, Guard, LockOptions, MemoryStore, Namespace, SimpleLock, WatchdogConfig,
};
use tokio::runtime::{Builder, Handle, Runtime};

use support::{Fate, Log, Script, Scripted, Verb, options};

/// The delay of releases, long enough that none reaches the store by chance before a drop returns.
const DELAY: Duration = Duration::from_millis(100);
/// The limit for actions that do not wait, far below the ten seconds for which a client without handles continues.
const HUNG: Duration = Duration::from_secs(5);
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A client of a store whose answers the test controls.
struct World {
    store: Arc<MemoryStore>,
    script: Arc<Script>,
    client: Client,
}

impl World {
    fn with(builder: ClientBuilder) -> Self {
        let store = MemoryStore::new();
        let (backend, script) = Scripted::client_of(&store);
        Self { client: builder.build(backend), store, script }
    }

    fn on_own_thread(drop_timeout: Duration) -> Self {
        Self::with(Client::builder().drop_timeout(drop_timeout))
    }

    fn on(runtime: &Runtime, drop_timeout: Duration) -> Self {
        Self::with(Client::builder().drop_timeout(drop_timeout).runtime(runtime.handle().clone()))
    }

    /// A client on a thread of its own, and the runtime of that thread.
    fn with_runtime_of_own_thread(drop_timeout: Duration) -> (Self, Handle) {
        let store = MemoryStore::new();
        let (backend, script) = Scripted::client_of(&store);
        let (sender, own) = channel();
        let connect = async move {
            sender.send(Handle::current()).unwrap();
            Ok::<_, Infallible>(backend)
        };
        let Ok(client) = one_thread().block_on(Client::builder().drop_timeout(drop_timeout).connect(connect));
        (Self { store, script, client }, own.recv().unwrap())
    }

    /// Acquires a lock. Its release has the outcome `release`.
    async fn hold(&self, release: Fate) -> Guard {
        let guard = SimpleLock::new("job", &self.client).unwrap().lock_with(options()).await.unwrap();
        self.script.decide(Verb::Release, release);
        guard
    }

    /// Drops the client, and the guard after it. Returns the store.
    fn drop_all(self, guard: Guard) -> Arc<MemoryStore> {
        drop(self.client);
        drop(guard);
        self.store
    }
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn one_worker() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Fails if `action` takes [`HUNG`] or longer.
fn ends_soon<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, ended) = channel();
    thread::spawn(move || sender.send(action()));
    ended.recv_timeout(HUNG).expect("it neither hangs nor panics")
}

/// Waits until another client acquires the lock.
async fn sees_released(store: &Arc<MemoryStore>) {
    let other = Client::new(store.client(Namespace::default()));
    let soon = LockOptions::new().wait(HUNG);
    SimpleLock::new("job", &other).unwrap().lock_with(soon).await.unwrap().unlock().await.unwrap();
}

#[test]
fn the_last_guard_waits_for_its_release() {
    let world = World::on_own_thread(FOR_EVER);
    let guard = one_thread().block_on(world.hold(Fate::Delayed(DELAY)));
    assert_eq!(world.drop_all(guard).resources(), 0);
}

#[test]
fn the_last_client_waits_for_a_dropped_guard() {
    let world = World::on_own_thread(FOR_EVER);
    drop(one_thread().block_on(world.hold(Fate::Delayed(DELAY))));
    drop(world.client);
    assert_eq!(world.store.resources(), 0);
}

#[test]
fn the_last_handle_waits_inside_the_users_runtime() {
    for runtime in [one_thread(), one_worker()] {
        let world = World::on_own_thread(FOR_EVER);
        let store = runtime.block_on(async {
            let guard = world.hold(Fate::Delayed(DELAY)).await;
            world.drop_all(guard)
        });
        assert_eq!(store.resources(), 0);
    }
}

#[test]
fn a_task_that_ends_with_its_runtime_waits() {
    let runtime = one_worker();
    let world = World::on_own_thread(FOR_EVER);
    let store = world.store.clone();
    let (sender, held) = channel();
    runtime.spawn(async move {
        let _guard = world.hold(Fate::Delayed(DELAY)).await;
        drop(world);
        sender.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    held.recv().unwrap();
    drop(runtime);
    assert_eq!(store.resources(), 0);
}

#[test]
fn a_place_in_the_queue_is_given_back() {
    let world = World::on_own_thread(FOR_EVER);
    let other = Client::new(world.store.client(Namespace::default()));
    one_thread().block_on(async {
        let _held = SimpleLock::new("job", &other).unwrap().lock().await.unwrap();
        let queue = async || other.inspect("job").await.unwrap().queue.len();
        let lock = SimpleLock::new("job", &world.client).unwrap();
        let waiting = tokio::spawn(async move { lock.lock().await });
        while queue().await == 0 {
            tokio::task::yield_now().await;
        }
        world.script.decide(Verb::Release, Fate::Delayed(DELAY));
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        drop(world);
        assert_eq!(queue().await, 0);
    });
}

#[test]
fn a_panic_gives_the_lock_back() {
    let world = World::on_own_thread(FOR_EVER);
    let store = world.store.clone();
    let guard = one_thread().block_on(world.hold(Fate::Delayed(DELAY)));
    let panicking = thread::spawn(move || {
        let _held = (world, guard);
        panic!("the work under the lock fails");
    });
    assert!(panicking.join().is_err());
    assert_eq!(store.resources(), 0);
}

#[test]
fn hanging_release_is_awaited_within_the_limit() {
    let limit = 2 * DELAY;
    let world = World::on_own_thread(limit);
    let guard = one_thread().block_on(world.hold(Fate::Hangs));
    let began = Instant::now();
    let store = ends_soon(|| world.drop_all(guard));
    assert!(began.elapsed() >= limit, "{:?}", began.elapsed());
    assert_eq!(store.resources(), 1);
}

#[test]
fn the_default_limit_is_a_second() {
    let world = World::with(Client::builder());
    let guard = one_thread().block_on(world.hold(Fate::Hangs));
    let began = Instant::now();
    ends_soon(|| world.drop_all(guard));
    assert!(began.elapsed() >= ClientBuilder::DROP_TIMEOUT, "{:?}", began.elapsed());
    assert_eq!(ClientBuilder::DROP_TIMEOUT, Duration::from_secs(1));
}

#[test]
fn a_limit_of_zero_does_not_wait() {
    let world = World::on_own_thread(Duration::ZERO);
    let guard = one_thread().block_on(world.hold(Fate::Hangs));
    let began = Instant::now();
    ends_soon(|| world.drop_all(guard));
    assert!(began.elapsed() < ClientBuilder::DROP_TIMEOUT, "{:?}", began.elapsed());
}

#[test]
fn a_limit_over_ten_seconds_is_kept() {
    let clock = Clock::manual();
    let world = World::with(Client::builder().drop_timeout(FOR_EVER).clock(clock.clone()));
    let guard = one_thread().block_on(world.hold(Fate::Delayed(DELAY)));
    let dropping = thread::spawn(|| world.drop_all(guard));
    for _ in 0..50 {
        clock.advance(Duration::from_secs(1));
        thread::sleep(DELAY / 100);
    }
    assert_eq!(dropping.join().unwrap().resources(), 0);
}

#[test]
fn nothing_open_is_not_waited_for() {
    let world = World::on_own_thread(FOR_EVER);
    let guard = one_thread().block_on(world.hold(Fate::Answered));
    one_thread().block_on(guard.unlock()).unwrap();
    world.script.decide(Verb::Release, Fate::Hangs);
    ends_soon(|| drop(world));
}

#[test]
fn timed_out_shutdown_is_not_awaited_again() {
    let world = World::on_own_thread(FOR_EVER);
    let guard = one_thread().block_on(world.hold(Fate::Hangs));
    let error = one_thread().block_on(world.client.shutdown(DELAY)).unwrap_err();
    assert_eq!(error.unconfirmed, 1);
    ends_soon(|| world.drop_all(guard));
}

#[test]
fn earlier_handles_do_not_wait() {
    let world = World::on_own_thread(FOR_EVER);
    let guard = one_thread().block_on(world.hold(Fate::Hangs));
    ends_soon(|| drop(guard));
    std::mem::forget(world.client); // its drop would wait
}

#[test]
fn the_clients_own_thread_does_not_wait() {
    let (world, own) = World::with_runtime_of_own_thread(FOR_EVER);
    let store = world.store.clone();
    let guard = one_thread().block_on(world.hold(Fate::Delayed(DELAY)));
    own.spawn(async move { world.drop_all(guard) });
    one_thread().block_on(sees_released(&store));
}

#[test]
fn a_callback_does_not_wait() {
    let world = World::on_own_thread(FOR_EVER);
    let guard = one_thread().block_on(world.hold(Fate::Hangs));
    let last: Arc<Mutex<Option<(Client, Guard)>>> = Arc::default();
    let (sender, dropped) = channel();
    let on_success = {
        let last = last.clone();
        move || {
            if let Some(handles) = last.lock().unwrap().take() {
                drop(handles);
                sender.send(()).unwrap();
            }
        }
    };
    let config = WatchdogConfig { interval: Some(WatchdogConfig::MIN_INTERVAL), ..WatchdogConfig::new() };
    let mut slot = last.lock().unwrap();
    guard.start_watchdog(config.on_success(on_success)).unwrap();
    *slot = Some((world.client, guard));
    drop(slot);
    dropped.recv_timeout(HUNG).expect("it does not hang");
}

#[test]
fn one_thread_runtime_is_never_awaited() {
    let runtime = one_thread();
    let world = World::on(&runtime, FOR_EVER);
    let store = ends_soon(move || {
        runtime.block_on(async {
            let guard = world.hold(Fate::Delayed(DELAY)).await;
            let store = world.drop_all(guard);
            sees_released(&store).await;
            store
        })
    });
    assert_eq!(store.resources(), 0);
}

#[test]
fn one_thread_runtime_is_not_awaited_outside() {
    let runtime = one_thread();
    let world = World::on(&runtime, FOR_EVER);
    let guard = runtime.block_on(world.hold(Fate::Answered));
    ends_soon(|| world.drop_all(guard));
}

#[test]
fn workers_are_awaited_in_block_on() {
    let runtime = one_worker();
    let world = World::on(&runtime, FOR_EVER);
    let store = runtime.block_on(async {
        let guard = world.hold(Fate::Delayed(DELAY)).await;
        world.drop_all(guard)
    });
    assert_eq!(store.resources(), 0);
}

#[test]
fn workers_are_awaited_outside() {
    let runtime = one_worker();
    let world = World::on(&runtime, FOR_EVER);
    let guard = runtime.block_on(world.hold(Fate::Delayed(DELAY)));
    assert_eq!(world.drop_all(guard).resources(), 0);
}

#[test]
fn task_on_the_clients_runtime_never_waits() {
    let runtime = one_worker();
    let world = World::on(&runtime, FOR_EVER);
    let store = world.store.clone();
    runtime.spawn(async move {
        let guard = world.hold(Fate::Delayed(DELAY)).await;
        world.drop_all(guard);
    });
    ends_soon(move || runtime.block_on(sees_released(&store)));
}

#[test]
fn ending_runtime_is_not_awaited() {
    let runtime = one_worker();
    let world = World::on(&runtime, FOR_EVER);
    let (sender, held) = channel();
    runtime.spawn(async move {
        let _guard = world.hold(Fate::Hangs).await;
        drop(world);
        sender.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    held.recv().unwrap();
    ends_soon(|| drop(runtime));
}

#[test]
fn ended_runtime_is_not_awaited() {
    let runtime = one_worker();
    let world = World::on(&runtime, FOR_EVER);
    let guard = runtime.block_on(world.hold(Fate::Hangs));
    drop(runtime);
    ends_soon(|| world.drop_all(guard));
}

#[test]
fn releases_abandoned_by_a_runtime_are_logged() {
    let log = Log::default();
    let runtime = one_worker();
    let world = World::on(&runtime, FOR_EVER);
    let guard = runtime.block_on(world.hold(Fate::Hangs));
    drop(runtime);
    tracing::subscriber::with_default(log.subscriber(), || world.drop_all(guard));
    assert!(log.lines().iter().any(|line| line.contains("unconfirmed=1")), "{:?}", log.lines());
}
