//! Sets, elections, work and drains that a shutdown interrupts, on virtual time.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use rlock_core::{Client, Election, LockError, LockSet, LossReason, Lost, RunError, ShutdownError, SimpleLock};
use tokio::time::timeout;

use support::{TTL, World, options, until_idle};

const LONG: Duration = Duration::from_secs(600);

fn pair(client: &Client) -> LockSet {
    LockSet::new(client).mutex("a").unwrap().mutex("b").unwrap()
}

async fn is_free(client: &Client, resource: &str) -> bool {
    client.inspect(resource).await.unwrap().is_free()
}

/// Work that never ends, and a reference beside the one that the work has until its drop.
fn endless() -> (Arc<()>, impl Future<Output = ()>) {
    let kept = Arc::new(());
    let inside = kept.clone();
    let work = async move {
        let _inside = inside;
        std::future::pending::<()>().await;
    };
    (kept, work)
}

/// Runs `face` beside a shutdown of the client, and returns its output.
async fn interrupted<F: Future>(client: &Client, face: F) -> F::Output {
    let ending = async {
        until_idle().await;
        client.shutdown(TTL).await
    };
    let both = async { tokio::join!(face, ending) };
    let (output, ended): (F::Output, Result<(), ShutdownError>) =
        timeout(TTL, both).await.expect("the shutdown ends it");
    ended.unwrap();
    output
}

#[tokio::test(start_paused = true)]
async fn waiting_set_ends_with_its_client() {
    let world = World::new();
    let other = world.other_client();
    let held = SimpleLock::new("b", &other).unwrap().lock().await.unwrap();
    let set = pair(&world.client);
    let mut locking = Box::pin(set.lock());
    for _ in 0..3 {
        assert!(poll!(&mut locking).is_pending());
        until_idle().await;
    }
    assert!(!is_free(&other, "a").await);
    let refused = interrupted(&world.client, locking).await;
    assert!(matches!(refused, Err(LockError::Closed { .. })), "{refused:?}");
    held.unlock().await.unwrap();
    assert!(is_free(&other, "a").await && is_free(&other, "b").await);
}

#[tokio::test(start_paused = true)]
async fn work_of_a_set_ends_with_its_client() {
    let world = World::new();
    let guard = pair(&world.client).lock().await.unwrap();
    let (token, (kept, work)) = (guard.cancellation_token(), endless());
    let lost = interrupted(&world.client, guard.run(work)).await.unwrap_err();
    assert_eq!(lost.reason, LossReason::Shutdown);
    assert_eq!(Arc::strong_count(&kept), 1, "the work was dropped");
    timeout(TTL, token.cancelled()).await.expect("the token is cancelled");
    let other = world.other_client();
    assert!(is_free(&other, "a").await && is_free(&other, "b").await);
}

#[tokio::test(start_paused = true)]
async fn tried_work_ends_with_its_client() {
    let world = World::new();
    let (kept, work) = endless();
    let ran = interrupted(&world.client, world.lock("job").try_run(work)).await;
    assert!(matches!(ran, Err(RunError::Lost(Lost { reason: LossReason::Shutdown, .. }))), "{ran:?}");
    assert_eq!(Arc::strong_count(&kept), 1, "the work was dropped");
}

#[tokio::test(start_paused = true)]
async fn campaign_ends_with_its_client() {
    let world = World::new();
    let other = Election::new("scheduler", &world.other_client()).unwrap();
    let _leadership = other.campaign("other").await.unwrap();
    let election = Election::new("scheduler", &world.client).unwrap();
    let refused = interrupted(&world.client, election.campaign("one")).await;
    assert!(matches!(refused, Err(LockError::Closed { .. })), "{refused:?}");
    assert_eq!(world.other_client().inspect("scheduler").await.unwrap().queue, []);
}

#[tokio::test(start_paused = true)]
async fn term_ends_with_its_client() {
    let world = World::new();
    let election = Election::new("scheduler", &world.client).unwrap();
    let (kept, work) = endless();
    let mut work = Some(work);
    let leading = election.lead("one", options(), |_| work.take().expect("there is one term"));
    let led = interrupted(&world.client, leading).await;
    assert!(matches!(led, Err(LockError::Closed { .. })), "{led:?}");
    assert_eq!(Arc::strong_count(&kept), 1, "the term was dropped");
    assert!(is_free(&world.other_client(), "scheduler").await);
}

#[tokio::test(start_paused = true)]
async fn drain_ends_with_a_shutdown() {
    let world = World::new();
    let guard = world.lock("job").lock_with(options()).await.unwrap();
    interrupted(&world.client, world.client.drain(LONG, TTL)).await.unwrap();
    assert_eq!(guard.loss(), Some(LossReason::Shutdown));
}
