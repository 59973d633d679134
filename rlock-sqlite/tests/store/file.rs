//! The file: who may read it, and what happens to it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rlock_core::{
    Acquired, Backend as _, BackendError, Claim, Client, IfBusy, LeaseId, LeaseKey, LossReason, Owner, ResourceName,
    Share, SimpleLock, Ttl,
};
use rlock_sqlite::{ConnectError, SqliteBackend, SqliteConfig};
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tempfile::TempDir;

#[tokio::test]
async fn it_is_made_for_the_user_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a/b/locks.db");
    let backend = open(&path).await;
    assert!(matches!(claim(&backend, "x", 1).await, Ok(Acquired::Held(_))));
    let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("a"), mode("a/b")), (0o700, 0o700));
    for file in ["locks.db", "locks.db-wal", "locks.db-shm", "locks.db-turn", "locks.db-next"] {
        assert_eq!(mode(&format!("a/b/{file}")), 0o600, "{file}");
    }
}

#[tokio::test]
async fn many_make_it_at_once() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let opened: Vec<_> =
        (0..16).map(|_| tokio::spawn(SqliteBackend::connect(SqliteConfig::at(&path).unwrap()))).collect();
    let mut backends = Vec::new();
    for opened in opened {
        backends.push(opened.await.unwrap().unwrap());
    }
    let mut held = 0;
    for (backend, id) in backends.iter().zip(1..) {
        held += usize::from(matches!(claim(backend, "x", id).await, Ok(Acquired::Held(_))));
    }
    assert_eq!(held, 1);
}

#[tokio::test]
async fn whoever_held_something_before_the_host_was_started_does_not_any_more() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let before = open(&path).await;
    assert!(matches!(claim(&before, "x", 1).await, Ok(Acquired::Held(_))));
    drop(before);
    let mut file = sqlite(&path).await;
    // Whose clock showed more, and where another file had come in the place of a deleted one.
    file.execute("UPDATE state SET boot = 'another one', opens = 1 << 60").await.unwrap();
    let after = open(&path).await;
    assert!(matches!(claim(&after, "x", 2).await, Ok(Acquired::Held(_))));
}

#[tokio::test]
async fn files_that_are_not_its_own_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    sqlite(&path("other")).await.execute("CREATE TABLE theirs (x)").await.unwrap();
    drop(open(&path("newer")).await);
    sqlite(&path("newer")).await.execute("PRAGMA user_version = 2").await.unwrap();
    fs::write(path("text"), "x".repeat(10_000)).unwrap();
    for (name, said) in [
        ("other", "another program's: choose another file"),
        ("newer", "of version 2, and this program knows version 1"),
        ("text", "no file of rlock's"),
        ("text/locks.db", "choose another place"),
    ] {
        let refused = SqliteBackend::connect(SqliteConfig::at(path(name)).unwrap()).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Rejected(_)), "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
    }
}

#[tokio::test]
async fn a_lock_in_a_file_that_is_deleted_is_lost_before_somebody_else_has_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let client = Client::builder().connect(SqliteBackend::connect(SqliteConfig::at(&path).unwrap())).await.unwrap();
    let guard = SimpleLock::new("x", &client).unwrap().lock().await.unwrap();
    let other = open(&path).await;
    for suffix in ["", "-wal", "-shm"] {
        let _may_be_gone = fs::remove_file(format!("{}{suffix}", path.display()));
    }
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
    let ((lost, lost_at), (grant, granted_at)) = tokio::join!(lost, granted);
    assert!(lost_at < granted_at, "it was lost {:?} after somebody else had it", lost_at - granted_at);
    assert_eq!(lost, LossReason::Gone);
    assert!(grant.token > guard.token());
}

#[tokio::test]
async fn a_writer_that_stands_still_costs_nothing_once_it_goes_on() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let config = SqliteConfig::at(&path).unwrap().timeout(Duration::from_millis(200)).unwrap();
    let backend = SqliteBackend::connect(config).await.unwrap();
    let mut writer = sqlite(&path).await;
    writer.execute("BEGIN IMMEDIATE").await.unwrap();
    let refused = claim(&backend, "x", 1).await.unwrap_err();
    assert!(matches!(refused, BackendError::NotApplied(_)), "{refused}");
    assert!(refused.to_string().contains("another program has the file locked"), "{refused}");
    writer.execute("ROLLBACK").await.unwrap();
    assert!(matches!(claim(&backend, "x", 1).await, Ok(Acquired::Held(_))));
}

#[tokio::test]
async fn whoever_gave_up_waiting_to_write_does_not_keep_others_from_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let other = open(&path).await;
    let config = SqliteConfig::at(&path).unwrap().timeout(Duration::from_millis(200)).unwrap();
    let impatient = SqliteBackend::connect(config).await.unwrap();
    let writer = fs::File::open(folder.path().join("locks.db-turn")).unwrap();
    writer.lock().unwrap();
    assert!(matches!(claim(&impatient, "x", 1).await, Ok(Acquired::Held(_))), "it goes on without its turn");
    writer.unlock().unwrap();
    // The turn comes to it now, though it has nothing to write any more.
    let begun = Instant::now();
    assert!(matches!(claim(&other, "y", 2).await, Ok(Acquired::Held(_))));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_large_batch_lets_others_in() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let (one, other) = (open(&path).await, open(&path).await);
    let claims: Vec<_> = (0..5_000).map(|id| claim_of(&format!("x/{id}"), id)).collect();
    let batch = tokio::spawn(async move { one.acquire(&claims).await });
    let mut turns = 0;
    while !batch.is_finished() {
        assert!(matches!(claim(&other, &format!("y/{turns}"), turns).await, Ok(Acquired::Held(_))));
        turns += 1;
    }
    assert!(batch.await.unwrap().iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    // It is done in some twenty transactions.
    assert!(turns > 10, "{turns} turns of somebody else's meanwhile");
}

async fn open(path: &Path) -> SqliteBackend {
    SqliteBackend::connect(SqliteConfig::at(path).unwrap()).await.unwrap()
}

async fn sqlite(path: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite:{}?mode=rwc", path.display())).await.unwrap()
}

fn key(name: &str, id: u128) -> LeaseKey {
    LeaseKey { resource: ResourceName::new(name).unwrap(), id: LeaseId::from_u128(id) }
}

fn claim_of(name: &str, id: u128) -> Claim {
    let ttl = Ttl::new(Duration::from_secs(30)).unwrap();
    let owner = Arc::new(Owner::current());
    Claim { key: key(name, id), share: Share::EXCLUSIVE, ttl, if_busy: IfBusy::Queue, owner, data: None }
}

async fn claim(backend: &SqliteBackend, name: &str, id: u128) -> Result<Acquired, BackendError> {
    backend.acquire(&[claim_of(name, id)]).await.remove(0)
}
