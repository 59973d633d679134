//! Turns at writing, when a process with one stands still.

use std::fs::File;
use std::time::{Duration, Instant};

use rlock_testkit::wait::eventually;
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
        // A quarter of a second for each request would be 5 s.
        assert!(begun.elapsed() < Duration::from_secs(4), "20 requests took {:?}", begun.elapsed());
        let newcomer = open(&path).await;
        assert!(is_held(claim(&newcomer, &format!("new {stopped:?}"), 1).await));
    }
}

#[tokio::test]
async fn late_turn_is_given_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let (impatient, other) = (open(&path).await, open(&path).await);
    let file = |suffix: &str| File::open(folder.path().join(format!("locks.db{suffix}"))).unwrap();
    let (turn, next) = (file("-turn"), file("-next"));
    turn.lock().unwrap();
    assert!(is_held(claim(&impatient, "x", 1).await), "it goes on without its turn");
    turn.unlock().unwrap();
    // The thread that waits for the turn leaves the queue when it has it.
    for (file, what) in [(&next, "the end of the queue"), (&turn, "the return of the turn")] {
        eventually(Duration::from_secs(10), what, async || is_free(file)).await;
    }
    assert!(is_held(claim(&other, "y", 2).await));
}

/// Whether no process has the file locked.
fn is_free(file: &File) -> bool {
    let is_free = file.try_lock().is_ok();
    if is_free {
        file.unlock().unwrap();
    }
    is_free
}
