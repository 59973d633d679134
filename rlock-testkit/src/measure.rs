//! What benches measure by: a lock beside the writes that it cannot do without, in one run.

use std::time::{Duration, Instant};

use rlock_core::{Client, Guard, SimpleLock};

/// How long something takes.
pub async fn timed<T>(act: impl Future<Output = T>) -> Duration {
    let begun = Instant::now();
    act.await;
    begun.elapsed()
}

/// The one in the middle, and of two the longer.
///
/// # Panics
///
/// Panics if there is none.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// How many times the other one it is.
pub fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

/// Takes a lock and gives it back.
///
/// # Panics
///
/// Panics if the store fails.
pub async fn cycle(client: &Client, name: &str) {
    lock(client, name).await.unlock().await.expect("it is held");
}

/// From the moment that `one` begins to unlock to the moment that `other`, which waits for that, has its turn.
///
/// # Panics
///
/// Panics if the store fails.
pub async fn hand_over(one: &Client, other: &Client) -> Duration {
    const TURNS: &str = "turns";

    let guard = lock(one, TURNS).await;
    let other = other.clone();
    let waiting = tokio::spawn(async move {
        let guard = lock(&other, TURNS).await;
        (Instant::now(), guard)
    });
    while one.inspect(guard.resource()).await.expect("the store answers").queue.is_empty() {}
    let begun = Instant::now();
    let (unlocked, waited) = tokio::join!(guard.unlock(), waiting);
    unlocked.expect("it is held");
    let (turn, guard) = waited.expect("it does not panic");
    guard.unlock().await.expect("it is held");
    turn - begun
}

async fn lock(client: &Client, name: &str) -> Guard {
    SimpleLock::new(name, client).expect("a good name").lock().await.expect("it can be had")
}
