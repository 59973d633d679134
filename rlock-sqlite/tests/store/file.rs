//! The file: how it is made, and what is refused.

use std::fs;

use rlock_core::{Acquired, Backend as _, BackendError};
use rlock_sqlite::{ConnectError, SqliteBackend, SqliteConfig};
use tempfile::TempDir;

use crate::support::{claim, claim_of, config, is_held, open, refused, sqlite};

#[tokio::test]
async fn many_clients_make_it_at_once() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let opened: Vec<_> = (0..16).map(|_| tokio::spawn(SqliteBackend::connect(config(&path)))).collect();
    let mut backends = Vec::new();
    for opened in opened {
        backends.push(opened.await.unwrap().unwrap());
    }
    let mut held = 0;
    for (backend, id) in backends.iter().zip(1..) {
        held += usize::from(is_held(claim(backend, "x", id).await));
    }
    assert_eq!(held, 1);
}

#[tokio::test]
async fn files_of_others_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    sqlite(&path("other")).execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(open(&path("newer")).await);
    sqlite(&path("newer")).execute_batch("PRAGMA user_version = 4").unwrap();
    fs::write(path("text"), "x".repeat(10_000)).unwrap();
    for (name, said) in [
        ("other", "another program: choose another file"),
        ("newer", "of version 4, and this program knows version 3"),
        ("text", "no file of rlock's"),
        ("text/locks.db", "choose another path"),
    ] {
        let refused = refused(config(&path(name))).await;
        assert!(matches!(refused, ConnectError::Rejected(_)), "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
    }
}

#[test]
fn a_relative_path_survives_a_change_of_folder() {
    let config = SqliteConfig::from_url("sqlite:some/locks.db").unwrap();
    let absolute = std::env::current_dir().unwrap().join("some/locks.db");
    assert_eq!(config.address(), format!("sqlite:{}", absolute.display()));
}

#[tokio::test]
async fn a_large_batch_lets_others_in() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let (one, other) = (open(&path).await, open(&path).await);
    let claims: Vec<_> = (0..20_000).map(|id| claim_of(&format!("x/{id}"), id)).collect();
    let batch = tokio::spawn(async move { one.acquire(&claims).await });
    let mut turns = 0;
    while !batch.is_finished() {
        assert!(is_held(claim(&other, &format!("y/{turns}"), turns).await));
        turns += 1;
    }
    assert!(batch.await.unwrap().iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    // It is done in some eighty transactions.
    assert!(turns > 10, "{turns} turns of another client meanwhile");
}

#[tokio::test]
async fn stopped_writer_costs_nothing_once_it_continues() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let config = config(&path).timeout(std::time::Duration::from_millis(200)).unwrap();
    let backend = SqliteBackend::connect(config).await.unwrap();
    let writer = sqlite(&path);
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = claim(&backend, "x", 1).await.unwrap_err();
    assert!(matches!(refused, BackendError::NotApplied(_)), "{refused}");
    assert!(refused.to_string().contains("another program has the file locked"), "{refused}");
    writer.execute_batch("ROLLBACK").unwrap();
    assert!(is_held(claim(&backend, "x", 1).await));
}
