//! Waiting for a lock and releasing it while the store fails, on virtual time.

mod support;

use std::time::Duration;

use futures_util::poll;
use rlock_core::{LockError, LossReason, SimpleLock, UnlockError};
use tokio::time::{Instant, sleep};

use support::{Fate, TTL, Verb, World, options, until_idle};

const SECOND: Duration = Duration::from_secs(1);
/// A wait that ends within a timer's resolution.
const TICK: Duration = Duration::from_millis(2);

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_it_should() {
    let world = World::new();
    let _held = world.lock("job").lock_with(options()).await.unwrap();
    let asked = Instant::now();
    let refused = world.lock("job").lock_with(options().wait(7 * SECOND)).await.unwrap_err();
    assert!(refused.is_timeout(), "{refused}");
    let waited = asked.elapsed();
    assert!(waited >= 7 * SECOND && waited <= 7 * SECOND + TICK, "{waited:?}");
    until_idle().await;
    assert_eq!(world.client.open_leases(), 1, "the place in the queue was given up");
}

#[tokio::test(start_paused = true)]
async fn wait_on_a_frozen_store_ends_in_time() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::Hangs);
    let asked = Instant::now();
    let refused = world.lock("job").lock_with(options().wait(7 * SECOND)).await.unwrap_err();
    assert!(refused.is_timeout(), "{refused}");
    assert!(asked.elapsed() <= 7 * SECOND + TICK);
    world.script.decide(Verb::Acquire, Fate::Answered);
    sleep(100 * SECOND).await;
    assert_eq!(world.client.open_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn longest_wait_outlasts_a_late_first_answer() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::AnsweredLate(2 * rlock_core::ClientBuilder::RETRY_FOR));
    let failed = world.lock("impatient").lock_with(options()).await.unwrap_err();
    assert!(failed.is_unavailable(), "{failed}");
    let guard = world.lock("patient").lock_with(options().wait(Duration::MAX)).await.unwrap();
    assert!(guard.is_held());
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_store_is_reported_after_the_patience() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::Failed);
    let asked = Instant::now();
    let failed = world.lock("job").lock_with(options()).await.unwrap_err();
    assert!(failed.is_unavailable(), "{failed}");
    let patience = rlock_core::ClientBuilder::RETRY_FOR;
    assert!(asked.elapsed() >= patience && asked.elapsed() <= patience + SECOND, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn claim_with_a_lost_answer_is_repeated() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::AnswerLost);
    let lock = world.lock("job");
    let asking = tokio::spawn(async move { lock.lock_with(options()).await });
    sleep(SECOND).await;
    world.script.decide(Verb::Acquire, Fate::Answered);
    let guard = asking.await.unwrap().unwrap();
    let now = world.other_client().inspect(guard.resource()).await.unwrap();
    assert_eq!((now.holders.len(), now.queue.len()), (1, 0));
    assert_eq!(now.holders[0].token, guard.token());
    // The first claim was sent one second ago, and the deadline counts from that moment.
    assert!(guard.remaining() <= TTL - SECOND);
    guard.unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn claim_that_lands_after_its_drop_is_released() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::AnswerLost);
    let lock = world.lock("job");
    let asking = tokio::spawn(async move { lock.lock_with(options()).await });
    until_idle().await;
    asking.abort();
    until_idle().await;
    let now = world.other_client().inspect(world.lock("job").resource()).await.unwrap();
    assert!(now.is_free(), "{now:?}");
    sleep(TTL).await;
    assert_eq!(world.client.open_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_in_the_queue_is_waited_out() {
    let world = World::new();
    let other = world.other_client();
    let held = SimpleLock::new("job", &other).unwrap().lock_with(options()).await.unwrap();
    let lock = world.lock("job");
    let waiting = tokio::spawn(async move { lock.lock_with(options()).await });
    until_idle().await;
    world.script.set(Fate::Failed);
    sleep(TTL / 2).await;
    world.script.set(Fate::Answered);
    held.unlock().await.unwrap();
    until_idle().await;
    assert!(waiting.await.unwrap().unwrap().is_held());
}

#[tokio::test(start_paused = true)]
async fn place_lost_by_the_store_is_taken_again() {
    let world = World::new();
    let other = world.other_client();
    let held = SimpleLock::new("job", &other).unwrap().lock_with(options()).await.unwrap();
    let lock = world.lock("job");
    let waiting = tokio::spawn(async move { lock.lock_with(options()).await });
    until_idle().await;
    world.script.set(Fate::Failed);
    sleep(3 * TTL).await;
    assert!(other.inspect(held.resource()).await.unwrap().queue.is_empty(), "the place has expired");
    world.script.set(Fate::Answered);
    sleep(TTL).await;
    assert_eq!(other.inspect(held.resource()).await.unwrap().queue.len(), 1);
    held.unlock().await.unwrap();
    assert!(waiting.await.unwrap().unwrap().is_held());
}

#[tokio::test(start_paused = true)]
async fn wait_includes_the_time_in_a_lost_place() {
    let world = World::new();
    let other = world.other_client();
    let _held = SimpleLock::new("job", &other).unwrap().lock_with(options()).await.unwrap();
    let (lock, wait) = (world.lock("job"), 4 * TTL);
    let waiting = tokio::spawn(async move { lock.lock_with(options().wait(wait)).await });
    until_idle().await;
    world.script.set(Fate::Failed);
    sleep(3 * TTL).await;
    world.script.set(Fate::Answered);
    let refused = waiting.await.unwrap().unwrap_err();
    assert!(matches!(refused, LockError::TimedOut { wait: waited, .. } if waited >= wait), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn hung_claim_after_a_lost_place_times_out() {
    let world = World::new();
    let other = world.other_client();
    let _held = SimpleLock::new("job", &other).unwrap().lock_with(options()).await.unwrap();
    let (lock, wait) = (world.lock("job"), 3 * TTL + 10 * SECOND);
    let waiting = tokio::spawn(async move { lock.lock_with(options().wait(wait)).await });
    until_idle().await;
    world.script.set(Fate::Failed);
    sleep(3 * TTL).await;
    world.script.decide(Verb::Acquire, Fate::Hangs);
    world.script.set(Fate::Answered);
    let refused = waiting.await.unwrap().unwrap_err();
    assert!(matches!(refused, LockError::TimedOut { wait: waited, .. } if waited >= wait), "{refused}");
}

/// The place is lost within the wait, and the waiter is not polled until after it.
#[tokio::test(start_paused = true)]
async fn place_lost_before_a_late_poll_times_out() {
    let world = World::new();
    let other = world.other_client();
    let _held = SimpleLock::new("job", &other).unwrap().lock_with(options()).await.unwrap();
    let (lock, wait) = (world.lock("job"), 4 * TTL);
    let mut waiting = Box::pin(lock.lock_with(options().wait(wait)));
    for _ in 0..3 {
        assert!(poll!(&mut waiting).is_pending());
        until_idle().await;
    }
    world.script.set(Fate::Failed);
    sleep(3 * TTL).await;
    world.script.set(Fate::Answered);
    sleep(2 * TTL).await;
    world.script.decide(Verb::Acquire, Fate::Hangs);
    let refused = waiting.await.unwrap_err();
    assert!(matches!(refused, LockError::TimedOut { wait: waited, .. } if waited >= 5 * TTL), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn crashed_holder_costs_at_most_its_ttl() {
    let world = World::new();
    let crashed = world.lock("job").lock_with(options()).await.unwrap();
    let taken = Instant::now();
    world.script.set(Fate::Failed);
    let other = SimpleLock::new("job", &world.other_client()).unwrap();
    let guard = other.lock_with(options()).await.unwrap();
    let cost = taken.elapsed();
    assert!(cost >= TTL && cost <= TTL + 3 * TICK, "{cost:?}");
    assert!(!crashed.is_held() && guard.token() > crashed.token());
}

#[tokio::test(start_paused = true)]
async fn a_store_without_a_queue_is_polled() {
    let world = World::with(|can| can.queue = false);
    let held = world.lock("job").lock_with(options()).await.unwrap();
    let lock = world.lock("job");
    let waiting = tokio::spawn(async move { lock.lock_with(options()).await });
    sleep(10 * SECOND).await;
    held.unlock().await.unwrap();
    let freed = Instant::now();
    let _held = waiting.await.unwrap().unwrap();
    assert!(freed.elapsed() <= Duration::from_millis(260), "{:?}", freed.elapsed());
    assert!(world.lock("job").try_lock_with(options()).await.unwrap().is_none());
    assert!(world.lock("job").lock_with(options().wait(SECOND)).await.unwrap_err().is_timeout());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_push_is_asked() {
    let world = World::with(|can| can.push = false);
    let held = world.lock("job").lock_with(options()).await.unwrap();
    let lock = world.lock("job");
    let waiting = tokio::spawn(async move { lock.lock_with(options()).await });
    sleep(10 * SECOND).await;
    held.unlock().await.unwrap();
    let freed = Instant::now();
    let _guard = waiting.await.unwrap().unwrap();
    assert!(freed.elapsed() <= Duration::from_millis(510), "{:?}", freed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_release_says_so_and_goes_on() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    world.script.decide(Verb::Release, Fate::Failed);
    let asked = Instant::now();
    let error = guard.unlock().await.unwrap_err();
    assert!(matches!(error, UnlockError::Unconfirmed { .. }), "{error}");
    assert!(asked.elapsed() <= rlock_core::ClientBuilder::RETRY_FOR + 2 * SECOND);
    world.script.decide(Verb::Release, Fate::Answered);
    sleep(3 * SECOND).await;
    assert_eq!(world.client.open_leases(), 0);
    assert!(world.lock("job").try_lock_with(options()).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_answer_got_lost_succeeds() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    world.script.decide(Verb::Release, Fate::AnswerLost);
    let unlocking = tokio::spawn(guard.unlock());
    until_idle().await;
    world.script.decide(Verb::Release, Fate::Answered);
    unlocking.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_holders_and_waiters() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let lock = world.lock("job");
    let waiting = tokio::spawn(async move { lock.lock_with(options()).await });
    until_idle().await;
    world.client.shutdown(SECOND).await.unwrap();
    assert_eq!(guard.lost().await, LossReason::Shutdown);
    assert!(matches!(waiting.await.unwrap(), Err(LockError::Closed { .. })));
    assert!(matches!(world.lock("job").lock().await, Err(LockError::Closed { .. })));
    assert_eq!(world.store.resources(), 0);
}

#[tokio::test(start_paused = true)]
async fn shutdown_says_what_it_could_not_give_back() {
    let world = World::new();
    let _guard = world.lock("job").lock_with(options()).await.unwrap();
    world.script.decide(Verb::Release, Fate::Hangs);
    let error = world.client.shutdown(SECOND).await.unwrap_err();
    assert_eq!((error.unconfirmed, error.timeout), (1, SECOND));
}

#[tokio::test(start_paused = true)]
async fn shutdown_reaches_a_waiter_before_its_poll() {
    let world = World::new();
    let lock = world.lock("job");
    world.script.decide(Verb::Acquire, Fate::AnsweredLate(SECOND));
    let mut asking = Box::pin(lock.lock_with(options()));
    assert!(poll!(asking.as_mut()).is_pending());
    sleep(2 * SECOND).await;
    assert_eq!(world.other_client().inspect(lock.resource()).await.unwrap().holders.len(), 1);
    world.client.shutdown(SECOND).await.unwrap();
    assert!(matches!(asking.await, Err(LockError::Closed { .. })));
}

#[tokio::test(start_paused = true)]
async fn grant_that_expired_unseen_is_not_returned() {
    let world = World::new();
    let lock = world.lock("job");
    world.script.decide(Verb::Acquire, Fate::AnsweredLate(SECOND));
    let mut asking = Box::pin(lock.lock_with(options().watchdog(false)));
    assert!(poll!(asking.as_mut()).is_pending());
    world.script.decide(Verb::Acquire, Fate::Answered);
    sleep(2 * TTL).await;
    let guard = asking.await.unwrap();
    assert!(guard.is_held());
    assert_eq!(world.client.open_leases(), 1);
}

#[tokio::test(start_paused = true)]
async fn watchdog_stopped_late_leaves_the_release_alone() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    let watchdog = guard.watchdog().unwrap();
    world.script.decide(Verb::Release, Fate::Failed);
    let unlocking = tokio::spawn(guard.unlock());
    until_idle().await;
    watchdog.stop();
    world.script.decide(Verb::Release, Fate::Answered);
    unlocking.await.unwrap().unwrap();
    assert_eq!(world.client.open_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn release_succeeds_after_two_lost_answers() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::AnswerLost);
    let lock = world.lock("job");
    let asking = tokio::spawn(async move { lock.lock_with(options()).await });
    until_idle().await;
    world.script.decide(Verb::Acquire, Fate::Answered);
    let guard = asking.await.unwrap().unwrap();
    world.script.decide(Verb::Release, Fate::AnswerLost);
    let unlocking = tokio::spawn(guard.unlock());
    until_idle().await;
    world.script.decide(Verb::Release, Fate::Answered);
    unlocking.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn place_counts_from_the_first_claim() {
    let world = World::new();
    let other = world.other_client();
    let held = SimpleLock::new("job", &other).unwrap().lock_with(options()).await.unwrap();
    world.script.decide(Verb::Acquire, Fate::AnswerLost);
    let lock = world.lock("job");
    let asking = tokio::spawn(async move { lock.lock_with(options()).await });
    sleep(2 * SECOND).await;
    // From now on every extension fails, so a granted lease lives only as long as the first claim.
    world.script.set(Fate::Failed);
    world.script.decide(Verb::Acquire, Fate::Answered);
    sleep(2 * SECOND).await;
    held.unlock().await.unwrap();
    let guard = asking.await.unwrap().unwrap();
    assert!(guard.remaining() <= TTL - 4 * SECOND, "{:?}", guard.remaining());
}

#[tokio::test(start_paused = true)]
async fn hiccup_does_not_end_a_polling_wait() {
    let world = World::with(|can| can.queue = false);
    let held = SimpleLock::new("job", &world.other_client()).unwrap().lock_with(options()).await.unwrap();
    let lock = world.lock("job");
    let waiting = tokio::spawn(async move { lock.lock_with(options()).await });
    sleep(10 * SECOND).await;
    world.script.decide(Verb::Acquire, Fate::Failed);
    sleep(SECOND).await;
    world.script.decide(Verb::Acquire, Fate::Answered);
    held.unlock().await.unwrap();
    assert!(waiting.await.unwrap().unwrap().is_held());
}

#[tokio::test(start_paused = true)]
async fn long_polling_does_not_slow_down_retries() {
    let world = World::with(|can| can.queue = false);
    let other = world.other_client();
    let held = SimpleLock::new("job", &other).unwrap().lock_with(options()).await.unwrap();
    let lock = world.lock("job");
    let asking = tokio::spawn(async move { lock.lock_with(options()).await });
    sleep(5 * SECOND).await;
    world.script.decide(Verb::Acquire, Fate::Failed);
    held.unlock().await.unwrap();
    // As long as the longest pause between two polls, so that one poll fails.
    sleep(Duration::from_millis(251)).await;
    world.script.decide(Verb::Acquire, Fate::Answered);
    let healed = Instant::now();
    assert!(asking.await.unwrap().unwrap().is_held());
    // Pauses double from 10 ms, and six tries fit into the outage.
    assert!(healed.elapsed() <= Duration::from_millis(330), "it asked again after {:?}", healed.elapsed());
}

/// The answer is older than the grant, which an event has reported meanwhile.
#[tokio::test(start_paused = true)]
async fn late_answer_about_a_place_takes_no_lock() {
    let world = World::new();
    let holder = SimpleLock::new("job", &world.other_client()).unwrap().lock_with(options()).await.unwrap();
    let lock = world.lock("job");
    let waiting = tokio::spawn(async move { lock.lock_with(options()).await });
    until_idle().await;
    world.script.set(Fate::AnsweredLate(3 * SECOND));
    while world.script.times("job").is_empty() {
        sleep(SECOND / 10).await;
    }
    world.script.set(Fate::Answered);
    holder.unlock().await.unwrap();
    let guard = waiting.await.unwrap().unwrap();
    sleep(4 * SECOND).await;
    assert!(guard.is_held(), "{:?}", guard.loss());
    sleep(2 * TTL).await;
    guard.unlock().await.unwrap();
}
