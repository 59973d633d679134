//! A lock that one process takes and another process continues.
//!
//! `cargo run -p rlock-examples --bin handed_over`. It needs no server: the lock is in a temporary file, or in the store
//! at `RLOCK_URL`. The first process takes the lock, and leaves it to a second process by a handle, which is secret and
//! therefore goes through standard input. The second process holds the same lock with the same token, and releases it.

use std::env;
use std::io::{Write as _, read_to_string, stdin};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use rlock::{LockHandle, SimpleLock};
use rlock_examples::Store;

const SECOND_PROCESS: &str = "RLOCK_EXAMPLE_SECOND_PROCESS";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::open();
    let client = rlock::connect(store.url()).await?;
    let lock = SimpleLock::new("deploy", &client)?;

    if env::var_os(SECOND_PROCESS).is_some() {
        let handle: LockHandle = read_to_string(stdin())?.trim_end().parse()?;
        let guard = client.adopt(&handle).await?;
        println!("second: continues, with token {}", guard.token());
        guard.unlock().await?;
        return Ok(());
    }

    let guard = lock.lock().await?;
    println!("first: took the lock, with token {}", guard.token());
    let handle = guard.into_handle()?; // it is held for its TTL, and this process extends it no more
    ensure!(lock.try_lock().await?.is_none(), "the lock was free in between");
    let mut second = Command::new(env::current_exe()?)
        .env("RLOCK_URL", store.url())
        .env(SECOND_PROCESS, "1")
        .stdin(Stdio::piped())
        .spawn()?;
    writeln!(second.stdin.take().context("it was asked for")?, "{handle}")?;
    ensure!(second.wait()?.success(), "the second process failed");
    let next = lock.try_lock().await?.context("the second process has not released the lock")?;
    println!("first: takes the lock again, with token {}", next.token());
    next.unlock().await?;
    Ok(())
}
