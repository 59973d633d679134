//! A second process that waits for the lock of the first, and gets it as soon as the first releases it.
//!
//! `cargo run -p rlock-examples --bin waiting_process`. It needs no server: the lock is in a temporary file, or in the
//! store at `RLOCK_URL`. The first process starts the second one, and both print their steps.

use std::env;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rlock::SimpleLock;
use rlock_examples::Store;

const SECOND_PROCESS: &str = "RLOCK_EXAMPLE_SECOND_PROCESS";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::open();
    let client = rlock::connect(store.url()).await?;
    let lock = SimpleLock::new("nightly-report", &client)?;

    if env::var_os(SECOND_PROCESS).is_some() {
        println!("second: waiting");
        let guard = lock.lock().await?;
        println!("second: my turn, with token {}", guard.token());
        guard.unlock().await?;
        return Ok(());
    }

    let guard = lock.lock().await?;
    println!("first: working, with token {}", guard.token());
    let mut second = Command::new(env::current_exe()?)
        .env("RLOCK_URL", store.url())
        .env(SECOND_PROCESS, "1")
        .stdin(Stdio::null())
        .spawn()?;
    while client.inspect(lock.resource()).await?.queue.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("first: done, {} waits", client.inspect(lock.resource()).await?.queue.len());
    guard.unlock().await?;
    let given_back = Instant::now();
    anyhow::ensure!(second.wait()?.success(), "the second process failed");
    println!("first: the second had its turn within {:?}", given_back.elapsed());
    Ok(())
}
