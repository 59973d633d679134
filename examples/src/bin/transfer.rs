//! Transfers between accounts, each under the locks of both.
//!
//! `cargo run -p rlock-examples --bin transfer`. It needs no server: the locks are in a temporary file, or in the store
//! at `RLOCK_URL`. Two clerks move money between the same accounts in opposite directions. With two single locks they
//! would deadlock; a `LockSet` takes both locks in one order. The program prints the balances, whose sum stays the
//! same.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use rlock::{Client, LockOptions, LockSet};
use rlock_examples::Store;
use tokio::sync::Mutex;

const TRANSFERS: u32 = 20;

/// Balances that a transfer reads and writes in two steps, as it would in a store without transactions.
type Accounts = Arc<[Mutex<i64>; 2]>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::open();
    let accounts: Accounts = Arc::new([Mutex::new(1000), Mutex::new(1000)]);
    let (one, other) = (rlock::connect(store.url()).await?, rlock::connect(store.url()).await?);
    let clerks = [clerk(one, accounts.clone(), 0, 1, 7), clerk(other, accounts.clone(), 1, 0, 3)];
    let [first, second] = clerks.map(tokio::spawn);
    println!("{}", first.await??);
    println!("{}", second.await??);
    let (left, right) = (*accounts[0].lock().await, *accounts[1].lock().await);
    println!("balances: {left} and {right}, {} together", left + right);
    ensure!((left, right) == (920, 1080), "a transfer was lost");
    Ok(())
}

async fn clerk(client: Client, accounts: Accounts, from: usize, to: usize, amount: i64) -> anyhow::Result<String> {
    // The order in which the names are added does not matter.
    let set = LockSet::new(&client).mutex(format!("account/{from}"))?.mutex(format!("account/{to}"))?;
    for _ in 0..TRANSFERS {
        let guard = set.lock_with(LockOptions::new().wait(Duration::from_secs(60))).await?;
        let transfer = async {
            let (taken, given) = (*accounts[from].lock().await - amount, *accounts[to].lock().await + amount);
            tokio::task::yield_now().await;
            *accounts[from].lock().await = taken;
            *accounts[to].lock().await = given;
        };
        guard.run(transfer).await?;
    }
    Ok(format!("{TRANSFERS} transfers from account {from} to account {to}"))
}
