//! The clock of the host, and clients that have another one.

use std::path::Path;
use std::time::Duration;

use rlock_core::{Acquired, Backend as _, BackendError, Claim, Extended, Release, ResourceName, Ttl};
use rlock_sqlite::{ConnectError, SqliteBackend};
use rlock_testkit::wait::eventually;
use tempfile::TempDir;

use crate::support::{claim, claim_of, config, extend, is_held, key, open, refused, sqlite};

const HOUR: Duration = Duration::from_secs(3_600);
/// In µs, as the file has it.
const HALF_AN_HOUR: i64 = 1_800_000_000;

#[tokio::test]
async fn restart_keeps_a_lock_for_one_ttl() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let before = open(&path).await;
    let Ok(Acquired::Held(first)) = hold(&before, "x", 1).await else { panic!("it is free") };
    drop(before);
    // The host had been running for years, and another file had replaced a deleted one.
    change_clock(&path, "of-the-start-before", 1 << 50);
    sqlite(&path).execute_batch("UPDATE state SET opens = 1 << 60").unwrap();
    let after = reopen(&path).await;
    let Ok(Acquired::Queued(place)) = claim(&after, "x", 2).await else { panic!("its holder may have a handle") };
    assert!(place.ask_again <= HOUR, "{place:?}");
    shift(&path, -2 * HALF_AN_HOUR); // as if an hour had passed
    let Ok(Acquired::Held(second)) = claim(&after, "x", 2).await else { panic!("it has expired") };
    assert!(second.token > first.token);
}

/// A handle and a minimum hold have no client that has the file open.
#[tokio::test]
async fn changed_clock_ends_no_lease_early() {
    // How much the clock shows more than this host's, and the part of an hour's lease that is left half an hour later.
    for (clock, ahead, left) in [
        ("of-a-container", 0, HOUR / 2), // the host's clock under another boot id
        ("of-the-start-before", 1 << 50, HOUR),
        ("wall clock", 1 << 50, HOUR),
        ("id time:[1]", -(1 << 50), HOUR),
    ] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("locks.db");
        let before = open(&path).await;
        let Ok(Acquired::Held(first)) = hold(&before, "handle", 1).await else { panic!("it is free") };
        assert!(is_held(hold(&before, "rest", 2).await));
        before.release(&[Release { key: key("rest", 2), rest: HOUR }]).await.remove(0).unwrap();
        assert!(is_held(hold(&before, "queue", 3).await));
        assert!(matches!(hold(&before, "queue", 4).await, Ok(Acquired::Queued(_))));
        drop(before);
        change_clock(&path, clock, ahead - HALF_AN_HOUR);
        let after = reopen(&path).await;
        let show = async |name: &'static str| after.inspect(&ResourceName::new(name).unwrap()).await.unwrap();
        let (handle, rest, queue) = (show("handle").await, show("rest").await, show("queue").await);
        let shown = format!("{clock}: {handle:?}, {rest:?}, {queue:?}");
        let ([handle], [holder], [waiter]) = (&handle.holders[..], &queue.holders[..], &queue.queue[..]) else {
            panic!("{shown}")
        };
        for remaining in [handle.remaining, rest.rest.unwrap(), holder.remaining, waiter.remaining] {
            assert!(remaining <= left && remaining > left - Duration::from_secs(60), "{shown}");
        }
        for name in ["handle", "rest", "queue"] {
            assert!(matches!(claim(&after, name, 5).await, Ok(Acquired::Queued(_))), "{name}: {shown}");
        }
        let extended = extend(&after, "handle", 1).await.unwrap();
        assert!(matches!(extended, Extended::Held(grant) if grant.token == first.token), "{extended:?}");
    }
}

async fn hold(backend: &SqliteBackend, name: &str, id: u128) -> Result<Acquired, BackendError> {
    backend.acquire(&[Claim { ttl: Ttl::new(HOUR).unwrap(), ..claim_of(name, id) }]).await.remove(0)
}

/// Makes the file one that a client with another clock has left.
fn change_clock(path: &Path, name: &str, ahead: i64) {
    sqlite(path).execute("UPDATE state SET clock = ?", [name]).unwrap();
    shift(path, ahead);
}

/// Moves the times of all leases.
fn shift(path: &Path, by: i64) {
    let file = sqlite(path);
    for table in ["resources", "leases"] {
        let shift = format!("UPDATE {table} SET since = since + ?1, renewed = renewed + ?1, expires = expires + ?1");
        file.execute(&shift, [by]).unwrap();
    }
}

/// Opens the file once its client before has closed it, which happens in the background.
async fn reopen(path: &Path) -> SqliteBackend {
    let is_open = async || SqliteBackend::connect(config(path)).await.is_ok();
    eventually(Duration::from_secs(10), "the end of the client before", is_open).await;
    open(path).await
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
                let client = open(Path::new(&path)).await;
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
