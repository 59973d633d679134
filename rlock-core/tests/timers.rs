//! The timers of a client, on virtual time.

mod support;

use rlock_core::{Client, Clock, MemoryStore, Namespace, SimpleLock};
use tokio::runtime::Handle;
use tokio::time::sleep;

use support::{TTL, World, options, until_idle};

/// The number of timers in the schedule of a client.
fn timers(client: &Client) -> usize {
    let shown = format!("{client:?}");
    let after = shown.split_once("scheduled: ").map(|(_, after)| after);
    let number = after.and_then(|after| after.split(|next: char| !next.is_ascii_digit()).next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number of timers in {shown}"))
}

#[tokio::test(start_paused = true)]
async fn long_wait_does_not_pile_up_timers() {
    let world = World::new();
    let other = world.other_client();
    let _held = SimpleLock::new("job", &other).unwrap().lock_with(options()).await.unwrap();
    let lock = world.lock("job");
    let waiting = tokio::spawn(async move { lock.lock_with(options().wait(1000 * TTL)).await });
    sleep(100 * TTL).await;
    assert!(timers(&world.client) <= 2, "{:?}", world.client);
    waiting.abort();
}

/// A client that waits for many names keeps nothing but their leases, however long it waits.
#[tokio::test(start_paused = true)]
async fn waits_for_many_names_stay_small() {
    const NAMES: usize = 10_000;
    let world = World::new();
    let waiter = world.other_client();
    let (mut held, mut waits) = (Vec::new(), Vec::new());
    for number in 0..NAMES {
        let name = format!("job/{number}");
        held.push(world.lock(&name).lock_with(options()).await.unwrap());
        let lock = SimpleLock::new(&name, &waiter).unwrap();
        waits.push(tokio::spawn(async move { lock.lock_with(options()).await.unwrap().unlock().await.unwrap() }));
    }
    sleep(4 * TTL).await;
    assert_eq!(waiter.open_leases(), NAMES);
    assert!(timers(&waiter) <= 2 * NAMES, "{waiter:?}");
    for guard in held {
        guard.unlock().await.unwrap();
    }
    for wait in waits {
        wait.await.unwrap();
    }
    sleep(2 * TTL).await; // the last timers fire
    assert_eq!((waiter.open_leases(), timers(&waiter)), (0, 0));
    assert_eq!(world.store.resources(), 0);
}

/// More timers than the driver fires at a time are due.
#[tokio::test]
async fn other_tasks_run_between_due_timers() {
    const LOCKS: usize = 5_000;
    let clock = Clock::manual();
    let store = MemoryStore::with_clock(clock.clone()).client(Namespace::default());
    let client = Client::builder().runtime(Handle::current()).clock(clock.clone()).build(store);
    let mut held = Vec::new();
    for number in 0..LOCKS {
        let lock = SimpleLock::new(format!("job/{number}"), &client).unwrap();
        held.push(lock.lock_with(options().watchdog(false)).await.unwrap());
    }
    let first = held[0].lost();
    let left = tokio::spawn(async move {
        first.await;
        timers(&client)
    });
    until_idle().await;
    clock.advance(TTL);
    assert!(left.await.unwrap() > 0, "the first loss is seen after the last timer");
}
