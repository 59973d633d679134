//! A process that forks while it has the file open.
#![allow(unsafe_code, reason = "a fork has no safe face")]

use futures_util::FutureExt as _;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use rlock_core::{Acquired, BackendError, Extended, Released};
use rlock_sqlite::SqliteBackend;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::{claim, extend, is_held, open, release, sqlite};

#[test]
fn forked_child_neither_releases_nor_corrupts() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let runtime = Runtime::new().unwrap();
    let backend = runtime.block_on(open(&path));
    assert!(is_held(runtime.block_on(claim(&backend, "x", 1))));
    // SAFETY: the child needs no other thread, takes no mutex that one may hold, and ends.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let refused = is_refused(&backend);
            drop(backend);
            // SAFETY: this ends the process without running its exit handlers.
            unsafe { nix::libc::_exit(i32::from(!refused)) }
        }
        ForkResult::Parent { child } => assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0))),
    }
    runtime.block_on(async {
        let other = open(&path).await;
        assert!(matches!(claim(&other, "x", 2).await, Ok(Acquired::Queued(_))));
        assert!(matches!(extend(&backend, "x", 1).await, Ok(Extended::Held(_))));
        assert!(matches!(release(&backend, "x", 1).await, Ok(Released::Released)));
        assert!(is_held(claim(&other, "x", 2).await));
    });
    let found: String = sqlite(&path).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok");
}

/// Whether every request is refused at once. It does not panic, since this is for the child of a fork.
fn is_refused(backend: &SqliteBackend) -> bool {
    let claimed = claim(backend, "y", 3).now_or_never();
    let extended = extend(backend, "x", 1).now_or_never();
    let released = release(backend, "x", 1).now_or_never();
    matches!(claimed, Some(Err(BackendError::Rejected(_))))
        && matches!(extended, Some(Err(BackendError::Rejected(_))))
        && matches!(released, Some(Err(BackendError::Rejected(_))))
}
