//! A file that is deleted, or a part of it, while it is in use.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rlock_core::{Acquired, BackendError, Client, LossReason, SimpleLock};
use rlock_sqlite::SqliteBackend;
use tempfile::TempDir;

use crate::support::{claim, config, is_held, open};

#[tokio::test]
async fn deleted_file_loses_locks_before_the_next_grant() {
    is_lost_first(&["", "-wal", "-shm"]).await;
}

#[tokio::test]
async fn deleted_log_loses_locks_before_the_next_grant() {
    is_lost_first(&["-wal"]).await;
}

/// Nothing is left by which a client could know that a file was there. The holder looks at the file, so that the locks of
/// two clients overlap for far less than a TTL.
#[tokio::test]
async fn deletion_of_all_files_is_a_loss() {
    const TTL: Duration = Duration::from_secs(30); // the default
    let (reason, lost_at, granted_at) = is_lost(&["", "-wal", "-shm", "-turn"]).await;
    assert!(matches!(reason, LossReason::Gone | LossReason::TakenOver), "{reason}");
    let overlap = lost_at.saturating_duration_since(granted_at);
    assert!(overlap < TTL, "two clients had the lock for {overlap:?}");
}

/// There a client looks at the folder alone.
#[tokio::test]
async fn deletion_in_a_quiet_folder_is_noticed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let client = open(&path).await;
    tokio::time::sleep(Duration::from_millis(4_100)).await; // it is quiet after four seconds
    assert!(is_held(claim(&client, "x", 1).await));
    delete(&path, &["-wal"]);
    let refused = claim(&client, "y", 2).await;
    assert!(matches!(refused, Err(BackendError::NotApplied(_))), "{refused:?}");
}

async fn is_lost_first(suffixes: &[&str]) {
    let (reason, lost_at, granted_at) = is_lost(suffixes).await;
    assert_eq!(reason, LossReason::Gone);
    assert!(lost_at < granted_at, "it was lost {:?} after it was granted again", lost_at - granted_at);
}

/// Deletes files under a lock. Returns the reason and the instant of its loss, and the instant of the next grant.
async fn is_lost(suffixes: &[&str]) -> (LossReason, Instant, Instant) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let client = Client::builder().connect(SqliteBackend::connect(config(&path))).await.unwrap();
    let guard = SimpleLock::new("x", &client).unwrap().lock().await.unwrap();
    let other = open(&path).await;
    delete(&path, suffixes);
    let granted = async {
        for id in 2.. {
            match claim(&other, "x", id).await {
                Ok(Acquired::Held(grant)) => return (grant, Instant::now()),
                answer => assert!(matches!(answer, Err(BackendError::NotApplied(_))), "{answer:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        unreachable!("ids do not end")
    };
    let lost = async { (guard.lost().await, Instant::now()) };
    let ((reason, lost_at), (grant, granted_at)) = tokio::join!(lost, granted);
    assert!(grant.token > guard.token());
    (reason, lost_at, granted_at)
}

/// The log has all that was in the memory that clients share.
#[tokio::test]
async fn a_deleted_index_of_the_log_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let client = Client::builder().connect(SqliteBackend::connect(config(&path))).await.unwrap();
    let guard = SimpleLock::new("x", &client).unwrap().lock().await.unwrap();
    delete(&path, &["-shm"]);
    guard.extend(Duration::from_secs(60)).await.unwrap();
    let other = open(&path).await;
    tokio::time::sleep(Duration::from_secs(1)).await; // the grace
    assert!(matches!(claim(&other, "x", 2).await, Ok(Acquired::Queued(_))));
    assert!(guard.is_held());
    guard.unlock().await.unwrap();
}

fn delete(path: &Path, suffixes: &[&str]) {
    for suffix in suffixes {
        fs::remove_file(format!("{}{suffix}", path.display())).unwrap();
    }
}
