//! A file of SQLite.

use std::time::Duration;

use rlock_testkit::faults::{Control as _, Data};
use rlock_testkit::servers::SqliteFile;
use rusqlite::Connection;

#[tokio::test]
async fn file_is_locked_and_deleted() {
    let file = SqliteFile::start();
    let other = Connection::open(file.path()).unwrap();
    other.busy_timeout(Duration::ZERO).unwrap();
    let write = || other.execute_batch("BEGIN IMMEDIATE; COMMIT");
    write().unwrap();
    file.pause().await;
    file.pause().await;
    assert!(write().is_err());
    file.resume().await;
    write().unwrap();
    file.kill().await;
    file.restart(Data::Lost).await;
    assert!(!file.path().exists());
}

#[tokio::test]
async fn file_at_a_path_outlives_its_value() {
    let file = SqliteFile::start();
    let same = SqliteFile::at(file.path());
    assert_eq!(same.url(), file.url());
    same.pause().await;
    drop(same);
    assert!(file.path().exists());
    file.pause().await; // the lock ended with the value
}
