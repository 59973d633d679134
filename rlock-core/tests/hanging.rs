//! Stores that leave calls unanswered because of some of their resources.

mod support;

use std::time::Duration;

use futures_util::FutureExt as _;
use rlock_core::{ClientBuilder, Guard, SimpleLock, WatchdogConfig};
use tokio::time::{Instant, sleep, timeout};

use support::{Fate, INTERVAL, STEP, TTL, Verb, World, options, until_idle};

fn every(interval: Duration) -> WatchdogConfig {
    WatchdogConfig { interval: Some(interval), ..WatchdogConfig::new() }
}

/// Locks without watchdogs, taken at the same moment.
async fn locks(world: &World, names: impl IntoIterator<Item = String>) -> Vec<Guard> {
    let mut guards = Vec::new();
    for name in names {
        guards.push(world.lock(&name).lock_with(options().watchdog(false)).await.unwrap());
    }
    guards
}

/// Starts the watchdogs of all locks at one moment, so that one call extends all of them.
fn watch(guards: &[Guard]) {
    guards.iter().for_each(|guard| _ = guard.start_watchdog(every(INTERVAL)).unwrap());
}

#[tokio::test(start_paused = true)]
async fn hung_lease_costs_only_itself() {
    let world = World::new();
    let guards = locks(&world, ["stuck".to_owned(), "job".to_owned()]).await;
    sleep(2 * INTERVAL).await;
    world.script.hang("stuck");
    watch(&guards);
    until_idle().await;
    assert_eq!(world.script.calls()[0].resources.len(), 2, "one call extends both");
    guards[0].lost().await;
    sleep(5 * TTL).await;
    assert!(guards[1].is_held(), "{:?}", guards[1].loss());
}

#[tokio::test(start_paused = true)]
async fn hung_lease_costs_none_of_many() {
    const MANY: usize = 600;
    let world = World::new();
    let guards = locks(&world, (0..MANY).map(|number| format!("job {number}"))).await;
    sleep(INTERVAL).await;
    world.script.hang("job 7");
    watch(&guards);
    sleep(TTL).await;
    let lost = guards.iter().filter(|guard| !guard.is_held()).count();
    assert_eq!(lost, 1, "of {MANY}");
    let extended: Vec<usize> = world.script.calls().iter().map(|call| call.resources.len()).collect();
    assert!(extended.len() < MANY, "{} calls", extended.len());
}

#[tokio::test(start_paused = true)]
async fn frozen_store_gets_few_calls() {
    const MANY: usize = 10_000;
    let world = World::new();
    let guards = locks(&world, (0..MANY).map(|number| format!("job {number}"))).await;
    world.script.set(Fate::Hangs);
    watch(&guards);
    sleep(TTL * 4 / 5).await;
    let sent = world.script.calls().len();
    assert!(sent < MANY / 5, "{sent} calls to a frozen store");
    world.script.set(Fate::Answered);
    sleep(TTL).await;
    assert!(guards.iter().all(|guard| guard.is_held()));
    let thawed = world.script.calls().len() - sent;
    assert!(thawed < MANY / 2, "{thawed} calls to the store after it has thawed");
}

#[tokio::test(start_paused = true)]
async fn hung_claim_fails_no_other_claim() {
    let world = World::new();
    world.script.hang_on(Verb::Acquire, "stuck");
    let lock = |name: &str| {
        let lock = world.lock(name);
        tokio::spawn(async move { lock.lock_with(options()).await })
    };
    let stuck = lock("stuck");
    until_idle().await;
    let (_also_stuck, job) = (lock("stuck"), lock("job"));
    let asked = Instant::now();
    until_idle().await;
    assert_eq!(world.script.sizes(Verb::Acquire), [1, 2], "one call claims both");
    assert!(job.await.unwrap().unwrap().is_held());
    assert!(asked.elapsed() < ClientBuilder::RETRY_FOR, "{:?}", asked.elapsed());
    assert!(stuck.await.unwrap().unwrap_err().is_unavailable());
}

#[tokio::test(start_paused = true)]
async fn hung_release_delays_no_other_release() {
    let world = World::new();
    let guards = locks(&world, ["first", "stuck", "job"].map(str::to_owned)).await;
    world.script.decide(Verb::Release, Fate::Hangs);
    let mut unlocking = guards.into_iter().map(|guard| tokio::spawn(guard.unlock()));
    let _first = unlocking.next();
    until_idle().await;
    world.script.decide(Verb::Release, Fate::Answered);
    world.script.hang_on(Verb::Release, "stuck");
    let (_stuck, job) = (unlocking.next().unwrap(), unlocking.next().unwrap());
    until_idle().await;
    assert_eq!(world.script.sizes(Verb::Release), [1, 2], "one call releases both");
    let unlocked = timeout(ClientBuilder::RETRY_FOR, job).await.expect("it does not wait for the other");
    unlocked.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn hung_release_is_repeated_within_the_ttl() {
    let world = World::new();
    let guards = locks(&world, ["job".to_owned()]).await;
    sleep(INTERVAL).await;
    world.script.decide(Verb::Release, Fate::Hangs);
    drop(guards);
    until_idle().await;
    world.script.decide(Verb::Release, Fate::Answered);
    let dropped = Instant::now();
    while world.client.open_leases() > 0 {
        sleep(TTL / 100).await;
    }
    assert!(dropped.elapsed() < TTL * 2 / 3, "{:?}", dropped.elapsed());
    assert_eq!(world.script.sizes(Verb::Release).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn unlock_during_an_extension_is_sent_at_once() {
    let world = World::new();
    let holder = SimpleLock::new("job", &world.other_client()).unwrap().lock_with(options()).await.unwrap();
    world.script.set(Fate::Hangs);
    let lock = world.lock("job");
    let waiting = tokio::spawn(async move { lock.lock_with(options()).await });
    until_idle().await;
    holder.unlock().await.unwrap();
    let guard = waiting.await.unwrap().unwrap();
    until_idle().await;
    assert!(!world.script.calls().is_empty(), "the extension to the whole TTL is under way");
    let unlocked = guard.unlock().now_or_never();
    assert!(matches!(unlocked, Some(Ok(()))), "{unlocked:?}");
}

#[tokio::test(start_paused = true)]
async fn renewal_under_way_splits_no_releases() {
    const MANY: usize = 600;
    let world = World::new();
    let guards = locks(&world, (0..MANY).map(|number| format!("job {number}"))).await;
    sleep(INTERVAL * 2).await;
    world.script.set(Fate::Hangs);
    watch(&guards);
    until_idle().await;
    assert_eq!(world.script.calls()[0].resources.len(), MANY, "one call extends all");
    drop(guards);
    sleep(STEP).await;
    let sizes = world.script.sizes(Verb::Release);
    assert_eq!(sizes.iter().sum::<usize>(), MANY);
    assert!(sizes.len() < MANY / 10, "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn releases_after_a_stuck_extension_travel_alone() {
    let world = World::new();
    let guards = locks(&world, ["stuck".to_owned(), "job".to_owned()]).await;
    sleep(2 * INTERVAL).await;
    world.script.hang("stuck");
    watch(&guards);
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(world.script.calls().len(), 1, "no other extension is due");
    drop(guards);
    sleep(STEP).await;
    assert_eq!(world.script.sizes(Verb::Release), [1, 1]);
}
