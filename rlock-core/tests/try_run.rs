//! Work that runs under a lock if the lock is free, on virtual time.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::poll;
use rlock_core::{
    Client, InvalidConfig, LockError, LockOptions, LossReason, Lost, RunError, RwLock, Semaphore, SimpleLock,
};

use support::{Fate, Verb, World, options, until_idle};

fn mutex(client: &Client) -> SimpleLock {
    SimpleLock::new("job", client).unwrap()
}

#[tokio::test(start_paused = true)]
async fn work_runs_under_the_lock() {
    let world = World::new();
    let rival = mutex(&world.other_client());
    let ran = mutex(&world.client).try_run(async { rival.try_lock().await.unwrap().is_none() }).await.unwrap();
    assert_eq!(ran, Some(true), "the rival is refused meanwhile");
    assert!(rival.try_lock().await.unwrap().is_some(), "it is free again");
    assert_eq!(world.client.open_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn work_is_unpolled_while_others_hold_the_lock() {
    let world = World::new();
    let _held = mutex(&world.other_client()).lock().await.unwrap();
    let refused = mutex(&world.client).try_run(async { unreachable!("it is not polled") }).await;
    assert!(matches!(refused, Ok(None::<()>)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn work_outlives_the_ttl_under_the_lock() {
    let world = World::new();
    let work = tokio::time::sleep(Duration::from_secs(300));
    assert!(matches!(mutex(&world.client).try_run_with(options(), work).await, Ok(Some(()))));
}

#[tokio::test(start_paused = true)]
async fn a_loss_drops_the_work() {
    let world = World::new();
    let working = Arc::new(());
    let (kept, lock) = (working.clone(), mutex(&world.client));
    let mut run = Box::pin(lock.try_run(async move {
        let _kept = kept;
        std::future::pending::<()>().await;
    }));
    assert!(poll!(&mut run).is_pending());
    until_idle().await;
    assert!(poll!(&mut run).is_pending());
    assert_eq!(Arc::strong_count(&working), 2, "the work has begun");
    world.other_client().break_leases("job").await.unwrap();
    let lost = run.await.unwrap_err();
    assert!(matches!(&lost, RunError::Lost(Lost { reason: LossReason::Broken, .. })), "{lost}");
    assert!(lost.is_lost() && !lost.is_unavailable());
    assert_eq!(Arc::strong_count(&working), 1, "the work was dropped");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_drops_the_work_and_releases() {
    let world = World::new();
    let working = Arc::new(());
    let (kept, lock) = (working.clone(), mutex(&world.client));
    let run = tokio::spawn(async move {
        lock.try_run(async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        })
        .await
    });
    let rival = mutex(&world.other_client());
    until_idle().await;
    assert!(rival.try_lock().await.unwrap().is_none());
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    assert_eq!(Arc::strong_count(&working), 1, "the work was dropped");
    until_idle().await;
    assert!(rival.try_lock().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn no_work_begins_when_the_store_fails() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::Failed);
    let failed = mutex(&world.client).try_run(async { unreachable!("it is not polled") }).await;
    let failed: RunError = failed.map(|_: Option<()>| ()).unwrap_err();
    assert!(failed.is_unavailable() && !failed.is_lost(), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn a_try_with_a_wait_is_refused() {
    let world = World::new();
    let waiting = LockOptions::new().wait(Duration::from_secs(1));
    let refused = mutex(&world.client).try_run_with(waiting, async {}).await.unwrap_err();
    let why = InvalidConfig::TryWithWait { wait: Duration::from_secs(1) };
    assert!(matches!(&refused, RunError::Lock(LockError::InvalidConfig(error)) if *error == why), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn readers_run_together_and_a_writer_alone() {
    let world = World::new();
    let lock = RwLock::new("table", &world.client).unwrap();
    let both = lock.try_run_read(async {
        let reader = lock.try_run_read_with(options(), async { "read" }).await.unwrap();
        let writer = lock.try_run_write(async { "written" }).await.unwrap();
        (reader, writer)
    });
    assert_eq!(both.await.unwrap(), Some((Some("read"), None)));
    let alone = lock.try_run_write_with(options(), async {
        let reader = lock.try_run_read(async { "read" }).await.unwrap();
        let writer = lock.try_run_write(async { "written" }).await.unwrap();
        (reader, writer)
    });
    assert_eq!(alone.await.unwrap(), Some((None, None)));
    assert_eq!(world.client.open_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn work_takes_the_permits_it_asks_for() {
    let world = World::new();
    let semaphore = Semaphore::new("pool", 3, &world.client).unwrap();
    let running = AtomicU32::new(0);
    let count = async || running.fetch_add(1, Ordering::Relaxed);
    let nested = semaphore.try_run(async {
        semaphore.try_run_many_with(2, options(), async { semaphore.try_run(count()).await.unwrap() }).await.unwrap()
    });
    assert_eq!(nested.await.unwrap(), Some(Some(None)), "three permits, and none for a fourth");
    assert_eq!(running.load(Ordering::Relaxed), 0);
    let labelled = semaphore.try_run_with(options().label("one"), async {
        let holders = semaphore.holders().await.unwrap();
        holders.iter().map(|holder| (holder.weight, holder.owner.label() == Some("one"))).collect::<Vec<_>>()
    });
    assert_eq!(labelled.await.unwrap(), Some(vec![(1, true)]));
    let too_many = semaphore.try_run_many_with(4, options(), async {}).await.unwrap_err();
    assert!(matches!(too_many, RunError::Lock(LockError::InvalidConfig(InvalidConfig::Share(_)))), "{too_many}");
}
