//! A queue as others see it, and a holder that ends its work before it stops.
//!
//! `cargo run -p rlock-examples --bin watched_queue`. It needs no server: the lock is in a temporary file, or in the store
//! at `RLOCK_URL`. One client holds the lock of a printer, two wait for it, and one watches. The waiters know their
//! places. The holder drains: it takes no new lock, ends its work, and then stops. The program prints what each sees.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::{Stream, StreamExt as _};
use rlock::{BackendError, LockOptions, QueuePlace, SimpleLock, Snapshot};
use rlock_examples::Store;
use tokio::sync::oneshot;
use tokio::time::sleep;

const PRINTER: &str = "printer";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::open();
    let watcher = rlock::connect(store.url()).await?;
    let mut states = SimpleLock::new(PRINTER, &watcher)?.watch();
    wait_for(&mut states, 0, 0).await?;

    let holder = rlock::connect(store.url()).await?;
    let lock = SimpleLock::new(PRINTER, &holder)?;
    let (finish, finished) = oneshot::channel::<()>();
    let printing = tokio::spawn(lock.lock().await?.run(finished));
    wait_for(&mut states, 1, 0).await?;

    let mut waiters = Vec::new();
    for number in 1..=2 {
        let client = rlock::connect(store.url()).await?;
        let place = QueuePlace::new();
        let options = LockOptions::new().queue_place(&place);
        waiters.push(tokio::spawn(async move {
            SimpleLock::new(PRINTER, &client)?.lock_with(options).await?.unlock().await?;
            anyhow::Ok(())
        }));
        while place.ahead().is_none() {
            sleep(Duration::from_millis(10)).await; // it has not joined the queue yet
        }
        println!("waiter {number}: {} in front", place.ahead().context("it waits")?);
    }
    wait_for(&mut states, 1, 2).await?;

    let draining = tokio::spawn(async move { holder.drain(Duration::from_secs(60), Duration::from_secs(5)).await });
    while lock.try_lock().await.is_ok() {
        sleep(Duration::from_millis(10)).await; // it has not begun to drain yet
    }
    println!("the holder takes no new lock, and its work goes on: {}", !printing.is_finished());
    finish.send(()).ok().context("the work goes on")?;
    printing.await???;
    draining.await??;
    println!("the holder has ended its work and stopped");
    for waiter in waiters {
        waiter.await??;
    }
    wait_for(&mut states, 0, 0).await
}

/// Watches until the lock has this number of holders and of waiters.
async fn wait_for(
    states: &mut (impl Stream<Item = Result<Snapshot, BackendError>> + Unpin),
    holders: usize,
    waiters: usize,
) -> anyhow::Result<()> {
    loop {
        let state = states.next().await.context("the client lives")??;
        if (state.holders.len(), state.queue.len()) == (holders, waiters) {
            println!("watcher: {holders} hold, {waiters} wait");
            return Ok(());
        }
    }
}
