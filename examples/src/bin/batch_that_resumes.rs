//! A batch job over a large data set that stops at once when its lock is lost, and resumes at the same batch.
//!
//! `cargo run -p rlock-examples --bin batch_that_resumes`. It needs no server: the lock is in a temporary file, or in
//! the store at `RLOCK_URL`. Halfway an operator breaks the lock, as `rlock break` does. The program prints the
//! batches, the one that was dropped in the middle, and that each was done once.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rlock::{Client, LockOptions, SimpleLock, Token};
use rlock_examples::Store;
use tokio::time::sleep;

const BATCHES: u32 = 8;

/// Much longer than it takes to break a lock.
const LONG: Duration = Duration::from_secs(60);

/// The results. They refuse a token older than the newest one that they have seen, as a table does with
/// `UPDATE … WHERE token <= $1`.
#[derive(Debug, Default)]
struct Results {
    done: Vec<u32>,
    newest: Option<Token>,
}

impl Results {
    fn commit(&mut self, batch: u32, token: Token) -> anyhow::Result<()> {
        ensure!(self.newest.is_none_or(|newest| newest <= token), "token {token} is stale");
        self.newest = Some(token);
        self.done.push(batch);
        Ok(())
    }

    fn next(&self) -> u32 {
        self.done.last().map_or(1, |last| last + 1)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::open();
    let client = rlock::connect(store.url()).await?;
    let lock = SimpleLock::new("data-processing", &client)?;
    let options = LockOptions::new().ttl(Duration::from_secs(60)).watchdog_interval(Duration::from_secs(15));
    let mut results = Results::default();
    let mut operator = Some(client.clone());

    while results.next() <= BATCHES {
        let guard = lock.lock_with(options.clone()).await?;
        let token = guard.token();
        println!("begins at batch {} with token {token}", results.next());
        let mut batch = results.next();
        let work = async {
            while batch <= BATCHES {
                if batch == 4
                    && let Some(client) = operator.take()
                {
                    break_it(client);
                    sleep(LONG).await; // the loss of the lock cuts this batch short
                }
                process(batch).await;
                results.commit(batch, token)?;
                println!("batch {batch} is done");
                batch += 1;
            }
            anyhow::Ok(())
        };
        // `run` drops the work as soon as the lock is lost.
        match guard.run(work).await {
            Ok(outcome) => outcome?,
            Err(lost) => println!("batch {batch} was dropped: {lost}"),
        }
    }

    ensure!(results.done == (1..=BATCHES).collect::<Vec<_>>(), "each batch once: {:?}", results.done);
    println!("all {BATCHES} batches are done, each once");
    Ok(())
}

async fn process(_batch: u32) {
    sleep(Duration::from_millis(100)).await;
}

/// Breaks the lock in the middle of a batch, as an operator would.
fn break_it(client: Client) {
    tokio::spawn(async move {
        sleep(Duration::from_millis(30)).await;
        client.break_leases("data-processing").await.context("the operator could not break the lock")
    });
}
