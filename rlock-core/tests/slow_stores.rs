//! Stores that answer, but slowly, on virtual time.

mod support;

use std::time::Duration;

use rlock_core::{Client, ClientBuilder, Clock, Guard, LockError, LockOptions, MemoryStore, SimpleLock};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use support::{Fate, Scripted, TTL, Verb, World, options, until_idle};

/// A little less than [`ClientBuilder::RETRY_FOR`] allows.
const SLOW: Duration = Duration::from_millis(3_800);

fn take(client: &Client, name: &str, options: LockOptions) -> JoinHandle<Result<Guard, LockError>> {
    let lock = SimpleLock::new(name, client).unwrap();
    tokio::spawn(async move { lock.lock_with(options).await })
}

/// Takes three locks, the last two of them with one call.
async fn take_three(client: &Client, options: LockOptions) -> Vec<Guard> {
    let mut claims = vec![take(client, "first", options.clone())];
    until_idle().await;
    claims.extend(["second", "third"].map(|name| take(client, name, options.clone())));
    let mut guards = Vec::new();
    for claim in claims {
        guards.push(claim.await.unwrap().unwrap());
    }
    guards
}

#[tokio::test(start_paused = true)]
async fn claims_of_one_slow_call_are_granted() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::AnsweredLate(SLOW));
    let guards = take_three(&world.client, options()).await;
    assert!(guards.iter().all(Guard::is_held));
    assert_eq!(world.script.sizes(Verb::Acquire), [1, 2], "none is repeated");
}

#[tokio::test(start_paused = true)]
async fn releases_of_one_slow_call_are_confirmed() {
    let world = World::new();
    let guards = take_three(&world.client, options()).await;
    world.script.decide(Verb::Release, Fate::AnsweredLate(SLOW));
    let mut unlocking = Vec::new();
    for guard in guards {
        unlocking.push(tokio::spawn(guard.unlock()));
    }
    for unlocked in unlocking {
        unlocked.await.unwrap().unwrap();
    }
    assert_eq!(world.script.sizes(Verb::Release), [1, 2], "none is repeated");
}

#[tokio::test(start_paused = true)]
async fn limited_wait_outlasts_a_slow_answer() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::AnsweredLate(4 * ClientBuilder::RETRY_FOR));
    let guard = world.lock("job").lock_with(options().wait(2 * TTL)).await.unwrap();
    assert!(guard.is_held());
    assert_eq!(world.script.sizes(Verb::Acquire), [1], "it is not repeated");
}

#[tokio::test(start_paused = true)]
async fn client_that_never_retries_awaits_slow_answers() {
    let (backend, script) = Scripted::client_of(&MemoryStore::with_clock(Clock::tokio()));
    let builder = Client::builder().runtime(Handle::current()).clock(Clock::tokio());
    let client = builder.retry_for(Duration::ZERO).build(backend);
    script.decide(Verb::Acquire, Fate::AnsweredLate(SLOW));
    let guards = take_three(&client, options().wait(TTL)).await;
    assert!(guards.iter().all(Guard::is_held));
    assert_eq!(script.sizes(Verb::Acquire), [1, 2], "none is repeated");
}

#[tokio::test(start_paused = true)]
async fn slow_store_gets_few_repeated_claims_at_once() {
    const ROUND_TRIP: Duration = Duration::from_millis(400);
    const WINDOW: usize = 16;
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::AnsweredLate(ROUND_TRIP));
    let _first = world.lock("first").lock_with(options()).await.unwrap();
    world.script.decide(Verb::Acquire, Fate::Hangs);
    let _claims: Vec<_> =
        (0..64).map(|number| take(&world.client, &format!("job {number}"), options().wait(2 * TTL))).collect();
    sleep(ClientBuilder::RETRY_FOR / 2).await;
    world.script.decide(Verb::Acquire, Fate::AnsweredLate(ROUND_TRIP));
    let unanswered = world.script.sizes(Verb::Acquire).len();
    sleep(ClientBuilder::RETRY_FOR * 3 / 10 + ROUND_TRIP * 7 / 8).await;
    let repeated = world.script.sizes(Verb::Acquire).split_off(unanswered);
    assert!((1..=WINDOW).contains(&repeated.len()), "{repeated:?}");
    assert!(repeated.iter().all(|size| *size == 1), "{repeated:?}");
}
