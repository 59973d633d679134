//! Returns from `main` while it holds a lock: the last drop releases the lock before the process ends.
//!
//! `cargo run -p rlock-examples --bin early_return` works until its input ends (Ctrl-D) and returns at the end of
//! `main`. With the argument `fail`, the work fails and `main` returns by `?`. The lock is in a temporary file, or in
//! the store at `RLOCK_URL`, where the next run finds it free at once. A program that calls `std::process::exit`
//! instead drops nothing, and leaves the lock to its TTL.

use std::io;
use std::time::Duration;

use rlock::{Client, SimpleLock};
use rlock_examples::Store;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::open();
    // The last drop waits for 10 s at most. If the store answers, it takes milliseconds.
    let builder = Client::builder().drop_timeout(Duration::from_secs(10));
    let client = rlock::connect_with(store.url(), builder).await?;
    let lock = SimpleLock::new("early-return", &client)?;
    let guard = lock.lock().await?;
    println!("held with token {}", guard.token());
    work()?;
    Ok(())
}

fn work() -> anyhow::Result<()> {
    io::read_to_string(io::stdin())?;
    println!("the work has ended");
    anyhow::ensure!(std::env::args().nth(1).is_none_or(|argument| argument != "fail"), "the work fails");
    Ok(())
}
