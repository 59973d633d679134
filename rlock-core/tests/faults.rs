//! Stores, callbacks and subscribers that misbehave.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rlock_core::{
    BackendError, Client, Clock, End, ExtendError, InvalidConfig, ListFilter, LockError, LockOptions, LossReason,
    MemoryStore, Namespace, SimpleLock, WatchdogConfig,
};
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Event;

use support::{Fate, OnEvent, Scripted, TTL, Verb, World, options, until_idle, until_reported};

const SECOND: Duration = Duration::from_secs(1);
/// The time limit for actions of real threads.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn short_interval_outlives_an_outage() {
    let world = World::new();
    let interval = Duration::from_millis(700);
    let guard = world.lock("job").lock_with(options().ttl(8 * SECOND).watchdog_interval(interval)).await.unwrap();
    for fate in [Fate::Hangs, Fate::Failed] {
        sleep(2 * SECOND).await;
        world.script.set(fate);
        sleep(6 * SECOND).await;
        world.script.set(Fate::Answered);
        assert!(guard.is_held(), "{fate:?}: {:?}", guard.loss());
    }
}

#[tokio::test(start_paused = true)]
async fn outage_ends_a_lock_at_its_deadline() {
    let world = World::new();
    let interval = Duration::from_millis(700);
    let guard = world.lock("job").lock_with(options().ttl(8 * SECOND).watchdog_interval(interval)).await.unwrap();
    world.script.set(Fate::Failed);
    assert_eq!(guard.lost().await, LossReason::Expired);
}

#[tokio::test(start_paused = true)]
async fn interval_past_the_deadline_is_refused() {
    let world = World::new();
    let interval = Duration::from_millis(29_900);
    let refused = world.lock("job").lock_with(options().watchdog_interval(interval)).await.unwrap_err();
    let why = InvalidConfig::IntervalTooLong { interval, extend_by: TTL };
    assert!(matches!(&refused, LockError::InvalidConfig(error) if *error == why), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn break_is_asked_about_after_failures() {
    let world = World::new();
    let hour = Duration::from_secs(3600);
    let guard = world.lock("job").lock_with(options().ttl(hour).watchdog(false)).await.unwrap();
    world.script.set(Fate::Failed);
    world.other_client().break_leases(guard.resource()).await.unwrap();
    sleep(SECOND).await;
    world.script.set(Fate::Answered);
    assert_eq!(timeout(hour / 2, guard.lost()).await.unwrap(), LossReason::Broken);
}

#[tokio::test(start_paused = true)]
async fn hung_claims_delay_no_others() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::Hangs);
    let hung: Vec<_> = (0..200)
        .map(|number| {
            let lock = world.lock(&format!("hung {number}"));
            tokio::spawn(async move { lock.lock_with(options()).await })
        })
        .collect();
    until_idle().await;
    world.script.decide(Verb::Acquire, Fate::Answered);
    let guard = timeout(3 * SECOND, world.lock("job").lock_with(options())).await.expect("it does not wait for others");
    assert!(guard.unwrap().is_held());
    hung.iter().for_each(|task| task.abort());
}

#[tokio::test(start_paused = true)]
async fn hung_claim_is_reported_after_the_patience() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::Hangs);
    let asked = Instant::now();
    let failed = world.lock("job").lock_with(options()).await.unwrap_err();
    assert!(failed.is_unavailable(), "{failed}");
    assert_eq!(asked.elapsed().as_secs(), rlock_core::ClientBuilder::RETRY_FOR.as_secs());
}

#[tokio::test(start_paused = true)]
async fn hung_extension_ends_with_the_lock() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options().ttl(3 * SECOND).watchdog(false)).await.unwrap();
    world.script.set(Fate::Hangs);
    let asked = Instant::now();
    let error = guard.extend(TTL).await.unwrap_err();
    assert!(matches!(error, ExtendError::Lost(_)), "{error}");
    assert!(asked.elapsed() <= 3 * SECOND, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn wait_for_a_frozen_store_blames_the_store() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::Hangs);
    let refused = world.lock("job").lock_with(options().wait(2 * SECOND)).await.unwrap_err();
    assert!(matches!(refused, LockError::Unanswered { wait, .. } if wait >= 2 * SECOND), "{refused}");
    assert!(refused.to_string().contains("the store has not answered"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn too_short_ttl_is_named() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::AnsweredLate(2 * SECOND));
    let refused = world.lock("job").lock_with(options().ttl(SECOND)).await.unwrap_err();
    assert!(matches!(refused, LockError::TtlTooShort { grants: 3, .. }), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn task_that_watches_a_lock_ends_with_it() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let (before, lost) = (tokio::spawn(guard.ended()), guard.ended());
    until_idle().await;
    assert!(!before.is_finished());
    guard.unlock().await.unwrap();
    assert_eq!((before.await.unwrap(), lost.await), (End::Released, End::Released));

    let guard = world.lock("job").lock_with(options()).await.unwrap();
    world.other_client().break_leases(guard.resource()).await.unwrap();
    assert_eq!(guard.ended().await, End::Lost(LossReason::Broken));
}

#[tokio::test(start_paused = true)]
async fn clients_of_one_backend_hear_of_their_grants() {
    let store = MemoryStore::with_clock(Clock::tokio());
    let backend = Arc::new(store.client(Namespace::default()));
    let client = || Client::builder().runtime(Handle::current()).clock(Clock::tokio()).build(backend.clone());
    let clients = [client(), client()];
    for (holder, waiter) in [(&clients[0], &clients[1]), (&clients[1], &clients[0])] {
        let held = SimpleLock::new("job", holder).unwrap().lock_with(options()).await.unwrap();
        let lock = SimpleLock::new("job", waiter).unwrap();
        let waiting = tokio::spawn(async move { lock.lock_with(options()).await });
        until_idle().await;
        let released = Instant::now();
        held.unlock().await.unwrap();
        drop(waiting.await.unwrap().unwrap());
        assert_eq!(released.elapsed(), Duration::ZERO);
        until_idle().await;
    }
}

#[test]
fn blocked_callback_delays_no_other_lock() {
    let client = Client::new(MemoryStore::new().client(Namespace::default()));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let lock = |name: &str| runtime.block_on(SimpleLock::new(name, &client).unwrap().lock()).unwrap();
    let (blocked, other) = (lock("blocked"), lock("other"));
    let every = || WatchdogConfig { interval: Some(Duration::from_millis(5)), ..WatchdogConfig::new() };
    let (unblock, blocking) = channel::<()>();
    let blocking = Mutex::new(blocking);
    let _blocked = blocked.start_watchdog(every().on_success(move || _ = blocking.lock().unwrap().recv())).unwrap();
    let (sender, successes) = channel();
    let _other = other.start_watchdog(every().on_success(move || _ = sender.send(()))).unwrap();
    for _ in 0..10 {
        successes.recv_timeout(SOON).expect("the other lock's callback is called");
    }
    drop(unblock);
}

#[test]
fn release_does_not_wait_for_a_blocked_thread() {
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let store = MemoryStore::new();
    let (backend, script) = Scripted::client_of(&store);
    let client = Client::builder().runtime(runtime.handle().clone()).build(backend);
    let (sender, acquired) = channel();
    let (release, blocked) = channel::<()>();
    let task = runtime.spawn(async move {
        let guard = SimpleLock::new("job", &client).unwrap().lock().await.unwrap();
        script.decide(Verb::Release, Fate::Delayed(Duration::from_millis(10)));
        sender.send(()).unwrap();
        drop(guard);
        let _blocks_the_thread = blocked.recv_timeout(SOON);
    });
    acquired.recv().unwrap();
    let other = Client::new(store.client(Namespace::default()));
    let soon = LockOptions::new().wait(SOON / 2);
    let elsewhere = Builder::new_current_thread().enable_all().build().unwrap();
    let guard = elsewhere.block_on(SimpleLock::new("job", &other).unwrap().lock_with(soon));
    assert!(guard.unwrap().is_held());
    drop(release);
    runtime.block_on(task).unwrap();
}

#[tokio::test(start_paused = true)]
async fn loss_is_signalled_before_it_is_logged() {
    let signal = Arc::new(OnceLock::<CancellationToken>::new());
    let (seen, token) = (Arc::new(AtomicU32::new(0)), signal.clone());
    let count = seen.clone();
    let _default = tracing::subscriber::set_default(OnEvent(move |event: &Event<'_>| {
        if *event.metadata().level() == tracing::Level::WARN && token.get().is_some_and(CancellationToken::is_cancelled)
        {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }));
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    signal.set(guard.cancellation_token()).unwrap();
    world.other_client().break_leases(guard.resource()).await.unwrap();
    guard.lost().await;
    until_reported().await;
    assert!(seen.load(Ordering::SeqCst) > 0, "the loss was logged first, or not at all");
}

#[tokio::test(start_paused = true)]
async fn blocked_log_delays_no_loss() {
    for lowest in [tracing::Level::WARN, tracing::Level::DEBUG] {
        let (unblock, blocked) = channel::<()>();
        let (blocked, returned) = (Mutex::new(blocked), Arc::new(AtomicU32::new(0)));
        let count = returned.clone();
        let _default = tracing::subscriber::set_default(OnEvent(move |event: &Event<'_>| {
            if *event.metadata().level() <= lowest {
                let _until_unblocked = blocked.lock().unwrap().recv_timeout(SOON);
                count.fetch_add(1, Ordering::SeqCst);
            }
        }));
        let world = World::new();
        let unwatched = || options().watchdog(false);
        let first = world.lock("first").lock_with(unwatched()).await.unwrap();
        let second = world.lock("second").lock_with(unwatched()).await.unwrap();
        tokio::time::advance(TTL).await;
        first.lost().await;
        second.lost().await;
        assert_eq!(returned.load(Ordering::SeqCst), 0, "a loss waited for the log");
        drop(unblock);
        until_reported().await;
        assert!(returned.load(Ordering::SeqCst) >= 2, "the losses are logged");
    }
}

#[tokio::test(start_paused = true)]
async fn panicking_subscriber_ends_nothing() {
    let _default = tracing::subscriber::set_default(OnEvent(|_: &Event<'_>| panic!("the subscriber panics")));
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let lock = world.lock("job");
    let waiting = tokio::spawn(async move { lock.lock_with(options()).await });
    sleep(3 * TTL).await;
    assert!(guard.is_held());
    guard.unlock().await.unwrap();
    assert!(waiting.await.unwrap().unwrap().is_held());
}

#[tokio::test]
async fn prefix_of_no_name_is_refused() {
    let client = Client::new(MemoryStore::new().client(Namespace::default()));
    for prefix in ["a\0b".to_owned(), "a".repeat(2 << 20)] {
        let error = client.list(&ListFilter { prefix, ..ListFilter::default() }).await.unwrap_err();
        assert!(matches!(&error, BackendError::Rejected(_)), "{error}");
        assert!(error.to_string().contains("no name begins with this prefix"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_store_keeps_its_locks() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options().ttl(SECOND)).await.unwrap();
    world.script.set(Fate::AnsweredLate(SECOND * 2 / 5));
    sleep(20 * SECOND).await;
    assert!(guard.is_held(), "{:?}", guard.loss());
    let status = guard.watchdog().unwrap().status();
    assert!(status.extend_count >= 10 && status.failure_count <= 2, "{status:?}");
    guard.extend(5 * SECOND).await.unwrap();
    assert!(guard.remaining() > 4 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn slow_store_serves_its_waiters() {
    let world = World::with(|can| can.push = false);
    let holder = SimpleLock::new("job", &world.other_client()).unwrap().lock_with(options()).await.unwrap();
    let lock = world.lock("job");
    let waiting = tokio::spawn(async move { lock.lock_with(options().ttl(SECOND)).await });
    world.script.set(Fate::AnsweredLate(SECOND * 2 / 5));
    sleep(5 * SECOND).await;
    holder.unlock().await.unwrap();
    assert!(timeout(5 * SECOND, waiting).await.expect("it is granted").unwrap().unwrap().is_held());
}

#[tokio::test(start_paused = true)]
async fn callback_that_owns_a_guard_releases_it() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let owned = Mutex::new(Some(world.lock("owned").lock_with(options()).await.unwrap()));
    let config = WatchdogConfig::new().on_failure(move |_| drop(owned.lock().unwrap().take()));
    guard.start_watchdog(config).unwrap();
    guard.unlock().await.unwrap();
    sleep(2 * TTL).await;
    assert_eq!(world.client.open_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn watchdog_of_a_lost_lock_is_refused() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options().watchdog(false).ttl(SECOND)).await.unwrap();
    sleep(2 * SECOND).await;
    assert!(matches!(guard.start_watchdog(WatchdogConfig::new()), Err(rlock_core::StartWatchdogError::Lost(_))));
}
