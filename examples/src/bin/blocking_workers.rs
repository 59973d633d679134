//! Threads without a runtime that share a pool of permits.
//!
//! `cargo run -p rlock-examples --bin blocking_workers`. It needs no server: the permits are in a temporary file, or in
//! the store at `RLOCK_URL`. Six threads work, two at a time, and print how many worked together.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use rlock::blocking::{Semaphore, connect};
use rlock_examples::Store;

const PERMITS: u32 = 2;

fn main() -> anyhow::Result<()> {
    let store = Store::open();
    let client = connect(store.url())?;
    let pool = Semaphore::new("pool", PERMITS, &client)?;
    let (working, most) = (AtomicU32::new(0), AtomicU32::new(0));
    let work = |number: u32| -> anyhow::Result<()> {
        let permit = pool.acquire()?;
        let together = working.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(together, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(20)); // the work
        permit.check()?;
        working.fetch_sub(1, Ordering::SeqCst);
        println!("worker {number}: done");
        Ok(permit.unlock()?)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (1..=6).map(|number| scope.spawn(move || work(number))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("it does not panic"))
    })?;
    let most = most.into_inner();
    println!("at most {most} worked at a time");
    ensure!(most <= PERMITS, "more than there are permits");
    Ok(())
}
