//! The order of one client's waiters, on virtual time.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rlock_core::SimpleLock;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use support::{Fate, Verb, World, options, until_idle};

const SECOND: Duration = Duration::from_secs(1);

/// The waiters in the order in which they were granted.
type Granted = Arc<Mutex<Vec<usize>>>;

/// Waits for "job" in a new task, notes the grant, and releases.
fn take_turn(number: usize, world: &World, granted: &Granted) -> JoinHandle<()> {
    let (lock, granted) = (world.lock("job"), granted.clone());
    tokio::spawn(async move {
        let guard = lock.lock_with(options()).await.unwrap();
        granted.lock().unwrap().push(number);
        guard.unlock().await.unwrap();
    })
}

/// The claims travel in several calls at a time, in batches and alone.
#[tokio::test(start_paused = true)]
async fn waiters_are_granted_as_they_asked() {
    let world = World::new();
    let held = SimpleLock::new("job", &world.other_client()).unwrap().lock_with(options()).await.unwrap();
    world.script.decide(Verb::Acquire, Fate::AnsweredLate(SECOND));
    let granted = Granted::default();
    let mut tasks = Vec::new();
    for number in 0..600 {
        tasks.push(take_turn(number, &world, &granted));
        if number % 100 == 0 {
            until_idle().await;
        }
    }
    sleep(10 * SECOND).await;
    let sizes = world.script.sizes(Verb::Acquire);
    assert!(sizes.len() > 1 && sizes.iter().any(|size| *size > 1), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 600, "no claim was repeated");
    held.unlock().await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(granted.lock().unwrap().iter().copied().eq(0..600), "{granted:?}");
}

/// A store with several sessions may take the second of two calls under way first.
#[tokio::test(start_paused = true)]
async fn order_is_that_of_the_store() {
    let world = World::new();
    let held = SimpleLock::new("job", &world.other_client()).unwrap().lock_with(options()).await.unwrap();
    let granted = Granted::default();
    world.script.decide(Verb::Acquire, Fate::Delayed(SECOND));
    let first = take_turn(1, &world, &granted);
    until_idle().await;
    world.script.decide(Verb::Acquire, Fate::Answered);
    let second = take_turn(2, &world, &granted);
    sleep(2 * SECOND).await;
    held.unlock().await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(*granted.lock().unwrap(), [2, 1]);
}
