//! Options that a client gives to its locks, on virtual time.

mod support;

use std::fmt::Debug;
use std::time::Duration;

use futures_util::poll;
use rlock_core::{
    Client, ClientBuilder, Clock, Election, InvalidConfig, LockError, LockOptions, LockSet, LossReason, Namespace,
    RwLock, Semaphore, SimpleLock, WatchdogConfig,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::Instant;

use support::{INTERVAL, TTL, World, options};

const WAIT: Duration = Duration::from_secs(7);

/// A client of the store with the settings that `set` makes.
fn client_with(world: &World, set: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
    let builder = Client::builder().runtime(Handle::current()).clock(Clock::tokio());
    set(builder).build(world.store.client(Namespace::default()))
}

fn mutex(client: &Client) -> SimpleLock {
    SimpleLock::new("job", client).unwrap()
}

/// The time after which `lock` times out.
async fn timed_out<T: Debug>(lock: impl Future<Output = Result<T, LockError>>) -> Duration {
    let begun = Instant::now();
    let refused = lock.await.unwrap_err();
    assert!(refused.is_timeout(), "{refused}");
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn every_lock_type_takes_the_clients_wait() {
    let world = World::new();
    let holder = world.other_client();
    let _mutex = mutex(&holder).lock().await.unwrap();
    let _writer = RwLock::new("pages", &holder).unwrap().write().await.unwrap();
    let _permit = Semaphore::new("pool", 1, &holder).unwrap().acquire().await.unwrap();

    let client = client_with(&world, |builder| builder.default_wait(WAIT));
    let pages = RwLock::new("pages", &client).unwrap();
    let pool = Semaphore::new("pool", 1, &client).unwrap();
    let set = LockSet::new(&client).mutex("free").unwrap().mutex("job").unwrap();
    let election = Election::new("job", &client).unwrap();
    let waits = [
        timed_out(mutex(&client).lock()).await,
        timed_out(pages.read()).await,
        timed_out(pages.write()).await,
        timed_out(pool.acquire()).await,
        timed_out(set.lock()).await,
        timed_out(election.campaign("me")).await,
    ];
    assert!(waits.iter().all(|wait| (WAIT..WAIT * 2).contains(wait)), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn wait_of_a_lock_replaces_the_clients() {
    let world = World::new();
    let _held = mutex(&world.other_client()).lock().await.unwrap();
    let client = client_with(&world, |builder| builder.default_wait(WAIT));
    let lock = mutex(&client);
    assert!(timed_out(lock.lock_with(LockOptions::new().wait(WAIT * 3))).await >= WAIT * 3);

    let set = LockSet::new(&client).mutex("job").unwrap();
    let mut one = Box::pin(lock.lock_with(LockOptions::new().wait(Duration::MAX)));
    let mut several = Box::pin(set.lock_with(LockOptions::new().wait(Duration::MAX)));
    for _ in 0..10 {
        assert!(poll!(&mut one).is_pending() && poll!(&mut several).is_pending(), "they have no limit");
        tokio::time::sleep(WAIT).await;
    }
    drop((one, several));

    let begun = Instant::now();
    assert!(lock.try_lock().await.unwrap().is_none());
    assert!(begun.elapsed() < WAIT, "a try does not wait");
}

#[tokio::test(start_paused = true)]
async fn locks_take_the_clients_ttl() {
    let world = World::new();
    let client = client_with(&world, |builder| builder.default_ttl(TTL * 4).unwrap());
    let lock = mutex(&client);
    let guard = lock.lock().await.unwrap();
    assert!(guard.remaining() > TTL * 3, "{:?}", guard.remaining());
    guard.unlock().await.unwrap();
    let guard = lock.lock_with(options()).await.unwrap();
    assert!(guard.remaining() <= TTL, "that of the lock replaces it");
    guard.unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn watchdog_of_the_client_can_be_off() {
    let world = World::new();
    let client = client_with(&world, |builder| builder.default_watchdog(false));
    let lock = mutex(&client);
    let guard = lock.lock().await.unwrap();
    assert!(guard.watchdog().is_none());
    assert_eq!(guard.lost().await, LossReason::Expired);
    drop(guard);

    let switched_on = [
        LockOptions::new().watchdog(true),
        LockOptions::new().watchdog_interval(INTERVAL),
        LockOptions::new().watchdog_config(WatchdogConfig::new()),
    ];
    for options in switched_on {
        let guard = lock.lock_with(options).await.unwrap();
        assert!(guard.watchdog().is_some());
        guard.unlock().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn set_takes_the_clients_watchdog() {
    let world = World::new();
    let held = mutex(&world.other_client()).lock().await.unwrap();
    let too_long = WatchdogConfig { interval: Some(TTL * 2), ..WatchdogConfig::new() };
    let client = client_with(&world, |builder| builder.default_watchdog(false).default_watchdog_config(too_long));
    let set = LockSet::new(&client).mutex("a").unwrap().mutex("job").unwrap().mutex("z").unwrap();
    let freeing = async {
        tokio::time::sleep(TTL * 3).await;
        drop(held);
    };
    let (guard, ()) = tokio::join!(set.lock(), freeing);
    let guard = guard.unwrap();
    assert!(guard.remaining() > TTL * 9 / 10, "{:?}", guard.remaining());
    assert!(guard.guards().iter().all(|guard| guard.watchdog().is_none()));
    guard.unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn locks_take_the_clients_watchdog_config() {
    let world = World::new();
    let (on_success, mut extended) = unbounded_channel();
    let config = WatchdogConfig { interval: Some(TTL / 10), ..WatchdogConfig::new() }
        .on_success(move || on_success.send(()).unwrap());
    let client = client_with(&world, |builder| builder.default_watchdog_config(config));
    let lock = mutex(&client);
    let extensions = async |options: LockOptions| {
        let guard = lock.lock_with(options).await.unwrap();
        tokio::time::sleep(TTL).await;
        let count = guard.watchdog().expect("it is on").status().extend_count;
        guard.unlock().await.unwrap();
        count
    };
    let (often, seldom) = (extensions(options()).await, extensions(options().watchdog_interval(INTERVAL)).await);
    assert!(often >= 8, "{often}");
    assert!((1..=4).contains(&seldom), "{seldom}");
    extended.recv().await.expect("it is called");

    let replaced = LockOptions::new().watchdog_config(WatchdogConfig::new());
    assert!(extensions(replaced).await <= 4);
}

#[tokio::test(start_paused = true)]
async fn config_that_fits_no_ttl_is_refused() {
    let world = World::new();
    let config = WatchdogConfig { interval: Some(INTERVAL), ..WatchdogConfig::new() };
    let client = client_with(&world, |builder| builder.default_watchdog_config(config));
    let brief = || LockOptions::new().ttl(INTERVAL / 2);
    let refused = mutex(&client).lock_with(brief()).await.unwrap_err();
    assert!(matches!(refused, LockError::InvalidConfig(InvalidConfig::IntervalTooLong { .. })), "{refused}");
    let guard = mutex(&client).lock_with(brief().watchdog(false)).await.unwrap();
    assert!(guard.watchdog().is_none());
    guard.unlock().await.unwrap();
}
