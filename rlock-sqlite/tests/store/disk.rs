//! Disks that are full, and that cannot be written to: each a file system in memory, which no other process sees.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rlock_core::{BackendError, Client, Extended, Guard, LockOptions, LossReason, SimpleLock};
use rlock_sqlite::{ConnectError, SqliteBackend, SqliteConfig};
use rlock_testkit::process::block_on;
use rlock_testkit::wait::{eventually, within};
use tempfile::TempDir;

use crate::support::{claim, extend, is_held};

const DISK: &str = "RLOCK_TEST_DISK";
const SOON: Duration = Duration::from_secs(30);

#[test]
fn short_lack_of_space_loses_no_lock() {
    let Some(disk) = on_a_disk_of_its_own("short_lack_of_space_loses_no_lock") else { return };
    block_on(async {
        let backend = SqliteBackend::connect(config(&disk)).await.unwrap();
        assert!(is_held(claim(&backend, "held", 1).await));
        let filler = disk.join("filler");
        fill(&filler);
        let refused = refusal(&backend, "held").await;
        assert!(matches!(refused, BackendError::NotApplied(_)), "{refused}");
        assert!(refused.to_string().contains("the disk is full; make room on it"), "{refused}");
        fs::remove_file(filler).unwrap();
        let extended = extend(&backend, "held", 1).await;
        assert!(matches!(extended, Ok(Extended::Held(_))), "{extended:?}");
        assert!(is_held(claim(&backend, "another", 2).await));
    });
}

/// No renewal has room, so the holder loses its lock at its deadline. The waiter gets it once there is room.
#[test]
fn full_disk_loses_locks_at_their_deadlines() {
    let Some(disk) = on_a_disk_of_its_own("full_disk_loses_locks_at_their_deadlines") else { return };
    block_on(async {
        let (holder, other) = (client(&disk).await, client(&disk).await);
        let backend = SqliteBackend::connect(config(&disk)).await.unwrap();
        assert!(is_held(claim(&backend, "another", 1).await));
        let old = lock(&holder, Duration::from_secs(4)).await;
        let waiting = tokio::spawn(async move { lock(&other, SOON).await });
        let is_queued = async || holder.inspect("job").await.unwrap().queue.len() == 1;
        eventually(SOON, "the waiter", is_queued).await;
        let filler = disk.join("filler");
        fill(&filler);
        refusal(&backend, "another").await; // from here on, nothing can be written
        assert_eq!(within(SOON, "the loss", old.lost()).await, LossReason::Expired);
        assert!(!waiting.is_finished(), "the lock was granted without a write");
        fs::remove_file(filler).unwrap();
        let next = within(SOON, "the waiter's turn", waiting).await.unwrap();
        assert!(next.is_held() && next.token() > old.token());
    });
}

#[test]
fn full_disk_refuses_a_new_file() {
    let Some(disk) = on_a_disk_of_its_own("full_disk_refuses_a_new_file") else { return };
    block_on(async {
        fill(&disk.join("filler"));
        let refused = SqliteBackend::connect(config(&disk)).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Unreachable(_)), "{refused}");
        assert!(refused.to_string().contains("make room on"), "{refused}");
    });
}

#[test]
fn read_only_disk_is_refused() {
    let Some(disk) = on_a_disk_of_its_own("read_only_disk_is_refused") else { return };
    block_on(async {
        let backend = SqliteBackend::connect(config(&disk)).await.unwrap();
        assert!(is_held(claim(&backend, "held", 1).await));
        drop(backend);
        // The file is closed in the background.
        let is_remounted =
            async || Command::new("mount").args(["-o", "remount,ro"]).arg(&disk).output().unwrap().status.success();
        eventually(Duration::from_secs(10), "the disk can be mounted for reading alone", is_remounted).await;
        let refused = SqliteBackend::connect(config(&disk)).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Rejected(_)), "{refused}");
        assert!(refused.to_string().contains("choose a path that can be written to"), "{refused}");
    });
}

/// Starts this test again where it has a small disk of its own, and returns the disk there.
fn on_a_disk_of_its_own(test: &str) -> Option<PathBuf> {
    if let Some(disk) = std::env::var_os(DISK) {
        return Some(disk.into());
    }
    let folder = TempDir::new().unwrap();
    let (_, module) = module_path!().split_once("::").unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=1m none \"$RLOCK_TEST_DISK\" && exec \"$@\"")
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .args([&format!("{module}::{test}"), "--exact", "--nocapture"])
        .env(DISK, folder.path())
        .output()
        .expect("unshare is part of util-linux");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "it failed, or the system does not let this user mount a file system in a namespace (unshare --user --mount): {said}"
    );
    None
}

/// Extends the lease of `name` until the disk is full.
async fn refusal(backend: &SqliteBackend, name: &str) -> BackendError {
    loop {
        if let Err(refused) = extend(backend, name, 1).await {
            return refused;
        }
    }
}

/// A client that retries for as long as a test takes.
async fn client(disk: &Path) -> Client {
    Client::builder().retry_for(SOON).connect(SqliteBackend::connect(config(disk))).await.unwrap()
}

async fn lock(client: &Client, ttl: Duration) -> Guard {
    SimpleLock::new("job", client).unwrap().lock_with(LockOptions::new().ttl(ttl)).await.unwrap()
}

fn config(disk: &Path) -> SqliteConfig {
    SqliteConfig::at(disk.join("locks.db")).unwrap()
}

fn fill(path: &Path) {
    let mut filler = File::create(path).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
}
