//! The log of a client whose subscriber blocks or panics.

mod support;

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use futures_util::poll;
use rlock_core::{Client, LossReason, MemoryStore, Namespace, SimpleLock};
use tokio::runtime::Builder;
use tokio::time::sleep;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, NoSubscriber, set_default};
use tracing::{Dispatch, Event, Metadata, Subscriber};

use support::{Log, OnEvent, TTL, World, options, until_idle, until_reported};

/// A log, and a subscriber that blocks until the sender is dropped, before it records each line.
fn blocked_log() -> (Log, Sender<()>, impl Subscriber + Send + Sync + 'static) {
    let (unblock, blocked) = channel();
    let (blocked, log) = (Mutex::new(blocked), Log::default());
    let recorded = log.clone();
    let subscriber = OnEvent(move |event: &Event<'_>| {
        let _unblocked = blocked.lock().unwrap().recv();
        recorded.record(event);
    });
    (log, unblock, subscriber)
}

/// The lines of a subscriber that blocks until more steps wait than the bound allows, and until a lock is lost.
async fn lines_of_a_blocked_log() -> Vec<String> {
    let (log, unblock, subscriber) = blocked_log();
    let _default = set_default(subscriber);
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let other = world.lock("other");
    for _ in 0..2_500 {
        other.lock_with(options()).await.unwrap().unlock().await.unwrap();
    }
    world.other_client().break_leases(guard.resource()).await.unwrap();
    guard.lost().await;
    drop(unblock);
    until_reported().await;
    log.lines()
}

#[tokio::test(start_paused = true)]
async fn full_log_still_names_a_loss() {
    let lines = lines_of_a_blocked_log().await;
    assert!(lines.iter().any(|line| line.contains("lost the lock")), "{} lines", lines.len());
}

#[tokio::test(start_paused = true)]
async fn dropped_reports_are_named_at_once() {
    let lines = lines_of_a_blocked_log().await;
    let named = lines.iter().position(|line| line.contains("reports were dropped"));
    assert!(matches!(named, Some(0 | 1)), "{named:?} of {} lines", lines.len());
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_last_lines() {
    let (log, unblock, subscriber) = blocked_log();
    let _default = set_default(subscriber);
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let mut ending = Box::pin(world.client.shutdown(TTL));
    for _ in 0..3 {
        assert!(poll!(&mut ending).is_pending(), "it does not wait for the log");
        until_idle().await;
    }
    assert_eq!((guard.loss(), world.client.open_leases()), (Some(LossReason::Shutdown), 0));
    drop(unblock);
    ending.await.unwrap();
    assert!(log.lines().iter().any(|line| line.contains("lost the lock")), "{:?}", log.lines());
}

#[test]
fn last_drop_waits_for_the_last_lines() {
    let (log, unblock, subscriber) = blocked_log();
    let _default = set_default(subscriber);
    // If there is one subscriber only, tracing asks that of the thread which logs first. The client's has none.
    let _second = Dispatch::new(NoSubscriber::default());
    let client = Client::new(MemoryStore::new().client(Namespace::default()));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let guard = SimpleLock::new("job", &client).unwrap().lock().await.unwrap();
        guard.unlock().await.unwrap();
    });
    let begun = Instant::now();
    drop(client);
    assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
    assert!(log.lines().is_empty(), "the log blocks");
    drop(unblock);
}

/// A subscriber whose filter panics.
struct Panicking;

impl Subscriber for Panicking {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        panic!("the filter panics")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn panicking_filter_ends_nothing() {
    let _default = set_default(Panicking);
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let lock = world.lock("job");
    let waiting = tokio::spawn(async move { lock.lock_with(options()).await });
    sleep(3 * TTL).await;
    assert!(guard.is_held(), "{:?}", guard.loss());
    guard.unlock().await.unwrap();
    let guard = waiting.await.unwrap().unwrap();
    world.other_client().break_leases(guard.resource()).await.unwrap();
    assert_eq!(guard.lost().await, LossReason::Broken);
}
