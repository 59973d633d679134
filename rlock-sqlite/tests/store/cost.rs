//! Rule 12: what an operation writes depends neither on history nor on how many wait.

use std::fs;
use std::path::Path;

use rlock_core::{Acquired, Backend as _, Claim, IfBusy, Release};
use rlock_sqlite::SqliteBackend;
use tempfile::TempDir;

use crate::support::{claim, claim_of, extend, is_held, key, open, release, sqlite};

/// A page in the log, with its header.
const PAGE: u64 = 4096 + 24;
/// The longest log without a long read transaction.
const SHORT: u64 = 4 << 20;

#[tokio::test]
async fn a_free_lock_costs_one_page_an_operation() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let backend = open(&path).await;
    for number in 0..1_000_u32 {
        let name = format!("x/{}", number % 300);
        assert!(matches!(claim(&backend, &name, number.into()).await, Ok(Acquired::Held(_))));
        release(&backend, &name, number.into()).await.unwrap();
    }
    let taken = pages(&path, async || drop(claim(&backend, "x/7", 1).await)).await;
    let extended = pages(&path, async || drop(extend(&backend, "x/7", 1).await)).await;
    let released = pages(&path, async || drop(release(&backend, "x/7", 1).await)).await;
    assert_eq!((taken, extended, released), (1, 1, 1));
}

#[tokio::test]
async fn log_stays_short_however_often_locked() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let clients = [open(&path).await, open(&path).await];
    for _ in 0..1_000 {
        for client in &clients {
            lock_and_unlock(client).await;
        }
    }
    assert!(log(&path) <= SHORT, "{} bytes", log(&path));
}

#[tokio::test]
async fn log_shrinks_after_a_long_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let client = open(&path).await;
    let reader = sqlite(&path);
    reader.execute_batch("BEGIN; SELECT count(*) FROM resources").unwrap();
    for _ in 0..1_000 {
        lock_and_unlock(&client).await;
    }
    assert!(log(&path) > SHORT, "{} bytes", log(&path));
    reader.execute_batch("COMMIT").unwrap();
    for _ in 0..3 {
        lock_and_unlock(&client).await;
    }
    assert!(log(&path) <= SHORT, "{} bytes", log(&path));
}

async fn lock_and_unlock(client: &SqliteBackend) {
    assert!(is_held(claim(client, "x", 1).await));
    release(client, "x", 1).await.unwrap();
}

#[tokio::test]
async fn a_refused_claim_writes_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let backend = open(&path).await;
    claim(&backend, "x", 1).await.unwrap();
    let refused = Claim { if_busy: IfBusy::Refuse, ..claim_of("x", 2) };
    let written = pages(&path, async || drop(backend.acquire(std::slice::from_ref(&refused)).await)).await;
    assert_eq!(written, 0);
}

#[tokio::test]
async fn long_queue_costs_what_a_short_one_does() {
    let folder = TempDir::new().unwrap();
    let (few, many) = (folder.path().join("few.db"), folder.path().join("many.db"));
    let (few, many) = (in_queue(&few, 10).await, in_queue(&many, 3_000).await);
    for ((what, few), (_, many)) in few.iter().zip(&many) {
        // The trees of the tables have grown by a level.
        assert!(*many <= few + 4, "{what} writes {few} pages beside 10 waiters and {many} beside 3,000");
    }
}

#[tokio::test]
async fn place_is_exact_up_to_a_hundred() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder.path().join("locks.db")).await;
    let claims: Vec<_> = (0..300).map(|id| claim_of(if id % 2 == 0 { "x" } else { "y" }, id)).collect();
    let answers = backend.acquire(&claims).await;
    let of_waiters_of_x = answers.iter().step_by(2).skip(1);
    for (in_front, answer) in (0..).zip(of_waiters_of_x) {
        let Ok(Acquired::Queued(place)) = answer else { panic!("{answer:?}") };
        let is_right = if in_front <= 100 { place.ahead == in_front } else { place.ahead >= in_front };
        assert!(is_right, "{} in front, and not {in_front}", place.ahead);
    }
}

async fn in_queue(path: &Path, waiters: u128) -> Vec<(&'static str, u64)> {
    let backend = open(path).await;
    let claims: Vec<_> = (1..=waiters).map(|id| claim_of("x", id)).collect();
    backend.acquire(&claims).await;
    let last = waiters;
    vec![
        ("a try", pages(path, async || try_claim(&backend).await).await),
        ("joining the queue", pages(path, async || drop(claim(&backend, "x", last + 1).await)).await),
        ("extending a waiter", pages(path, async || drop(extend(&backend, "x", last).await)).await),
        ("leaving the queue", pages(path, async || drop(release(&backend, "x", last).await)).await),
        ("extending the holder", pages(path, async || drop(extend(&backend, "x", 1).await)).await),
        ("a hand-over", pages(path, async || drop(release(&backend, "x", 1).await)).await),
    ]
}

async fn try_claim(backend: &SqliteBackend) {
    let claim = Claim { if_busy: IfBusy::Refuse, ..claim_of("x", u128::MAX) };
    assert!(matches!(backend.acquire(&[claim]).await[0], Ok(Acquired::Busy)));
    backend.release(&[Release::from(key("x", u128::MAX))]).await;
}

/// The pages that `act` writes, as the log grows by them.
async fn pages(path: &Path, act: impl AsyncFnOnce()) -> u64 {
    // The log is started anew, so that it does not turn round meanwhile.
    sqlite(path).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    act().await;
    log(path) / PAGE
}

/// The bytes in the log.
fn log(path: &Path) -> u64 {
    fs::metadata(format!("{}-wal", path.display())).unwrap().len()
}
