//! The clock of the host, and clients that have another one.

use std::time::Duration;

use rlock_core::{Acquired, Backend as _, ResourceName};
use rlock_sqlite::ConnectError;
use rlock_testkit::wait::eventually;
use tempfile::TempDir;

use crate::support::{claim, config, is_held, open, refused, sqlite};

#[tokio::test]
async fn a_start_of_the_host_ends_all_locks() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let before = open(&path).await;
    let Ok(Acquired::Held(first)) = claim(&before, "x", 1).await else { panic!("it is free") };
    drop(before);
    // Its clock showed more, and another file had come in the place of a deleted one.
    sqlite(&path).execute_batch("UPDATE state SET clock = 'another one', opens = 1 << 60").unwrap();
    // The file is closed in the background.
    let is_open = async || rlock_sqlite::SqliteBackend::connect(config(&path)).await.is_ok();
    eventually(Duration::from_secs(10), "the end of the client before", is_open).await;
    let after = open(&path).await;
    let Ok(Acquired::Held(second)) = claim(&after, "x", 2).await else { panic!("it is free") };
    assert!(second.token > first.token);
}

#[tokio::test]
async fn client_with_another_clock_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let holder = open(&path).await;
    assert!(is_held(claim(&holder, "x", 1).await));
    sqlite(&path).execute_batch("UPDATE state SET clock = 'of a container'").unwrap();
    let refused = refused(config(&path)).await;
    assert!(matches!(refused, ConnectError::Rejected(_)), "{refused}");
    assert!(refused.to_string().contains("by another clock (of a container"), "{refused}");
    let seen = holder.inspect(&ResourceName::new("x").unwrap()).await.unwrap();
    assert_eq!(seen.holders.len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_time_namespace_does_not_end_locks() {
    use std::process::Command;
    const FILE: &str = "RLOCK_TEST_FILE";
    let run = |test: &mut dyn FnMut(&tokio::runtime::Runtime)| test(&tokio::runtime::Runtime::new().unwrap());
    if let Some(path) = std::env::var_os(FILE) {
        return run(&mut |runtime| {
            runtime.block_on(async {
                let client = open(std::path::Path::new(&path)).await;
                assert!(matches!(claim(&client, "x", 2).await, Ok(Acquired::Queued(_))), "it was granted twice");
                assert!(is_held(claim(&client, "y", 3).await));
            });
        });
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    run(&mut |runtime| {
        runtime.block_on(async {
            let holder = open(&path).await;
            assert!(is_held(claim(&holder, "x", 1).await));
            for offset in ["1000000", "-1000"] {
                let output = Command::new("unshare")
                    .args(["--user", "--map-root-user", "--time", "--boottime", offset])
                    .arg(std::env::current_exe().unwrap())
                    .args(["clock::a_time_namespace_does_not_end_locks", "--exact", "--nocapture"])
                    .env(FILE, &path)
                    .output()
                    .expect("unshare is part of util-linux");
                let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && said.contains("1 passed"), "{said}");
                assert!(crate::support::release(&holder, "y", 3).await.is_ok());
            }
            assert!(matches!(claim(&holder, "y", 4).await, Ok(Acquired::Held(_))));
        });
    });
}
