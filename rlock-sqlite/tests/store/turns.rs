//! Turns at writing, when a process with one stands still.

use std::fs::File;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{claim, is_held, open};

#[tokio::test]
async fn a_turn_that_never_comes_delays_one_request() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let client = open(&path).await;
    for stopped in ["-next", "-turn"] {
        let stopped = File::open(folder.path().join(format!("locks.db{stopped}"))).unwrap();
        stopped.lock().unwrap();
        let begun = Instant::now();
        for id in 0..20 {
            assert!(is_held(claim(&client, &format!("{id} {stopped:?}"), id).await));
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "20 requests took {:?}", begun.elapsed());
        let newcomer = open(&path).await;
        assert!(is_held(claim(&newcomer, &format!("new {stopped:?}"), 1).await));
    }
}

#[tokio::test]
async fn late_turn_is_given_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let (impatient, other) = (open(&path).await, open(&path).await);
    let writer = File::open(folder.path().join("locks.db-turn")).unwrap();
    writer.lock().unwrap();
    assert!(is_held(claim(&impatient, "x", 1).await), "it goes on without its turn");
    writer.unlock().unwrap();
    let begun = Instant::now();
    assert!(is_held(claim(&other, "y", 2).await));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
