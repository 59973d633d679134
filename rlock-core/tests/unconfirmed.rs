//! Releases that the store does not answer, on virtual time.

mod support;

use std::time::Duration;

use rlock_core::Guard;
use tokio::time::{sleep, timeout};

use support::{Fate, Verb, World, options, until_idle};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Locks whose leases outlive the outages of these tests.
async fn locks(count: usize, world: &World) -> Vec<Guard> {
    let mut guards = Vec::new();
    for number in 0..count {
        guards.push(world.lock(&format!("job {number}")).lock_with(options().ttl(12 * HOUR)).await.unwrap());
    }
    guards
}

/// The number of releases that the store has received.
fn releases(world: &World) -> usize {
    world.script.sizes(Verb::Release).iter().sum()
}

#[tokio::test(start_paused = true)]
async fn hung_releases_delay_no_others() {
    let world = World::new();
    let job = world.lock("job").lock_with(options()).await.unwrap();
    let hung = locks(200, &world).await;
    world.script.decide(Verb::Release, Fate::Hangs);
    for guard in hung {
        drop(guard);
        until_idle().await; // a call for each, until the window is full
    }
    assert!(world.script.sizes(Verb::Release).len() > 1, "they hang in one call");
    world.script.decide(Verb::Release, Fate::Answered);
    timeout(3 * SECOND, job.unlock()).await.expect("it does not wait for the others").unwrap();
}

#[tokio::test(start_paused = true)]
async fn releases_pause_longer_in_a_long_outage() {
    let world = World::new();
    let guards = locks(1, &world).await;
    world.script.decide(Verb::Release, Fate::Failed);
    drop(guards);
    sleep(60 * SECOND).await;
    let at_first = releases(&world);
    assert!(at_first >= 15, "{at_first} releases in the first minute");
    sleep(HOUR - 60 * SECOND).await;
    assert!(releases(&world) < 250, "{} releases in an hour", releases(&world));
    world.script.decide(Verb::Release, Fate::Answered);
    sleep(2 * 60 * SECOND).await;
    assert_eq!(world.client.open_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn releases_are_spread_after_a_long_outage() {
    let world = World::new();
    let guards = locks(400, &world).await;
    world.script.decide(Verb::Release, Fate::Failed);
    drop(guards);
    sleep(HOUR).await;
    world.script.decide(Verb::Release, Fate::Answered);
    let mut most = 0;
    for _ in 0..60 {
        let before = releases(&world);
        sleep(SECOND).await;
        most = most.max(releases(&world) - before);
    }
    assert_eq!(world.client.open_leases(), 0);
    assert!(most < 100, "{most} of 400 releases in one second");
}
